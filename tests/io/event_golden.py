#!/usr/bin/env python3
"""Writes event_golden.bin with TensorBoard's own messages and record writer: what event_file_test.cpp must write."""
import os

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.summary.writer.record_writer import RecordWriter

values = np.array([-1.5, 0, 0.25, 0.25, 2.5, 0.75], np.float32).astype(np.float64)
edges = np.linspace(-1.5, 2.5, 5)
counts = np.histogram(values, edges)[0].astype(float)
histogram = HistogramProto(min=values.min(), max=values.max(), num=len(values), sum=values.sum(),
                           sum_squares=(values**2).sum(), bucket_limit=edges[1:], bucket=counts)
constant = HistogramProto(num=3, bucket_limit=[0.0], bucket=[3.0])
image = Summary.Image(height=2, width=300, colorspace=3, encoded_image_string=b"\x89PNG\r\n\x1a\n" + bytes(200))
events = [
    Event(wall_time=1.5e9, file_version="brain.Event:2"),
    Event(wall_time=1.5e9 + 0.25, summary=Summary(value=[Summary.Value(tag="train/loss", simple_value=41.0518)])),
    Event(wall_time=1.5e9 + 0.5, step=301, session_log=SessionLog(status=SessionLog.START)),
    Event(wall_time=1.5e9 + 1, step=20, summary=Summary(value=[Summary.Value(tag="train/lr", simple_value=0.0),
                                                               Summary.Value(tag="é", simple_value=float("inf"))])),
    Event(wall_time=1.5e9 + 2, step=300, summary=Summary(value=[Summary.Value(tag="faces", image=image)])),
    Event(wall_time=1.5e9 + 3, step=2**40, summary=Summary(value=[Summary.Value(tag="norms", histo=histogram),
                                                                  Summary.Value(tag="zeros", histo=constant)])),
]
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "event_golden.bin"), "wb") as out:
    writer = RecordWriter(out)
    for event in events:
        writer.write(event.SerializeToString())
