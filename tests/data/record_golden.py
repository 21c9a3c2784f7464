"""Prints record_golden.txt: `key crc32c` of each JPEG of insightface-tiny, found by struct alone and checked against
the MD5 sums that are beside the data. Usage: record_golden.py SHARED/data/insightface-tiny > record_golden.txt"""
import hashlib
import json
import os
import struct
import sys

folder = sys.argv[1]
rec = open(os.path.join(folder, "train.rec"), "rb").read()
offsets = dict(map(int, line.split()) for line in open(os.path.join(folder, "train.idx")))
expected = json.load(open(os.path.join(folder, "expected.json")))


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


for item in expected["records"]:
    at = offsets[item["key"]]
    magic, lrec, flag, label = struct.unpack_from("<IIIf", rec, at)
    assert magic == 0xCED7230A and lrec >> 29 == 0 and flag == 0 and label == item["label"]
    jpeg = rec[at + 8 + 24:at + 8 + lrec]
    assert hashlib.md5(jpeg).hexdigest() == item["md5_jpeg"]
    print(item["key"], crc32c(jpeg))
