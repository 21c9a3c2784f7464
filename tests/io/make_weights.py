#!/usr/bin/env python3
"""Writes what PyTorch and NumPy write, beside what they say is in it (by the safetensors package):
weights.pth, weights_nested.pth, weights_legacy.pth, weights_expected.safetensors,
arrays.npz, arrays_compressed.npz, arrays_expected.safetensors."""
import collections
import os

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch

here = os.path.dirname(os.path.abspath(__file__))
path = lambda name: os.path.join(here, name)

torch.manual_seed(7)
base = torch.arange(24, dtype=torch.float32)
state = collections.OrderedDict(
    plain=torch.randn(3, 4),
    parameter=torch.nn.Parameter(torch.randn(2, 3)),
    transposed=torch.randn(5, 3).t(),
    permuted=torch.randn(2, 3, 4, 5).permute(3, 1, 0, 2),
    view=base[4:12].view(2, 4),
    every_third=base[1::3],
    columns=base.view(4, 6)[:, 2:4],
    sparse=torch.arange(4000, dtype=torch.int64)[::1999],
    expanded=torch.tensor([1.5, -2.5]).unsqueeze(1).expand(2, 4),
    half=torch.tensor([0.1, -65504.0, 6e-8, float("inf"), -0.0]).half(),
    half_columns=torch.randn(3, 4).half()[:, 1:3],
    bfloat=torch.tensor([0.1, 3e38, -1e-40]).bfloat16(),
    double=torch.randn(3, dtype=torch.float64),
    num_batches_tracked=torch.tensor(5000000000),
    empty=torch.zeros(0, 3),
    whole=torch.tensor([-2, 7], dtype=torch.int32),
    byte=torch.tensor([0, 255], dtype=torch.uint8),
    boolean=torch.tensor([True, False, True]),
    short=torch.tensor([-300, 300], dtype=torch.int16),
)
torch.save(state, path("weights.pth"))
torch.save({"epoch": 3, "best": np.float64(0.5), "size": torch.Size([1, 2]), "device": torch.device("cpu"),
            "optimizer": {"state": {0: {"momentum_buffer": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
            "model": {"state_dict": {"module." + k: v for k, v in state.items()}}}, path("weights_nested.pth"))
torch.save({"a": torch.ones(2)}, path("weights_legacy.pth"), _use_new_zipfile_serialization=False)

widened = {torch.float16: torch.float32, torch.bool: torch.uint8, torch.int16: torch.int32}
safetensors.torch.save_file({k: v.detach().to(widened.get(v.dtype, v.dtype)).contiguous().clone()
                             for k, v in state.items()}, path("weights_expected.safetensors"))

rng = np.random.default_rng(7)
matrix = rng.normal(size=(3, 4))
arrays = {
    "f2": matrix.astype(np.float16), "f4": matrix.astype(np.float32), "f8": matrix,
    "fortran": np.asfortranarray(matrix), "fortran3": np.asfortranarray(rng.normal(size=(2, 3, 4)).astype(np.float32)),
    "i1": np.array([-128, 127], np.int8), "i2": np.array([-32768, 5], np.int16), "i4": np.array([[-7]], np.int32),
    "i8": np.array([1 << 40], np.int64), "u1": np.array([0, 255], np.uint8), "u2": np.array([65535], np.uint16),
    "u4": np.array([4294967295], np.uint32), "b1": np.array([True, False]), "scalar": np.array(2.5),
    "empty": np.zeros((0, 3), np.float32), "zeros": np.zeros(5000, np.float32),
}
np.savez(path("arrays.npz"), **arrays)
np.savez_compressed(path("arrays_compressed.npz"), **arrays)
widened = {"float16": "float32", "int8": "int32", "int16": "int32", "uint16": "int32", "uint32": "int64", "bool": "uint8"}
safetensors.numpy.save_file({k: np.ascontiguousarray(v.astype(widened.get(v.dtype.name, v.dtype.name))).reshape(v.shape)
                             for k, v in arrays.items()}, path("arrays_expected.safetensors"))
