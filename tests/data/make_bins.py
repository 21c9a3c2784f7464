#!/usr/bin/env python3
"""Writes verification_*.bin, InsightFace's verification sets as build_eval_pack makes them: pickles of
(images, issame), the images as cv2.imencode gives them. Four pictures of 3 x 2 pixels; picture i is i * 40, 100, 200
(red, green, blue) but for its first pixel, 255, i, 0. Pairs: same, different."""
import os
import pickle

import cv2
import numpy as np

here = os.path.dirname(os.path.abspath(__file__))
arrays = []
for i in range(4):
    rgb = np.full((2, 3, 3), (i * 40, 100, 200), np.uint8)
    rgb[0, 0] = 255, i, 0
    arrays.append(cv2.imencode(".ppm", rgb[:, :, ::-1])[1])
flat = [a.reshape(-1) for a in arrays]
column = [a.reshape(-1, 1) for a in arrays]  # as OpenCV up to 4.5.3 gave them
texts = [a.tobytes() for a in arrays]
same = [True, False]
for name, images, issame, protocol in [
        ("flat0", flat, same, 0), ("column2", column, np.array(same), 2), ("flat3", flat, [np.bool_(s) for s in same], 3),
        ("column4", column, tuple(same), 4), ("flat5", flat, np.array(same), 5), ("bytes0", texts, [1, 0], 0),
        ("bytes5", tuple(texts), np.array(same), 5)]:
    with open(os.path.join(here, f"verification_{name}.bin"), "wb") as file:
        pickle.dump((images, issame), file, protocol)
