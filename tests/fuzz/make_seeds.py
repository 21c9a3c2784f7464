#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets that no other test has files for: small pictures and JSON (needs Pillow, NumPy)."""
import pathlib

import numpy as np
from PIL import Image

here = pathlib.Path(__file__).parent / "seeds"
rng = np.random.default_rng(1)
rgb = Image.fromarray(rng.integers(0, 256, (9, 13, 3), dtype=np.uint8))
image = here / "image"
image.mkdir(parents=True, exist_ok=True)
rgb.save(image / "baseline.jpg", quality=60)
rgb.save(image / "progressive.jpg", quality=60, progressive=True)
rgb.resize((40, 24)).save(image / "restart.jpg", quality=80, subsampling=0, restart_marker_blocks=2)
rgb.convert("L").save(image / "grey.jpg")
rgb.convert("CMYK").save(image / "cmyk.jpg")
rgb.save(image / "rgb.png")
rgb.convert("L").save(image / "grey.png")
rgb.quantize(16).save(image / "palette.png")
rgb.convert("RGBA").save(image / "rgba.png")
rgb.convert("1").save(image / "bits.png")
Image.fromarray(rng.integers(0, 65536, (5, 7)).astype(np.uint16)).save(image / "deep.png")
rgb.save(image / "colour.ppm")
rgb.convert("L").save(image / "grey.pgm")

text = here / "json"
text.mkdir(exist_ok=True)
(text / "all.json").write_text('{"a":[1,-2.5e-3,true,false,null,"x\\u00e9\\n\\ud83d\\ude00"],"b":{"c":{}},"d":[[],[[]]]}')
(text / "record.json").write_text('{"kind":"train","step":12,"loss":3.25,"roc":[[0.001,0.5],[0.01,0.75]]}')
