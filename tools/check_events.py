#!/usr/bin/env python3
"""Reads event files back with TensorBoard's own reader.

check_events.py RUN    RUN/events must hold the numbers of RUN/metrics.jsonl, under the tags train/loss,
                       NAME/accuracy, queue/rows, end/seconds, ..., and nothing of steps that a resumed run did again.
check_events.py FILE   lists the tags of one event file, with step and value, image size or histogram counts.

Exit status: 0 as it should be, 1 not, 77 skipped because TensorBoard is not installed.
"""
import json
import os
import shutil
import struct
import sys
import tempfile

try:
    from tensorboard.backend.event_processing import event_accumulator
    from tensorboard.backend.event_processing import tag_types
except ImportError as missing:
    print(f"SKIP: {missing}; hint: pip install tensorboard")
    sys.exit(77)


def read(path):
    everything = {kind: 0 for kind in (tag_types.SCALARS, tag_types.IMAGES, tag_types.HISTOGRAMS)}
    reader = event_accumulator.EventAccumulator(path, size_guidance=everything)
    return reader.Reload()


def values_of(reader):
    """{(tag, step): value}: a number, an image's width, height and bytes, or a histogram's (limit, count) pairs."""
    values = {(tag, e.step): e.value for tag in reader.Tags()["scalars"] for e in reader.Scalars(tag)}
    for tag in reader.Tags()["images"]:
        for e in reader.Images(tag):
            values[tag, e.step] = (e.width, e.height, len(e.encoded_image_string))
    for tag in reader.Tags()["histograms"]:
        for e in reader.Histograms(tag):
            h = e.histogram_value
            values[tag, e.step] = list(zip(h.bucket_limit, h.bucket))
    return values


def f32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


def check(run):
    want = {}
    with open(os.path.join(run, "metrics.jsonl")) as lines:
        for record in map(json.loads, lines):
            kind, step = record.pop("kind"), record.pop("step")
            group = {"step": "train", "eval": record.pop("name", None)}.get(kind, kind)
            for key, value in record.items():
                if isinstance(value, (int, float)):
                    want[f"{group}/{key}", step] = f32(value)
    got = values_of(read(os.path.join(run, "events")))
    wrong = [key for key in want.keys() | got.keys() if want.get(key) != got.get(key)]
    for key in sorted(wrong)[:20]:
        print(f"{key}: event file {got.get(key)}, metrics.jsonl {want.get(key)}")
    print(f"{len(want)} values in metrics.jsonl, {len(got)} in events, {len(wrong)} differ")
    return 1 if wrong or not want else 0


if len(sys.argv) != 2:
    sys.exit(__doc__)
if os.path.isdir(sys.argv[1]):
    sys.exit(check(sys.argv[1]))
with tempfile.TemporaryDirectory() as folder:  # the reader goes by the name
    shutil.copy(sys.argv[1], os.path.join(folder, "events.out.tfevents.1"))
    for (tag, step), value in values_of(read(folder)).items():
        print(tag, step, value)
