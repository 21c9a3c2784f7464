"""Writes pack_golden.rec and pack_golden.idx: what `bf pack` must make of the folders that pack_test.cpp draws, in
InsightFace's layout, from struct alone. Images first, by identity, then record 0, then an identity record each."""
import os
import struct

here = os.path.dirname(os.path.abspath(__file__))
counts = [2, 1, 3]
rec, idx = b"", ""


def add(key, body):
    global rec, idx
    idx += f"{key}\t{len(rec)}\n"
    rec += struct.pack("<II", 0xCED7230A, len(body)) + body + b"\0" * (-len(body) % 4)


key, ranges = 1, []
for identity, count in enumerate(counts):
    ranges.append((key, key + count))
    for image in range(count):
        pgm = b"P5\n4 4\n255\n" + bytes([40 * identity + 10 * image]) * 16
        add(key, struct.pack("<IfQQ", 0, identity, key, 0) + pgm)
        key += 1
add(0, struct.pack("<IfQQff", 2, 0, 0, 0, key, key + len(counts)))
for begin, end in ranges:
    add(key, struct.pack("<IfQQff", 2, 0, key, 0, begin, end))
    key += 1
open(os.path.join(here, "pack_golden.rec"), "wb").write(rec)
open(os.path.join(here, "pack_golden.idx"), "w").write(idx)
