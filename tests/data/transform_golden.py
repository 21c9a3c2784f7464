#!/usr/bin/env python3
"""Writes transform_golden.txt and the small JPEGs beside it: what OpenCV, Pillow and colorsys make of one small image.

Lines: `name width height` and the bytes of an RGB image. The tests allow the differences that fixed-point arithmetic
makes. Needs numpy, opencv and pillow.
"""
import colorsys
import io
import pathlib

import cv2
import numpy as np
from PIL import Image, ImageEnhance

here = pathlib.Path(__file__).parent
lines = []


def put(name, pixels):
    height, width = pixels.shape[:2]
    lines.append(f"{name} {width} {height} " + " ".join(str(v) for v in np.asarray(pixels).reshape(-1)))


y, x = np.mgrid[0:14, 0:20]
random = np.random.default_rng(3)
image = np.stack([120 + 100 * np.sin(x / 3.0), 9 * x + 5 * y, 130 + 90 * np.cos(y / 2.0 + x / 5.0)], 2)
image = np.clip(image + random.normal(0, 25, image.shape), 0, 255).astype(np.uint8)
put("image", image)

kinds = {"nearest": cv2.INTER_NEAREST, "linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "cubic": cv2.INTER_CUBIC,
         "lanczos4": cv2.INTER_LANCZOS4}
for width, height in ((9, 7), (5, 4), (25, 16)):
    for name, kind in kinds.items():
        put(name, cv2.resize(image, (width, height), interpolation=kind))
    put("triangle", np.asarray(Image.fromarray(image).resize((width, height), Image.BILINEAR)))

for name, change in (("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast),
                     ("saturation", ImageEnhance.Color)):
    for factor in (60, 140):
        put(f"{name}_{factor}", np.asarray(change(Image.fromarray(image)).enhance(factor / 100)))
for part in (-20, 30):
    turned = image.copy()
    for pixel in turned.reshape(-1, 3):
        h, s, v = colorsys.rgb_to_hsv(*(pixel / 255.0))
        pixel[:] = np.round(np.array(colorsys.hsv_to_rgb((h + part / 100) % 1, s, v)) * 255)
    put(f"hue_{part}", turned)

smooth = cv2.resize(cv2.GaussianBlur(image, (5, 5), 2), (32, 24), interpolation=cv2.INTER_CUBIC)
for name, mode in (("rgb", "RGB"), ("grey", "L"), ("cmyk", "CMYK")):
    Image.fromarray(smooth).convert(mode).save(here / f"{name}.jpg", quality=90)
    put(name, np.asarray(Image.open(here / f"{name}.jpg").convert("RGB")))
(here / "transform_golden.txt").write_text("\n".join(lines) + "\n")
