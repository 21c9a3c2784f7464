"""Writes record_golden.rec and record_golden.idx: RecordIO as dmlc-core describes it, from struct alone.

Record n has 3 n + n % 5 bytes, byte j is (31 n + 7 j) mod 256, with the magic number over some of them.
"""
import os
import struct

here = os.path.dirname(os.path.abspath(__file__))
MAGIC = struct.pack("<I", 0xCED7230A)


def payload(n):
    data = bytearray((31 * n + 7 * j) % 256 for j in range(3 * n + n % 5))
    places = [n % 9] if n % 3 == 1 else [8, 12] if n % 4 == 2 else [0, 4, 20] if n % 5 == 3 else []
    for at in places:
        if at + 4 <= len(data):
            data[at:at + 4] = MAGIC
    return bytes(data)


def framed(data):
    words = [data[i:i + 4] for i in range(0, len(data), 4)]
    pieces = [[]]
    for word in words:
        if word == MAGIC:
            pieces.append([])
        else:
            pieces[-1].append(word)
    out = b""
    for i, piece in enumerate(pieces):
        body = b"".join(piece)
        flag = 0 if len(pieces) == 1 else 1 if i == 0 else 3 if i == len(pieces) - 1 else 2
        out += MAGIC + struct.pack("<I", flag << 29 | len(body)) + body + b"\0" * (-len(body) % 4)
    return out


with open(os.path.join(here, "record_golden.rec"), "wb") as rec, \
        open(os.path.join(here, "record_golden.idx"), "w") as idx:
    for n in range(40):
        idx.write(f"{n}\t{rec.tell()}\n")
        rec.write(framed(payload(n)))
