#!/usr/bin/env python3
"""Writes cars_packed.mat, cars_plain.mat and cars_wide.mat with SciPy: six annotations shaped as Stanford Cars' cars_annos.mat.

SciPy stores texts as UTF-8; in cars_wide.mat they have two bytes a character, as MATLAB stores them. Needs SciPy 1.17 or one near it.
"""
import pathlib

import numpy as np
from scipy.io import savemat
from scipy.io.matlab import _mio5

here = pathlib.Path(__file__).parent
kinds = [("relative_im_path", object), ("bbox_x1", object), ("class", object), ("test", object)]
annotations = np.zeros((1, 6), dtype=kinds)
for i, label in enumerate([1, 98, 99, 100, 196, 99]):
    row = (f"car_ims/{i + 1:06}.jpg", np.uint16(300 + i), [np.uint8, np.float64, np.int32][i % 3](label), np.uint8(i % 2))
    for (name, _), value in zip(kinds, row):
        annotations[0, i][name] = np.array(value)
narrow = _mio5.VarWriter5.write_element


def wide(self, content, mdtype=None):
    if mdtype == _mio5.miUTF8:
        content, mdtype = np.frombuffer(bytes(content), np.uint8).astype("<u2"), 4  # miUINT16
    narrow(self, content, mdtype)


for name, compressed in (("cars_packed.mat", True), ("cars_plain.mat", False), ("cars_wide.mat", True)):
    _mio5.VarWriter5.write_element = wide if name == "cars_wide.mat" else narrow
    path = here / name
    savemat(path, {"class_names": np.array([["AM General", "Acura"]], dtype=object), "annotations": annotations}, do_compression=compressed)
    content = bytearray(path.read_bytes())  # the head names the day: the same file each time
    content[:116] = b"MATLAB 5.0 MAT-file".ljust(116)
    path.write_bytes(content)
