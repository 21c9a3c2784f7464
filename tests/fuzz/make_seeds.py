#!/usr/bin/env python3
"""Writes the seeds of the fuzz targets that no other test has files for: small pictures, JSON, pickles, MAT-files (needs Pillow, NumPy)."""
import io
import pathlib
import pickle
from collections import OrderedDict

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


def jpeg(side):
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(out, "JPEG", quality=20)
    return out.getvalue()


pickles = here / "pickle"
pickles.mkdir(exist_ok=True)
bins = here / "verification_bin"
bins.mkdir(exist_ok=True)
shared = [1, "two"]
values = (None, True, -3, 1 << 40, 2.5, b"bytes", "text", [shared, shared], {"k": (1, 2)}, OrderedDict(a=1), np.arange(3, dtype="f4"))
faces = [jpeg(8 + k) for k in range(4)]
for protocol in range(6):
    (pickles / f"values{protocol}.pkl").write_bytes(pickle.dumps(values, protocol))
for protocol in range(2, 6):
    (bins / f"bytes{protocol}.bin").write_bytes(pickle.dumps((faces, [True, False]), protocol))
arrays = [np.frombuffer(f, dtype=np.uint8) for f in faces]
(bins / "arrays.bin").write_bytes(pickle.dumps((arrays, np.array([True, False])), 4))
(bins / "columns.bin").write_bytes(pickle.dumps(([a[:, None] for a in arrays], [np.True_, np.False_]), 2))
# as Python 2 writes it: str is bytes (SHORT_BINSTRING, BINSTRING)
strings = b"".join((b"U" + bytes([len(f)]) if len(f) < 256 else b"T" + len(f).to_bytes(4, "little")) + f + b"q" + bytes([i + 2]) for i, f in enumerate(faces))
(bins / "python2.bin").write_bytes(b"\x80\x02]q\x01(" + strings + b"e]q\x10(\x88\x89e\x86q\x11.")

# variables as MATLAB saves them one after the other: packed, an object (class 17), not packed
mats = here / "mat_file"
mats.mkdir(exist_ok=True)
packed, plain = ((here.parent.parent / "data" / f"cars_{kind}.mat").read_bytes() for kind in ("packed", "plain"))
first = [8 + int.from_bytes(mat[132:136], "little") for mat in (packed, plain)]
words = (14, 56, 6, 8, 17, 0, 0x10001, ord("s"), 0x40001, 0x534F434D, 1, 6, 0x69727473, 0x676E, 14, 0)  # s, MCOS, string
an_object = b"".join(n.to_bytes(4, "little") for n in words)
(mats / "mixed.mat").write_bytes(packed[: 128 + first[0]] + an_object + plain[128 + first[1] :])
