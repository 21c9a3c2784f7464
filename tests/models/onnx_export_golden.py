"""Writes what onnx and onnxruntime say of two models that onnx_export_test.cpp exports:

  BF_KEEP_ONNX=/tmp/kept build/cpu/tests/test_models --gtest_filter='OnnxExport.A*'
  python3 onnx_export_golden.py /tmp/kept

onnx_iresnet_listing.txt and onnx_custom_listing.txt: nodes, tensors, inputs and outputs, after onnx.checker.
onnx_iresnet_golden.txt and onnx_custom_golden.txt: an input and the output that onnxruntime gives for it.
"""
import os
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import helper

HERE, KEPT = os.path.dirname(os.path.abspath(__file__)), sys.argv[1]
TYPES = {onnx.TensorProto.FLOAT: "f32", onnx.TensorProto.INT64: "i64"}


def number(v):
    return f"{v:g}" if isinstance(v, float) else str(v)


def attribute(a):
    v = helper.get_attribute_value(a)
    text = "[" + ", ".join(number(x) for x in v) + "]" if isinstance(v, list) else number(v)
    return f"{a.name}={text}"


def value(kind, v):
    dims = [d.dim_param or str(d.dim_value) for d in v.type.tensor_type.shape.dim]
    return f"{kind} {v.name} [{', '.join(dims)}]"


for name, out in (("iresnet_small", "onnx_iresnet_listing.txt"), ("custom", "onnx_custom_listing.txt")):
    model = onnx.load(os.path.join(KEPT, name + ".onnx"))
    onnx.checker.check_model(model, full_check=True)
    g = model.graph
    lines = [f"opset {model.opset_import[0].version}, producer {model.producer_name}"]
    lines += [value("input", v) for v in g.input]
    lines += [f"{n.op_type} {n.name} ({', '.join(n.input)}) -> {', '.join(n.output)} "
              f"{{{', '.join(map(attribute, n.attribute))}}}" for n in g.node]
    lines += [value("output", v) for v in g.output]
    lines += [f"{t.name} {TYPES[t.data_type]} [{', '.join(map(str, t.dims))}]" for t in g.initializer]
    lines += [f"{p.key}: {p.value}" for p in model.metadata_props]
    with open(os.path.join(HERE, out), "w") as f:
        f.write("\n".join(lines) + "\n")

def write_run(out, model, given, wanted, x):
    y = onnxruntime.InferenceSession(os.path.join(KEPT, model)).run([wanted[1]], {given[1]: x})[0]
    with open(os.path.join(HERE, out), "w") as f:
        for name, values in ((given[0], x), (wanted[0], y)):
            f.write(f"{name} {values.size}\n" + " ".join(repr(v) for v in values.reshape(-1).tolist()) + "\n")


x = (np.random.default_rng(5).integers(-16, 17, (2, 4, 9, 9)) / 8).astype(np.float32)
write_run("onnx_custom_golden.txt", "custom.onnx", ("x", "x"), ("y", "y"), x)
x = np.random.default_rng(6).integers(0, 256, (2, 3, 16, 16)).astype(np.uint8)
write_run("onnx_iresnet_golden.txt", "iresnet_small.onnx", ("pixels", "input"), ("embedding", "embedding"), x)
