#!/usr/bin/env python3
"""Writes align_golden.txt and align_golden.npy (run it in this folder with NumPy and OpenCV 4: 4.10 wrote the files).

Landmarks, templates and the similarity between them by Umeyama's singular value decomposition (1991, equations 40-42);
matrices and the crops of 48 x 48 that cv2.warpAffine (INTER_LINEAR, black border) makes with them of one made image.
Format of the text: a line `name count`, then the numbers. The crops are u8 [cases, 48, 48, 3].
OpenCV 5 interpolates without rounding coordinates, so its crops differ.
"""
import cv2
import numpy as np

assert cv2.__version__.startswith("4."), cv2.__version__
out = open("align_golden.txt", "w")


def emit(name, values):
    values = np.asarray(values, dtype=np.float64).reshape(-1)
    out.write(f"{name} {values.size}\n" + " ".join(repr(float(v)) for v in values) + "\n")


def umeyama(source, target):
    n = len(source)
    source_mean, target_mean = source.mean(0), target.mean(0)
    a, b = source - source_mean, target - target_mean
    u, d, vt = np.linalg.svd(b.T @ a / n)
    sign = np.ones(2)
    if np.linalg.det(u) * np.linalg.det(vt) < 0:
        sign[-1] = -1
    rotation = u @ np.diag(sign) @ vt
    scale = (d * sign).sum() / a.var(0).sum()
    shift = target_mean - scale * rotation @ source_mean
    return np.hstack([scale * rotation, shift[:, None]])


template = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
targets = [("112", template), ("96", template - [8, 0]), ("224", template * 2), ("128", template + [8, 0]),
           ("256", template * 2 + [16, 0])]
rng = np.random.default_rng(7)
for name, target in targets:
    emit(f"template.{name}", target)
cases = []
for i in range(12):
    angle, size = rng.uniform(-np.pi, np.pi), np.exp(rng.uniform(-1, 2))
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (template - 60) @ turn.T + rng.uniform(-50, 400, 2) + rng.normal(0, size * 4, (5, 2))
    if i == 10:
        points[:, 0] *= -1  # a mirrored face: the best rotation is far from it
    if i == 11:
        points = np.outer(np.linspace(-1, 1, 5), [30, 40]) + 100  # on a line
    cases.append((points, targets[i % 5][1]))
emit("similarity.count", [len(cases)])
for i, (points, target) in enumerate(cases):
    emit(f"similarity.{i}.landmarks", points)
    emit(f"similarity.{i}.target", target)
    emit(f"similarity.{i}.matrix", umeyama(points, target))

width, height, side = 61, 53, 48
y, x, c = np.mgrid[0:height, 0:width, 0:3]
image = ((x * x * 3 + y * 7 + x * y * 5 + c * 91) % 256).astype(np.uint8)


def about_centre(scale, degrees, dx=0.0, dy=0.0):
    t = np.radians(degrees)
    a, b = scale * np.cos(t), scale * np.sin(t)
    return [[a, -b, 24 - a * 30 + b * 26 + dx], [b, a, 24 - b * 30 - a * 26 + dy]]


matrices = [
    [[1, 0, -5], [0, 1, -2]],  # whole pixels
    [[1, 0, -5.5], [0, 1, -2.25]],
    [[1, 0, 3 + 1 / 64], [0, 1, 4 - 3 / 64]],  # half a step of OpenCV's 1/32 pixel
    about_centre(0.8, 12, 0.3, -0.7),
    about_centre(0.31, 131),
    about_centre(2.7, -71, 4, 9),
    [[0.9, 0.35, -3], [-0.2, 1.2, 6]],  # with shear
    about_centre(1.0, 45, 40, -3),  # largely outside
]
crops = np.stack([cv2.warpAffine(image, np.array(m, dtype=np.float64), (side, side), flags=cv2.INTER_LINEAR,
                                 borderMode=cv2.BORDER_CONSTANT, borderValue=0.0) for m in matrices])
emit("warp.matrices", matrices)
np.save("align_golden.npy", crops)
