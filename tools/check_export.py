#!/usr/bin/env python3
"""Checks what `bf export` wrote against onnx, onnxruntime and safetensors (pip install onnx onnxruntime safetensors).

  check_export.py FILE.onnx --data PREFIX       onnx.checker, and onnxruntime against the embeddings that bf computed
                                                (bf export ... --check-data PREFIX), in batches of 3 and of 1
  check_export.py FILE.safetensors --npy FOLDER the tensors of both exports are equal byte for byte
  check_export.py --networks r18 r50 --bf bf    makes models of these networks with random weights and running
                                                statistics, exports them at opsets 11, 13 and 17 and checks all

Exit status 1 if a cosine is below 0.99999 (also with the mean of the embeddings taken off), if a value is off by 1e-3 of
the largest, or if anything else differs.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

LEAST_COSINE = 0.99999


def cosines(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def check_onnx(path, prefix):
    import onnx
    import onnxruntime

    onnx.checker.check_model(path, full_check=True)
    model = onnx.load(path)
    inputs, want = np.load(prefix + ".input.npy"), np.load(prefix + ".embedding.npy")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    whole = session.run(["embedding"], {name: inputs})[0]
    single = np.concatenate([session.run(["embedding"], {name: inputs[i : i + 1]})[0] for i in range(len(inputs))])
    least = min(cosines(whole, want).min(), cosines(single, want).min())
    largest = max(np.abs(whole - want).max(), np.abs(single - want).max()) / np.abs(want).max()
    # The same without what all embeddings have in common: where biases dominate, any graph would look right.
    common = want.mean(0)
    own = min(cosines(whole - common, want - common).min(), cosines(single - common, want - common).min())
    opset = [o.version for o in model.opset_import if not o.domain][0]
    print(f"{path}: opset {opset}, IR {model.ir_version}, {len(model.graph.node)} nodes, checker ok, batches of "
          f"{len(inputs)} and 1: cosine >= {least:.9f}, largest difference {largest:.1e} of the largest value "
          f"(without their mean: cosine >= {own:.9f})")
    return min(least, own) >= LEAST_COSINE and largest < 1e-3 and np.isfinite(whole).all()


def check_safetensors(path, folder):
    from safetensors import safe_open
    from safetensors.numpy import load_file

    tensors = load_file(path)
    files = {p.name[: -len(".npy")]: np.load(p) for p in pathlib.Path(folder).glob("*.npy")}
    equal = tensors.keys() == files.keys() and all(
        t.dtype == files[n].dtype and t.shape == files[n].shape and t.tobytes() == files[n].tobytes()
        for n, t in tensors.items())
    with safe_open(path, "numpy") as f:
        metadata = f.metadata()
    print(f"{path}: {len(tensors)} tensors, {'byte-equal to' if equal else 'DIFFERENT from'} {folder}; {metadata}")
    return equal and metadata["bf.network"] != ""


def random_model(bf, network, folder, size, dim):
    """A model file of a network: one step of training, then slopes and statistics (and weights where they are all one)
    drawn at random, since a graph that leaves out a layer at its initial values would go unnoticed."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    config = folder / "x.toml"
    config.write_text(f'network = "{network}"\nimage_size = {size}\nembedding_size = {dim}\nbatch_size = 2\n'
                      f'num_step = 1\noutput = "{folder / "run"}"\n[data]\nidentities = 4\nimages_per_identity = 2\n')
    subprocess.run([bf, "train", str(config), "--quiet"], check=True, stdout=subprocess.DEVNULL)
    rng = np.random.default_rng(1)
    with safe_open(folder / "run" / "model.safetensors", "numpy") as f:
        tensors, metadata = {n: f.get_tensor(n) for n in f.keys()}, f.metadata()
    for name, t in tensors.items():
        if t.ndim > 1:
            fan_in = t[0].size
            t = rng.normal(0, np.sqrt(1.5 / fan_in), t.shape)
        elif name.endswith("running_var"):
            t = rng.uniform(0.5, 2, t.shape)
        elif name.endswith("weight"):  # of norms and slopes
            t = rng.uniform(0.3, 0.9, t.shape)
        else:
            t = rng.normal(0, 0.2, t.shape)
        tensors[name] = t.astype(np.float32)
    path = folder / "model.safetensors"
    save_file(tensors, path, metadata)
    return path


def check_networks(bf, networks, size, dim):
    good = True
    for network in networks:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            model = random_model(bf, network, folder, size, dim)
            for extra in (["--opset", "11"], ["--opset", "13"], ["--opset", "17"],
                          ["--opset", "17", "--with-preprocessing", "u8"],
                          ["--opset", "11", "--with-preprocessing", "f32"]):
                out = folder / f"{network}-{'-'.join(extra[1::2])}.onnx"
                subprocess.run([bf, "export", str(model), "--onnx", str(out), "--check-data", str(folder / "x"),
                                *extra], check=True, stdout=subprocess.DEVNULL)
                good &= check_onnx(str(out), str(folder / "x"))
                out.unlink()
            subprocess.run([bf, "export", str(model), "--safetensors", str(folder / "out.safetensors"), "--npy",
                            str(folder / "npy")], check=True, stdout=subprocess.DEVNULL)
            good &= check_safetensors(str(folder / "out.safetensors"), str(folder / "npy"))
    return good


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file", nargs="?", help="an .onnx or .safetensors file")
    p.add_argument("--data", metavar="PREFIX", help="PREFIX.input.npy and PREFIX.embedding.npy of bf")
    p.add_argument("--npy", metavar="FOLDER", help="what bf export --npy wrote")
    p.add_argument("--networks", nargs="+", metavar="NAME")
    p.add_argument("--bf", default="build/cpu/bf", help="the program")
    p.add_argument("--size", type=int, default=112, help="of images")
    p.add_argument("--dim", type=int, default=512, help="of embeddings")
    a = p.parse_args()
    if a.networks:
        good = check_networks(a.bf, a.networks, a.size, a.dim)
    elif a.file and a.data:
        good = check_onnx(a.file, a.data)
    elif a.file and a.npy:
        good = check_safetensors(a.file, a.npy)
    else:
        p.error("want a file with --data or --npy, or --networks")
    sys.exit(0 if good else 1)


main()
