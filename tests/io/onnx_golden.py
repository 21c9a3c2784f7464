"""Writes made_by_onnx.onnx and external.onnx with the onnx package: a tensor of every element type that is read, in both
ways of keeping values, a Constant node, attributes, metadata, a subgraph; and one whose values stand in another file.
Values count up from 0.5 (floats) or 1 (whole numbers)."""
import os

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = os.path.dirname(os.path.abspath(__file__))


def listed(name, kind, shape, values):
    return helper.make_tensor(name, kind, shape, values)


def raw(name, array):
    return numpy_helper.from_array(array, name)


halves = [0.5, -1.5, 65504.0, 2.0**-24, 0.0, float("inf")]
initializers = [
    raw("raw.f32", np.arange(6, dtype=np.float32).reshape(2, 3) + 0.5),
    raw("raw.f64", np.arange(3) + 0.5),
    raw("raw.f16", np.array(halves, np.float16)),
    raw("raw.i32", np.array([1, -2], np.int32)),
    raw("raw.i64", np.array([[1], [-2]])),
    raw("raw.u8", np.array([1, 255], np.uint8)),
    raw("raw.bool", np.array([True, False])),
    helper.make_tensor("raw.bf16", TensorProto.BFLOAT16, [2], np.array([0x3F80, 0xC020], np.uint16).tobytes(), raw=True),
    raw("raw.scalar", np.array(7.5, np.float32)),
    raw("raw.empty", np.zeros((0, 3), np.float32)),
    listed("list.f32", TensorProto.FLOAT, [2, 3], [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]),
    listed("list.f64", TensorProto.DOUBLE, [3], [0.5, 1.5, 2.5]),
    listed("list.f16", TensorProto.FLOAT16, [6], halves),
    listed("list.i32", TensorProto.INT32, [2], [1, -2]),
    listed("list.i64", TensorProto.INT64, [2, 1], [1, -2]),
    listed("list.u8", TensorProto.UINT8, [2], [1, 255]),
]
branch = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "branch", [],
                           [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
nodes = [
    helper.make_node("Constant", [], ["constant.f32"], value=raw("ignored", np.array([0.5, 1.5], np.float32))),
    helper.make_node("Conv", ["x", "raw.f32", ""], ["h"], "convolution", kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=2,
                     auto_pad="NOTSET"),
    helper.make_node("LeakyRelu", ["h"], ["y"], "leaky", alpha=0.25),
    helper.make_node("If", ["raw.bool"], ["z"], "choice", then_branch=branch, else_branch=branch),
    helper.make_node("Other", ["y"], ["w"], "other", domain="com.example"),
]
graph = helper.make_graph(
    nodes, "golden",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8]),
     helper.make_tensor_value_info("raw.f64", TensorProto.DOUBLE, [3])],  # files of old list initialisers as inputs
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])], initializers)
model = helper.make_model(graph, producer_name="golden",
                          opset_imports=[helper.make_opsetid("com.example", 3), helper.make_opsetid("", 13)])
helper.set_model_props(model, {"key": "value"})
onnx.save(model, os.path.join(HERE, "made_by_onnx.onnx"))

outside = raw("weight", np.zeros(2, np.float32))
onnx.external_data_helper.set_external_data(outside, "weights.bin")
outside.ClearField("raw_data")
graph = helper.make_graph([], "outside", [], [], [outside])
with open(os.path.join(HERE, "external.onnx"), "wb") as f:
    f.write(helper.make_model(graph).SerializeToString())
