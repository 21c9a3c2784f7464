#!/usr/bin/env python3
"""The pairs of `bench_ijb_pairs --write FOLDER` in NumPy and scikit-learn, as the reference evaluation does them:
batches of 100,000 pairs, sum of products of gathered rows, roc_curve, nearest FAR. Compares scores and rates.

usage: numpy_pairs.py FOLDER
"""
import resource
import sys
import time

import numpy as np
from sklearn.metrics import roc_curve

folder = sys.argv[1]
features, (first, second, same) = np.load(f"{folder}/features.npy"), np.load(f"{folder}/pairs.npy")
start = time.perf_counter()
scores = np.zeros(len(first))
for i in range(0, len(first), 100000):
    s = slice(i, i + 100000)
    scores[s] = np.sum(features[first[s]] * features[second[s]], -1)
scored = time.perf_counter()
fpr, tpr, _ = roc_curve(same, scores)
fpr, tpr = np.flipud(fpr), np.flipud(tpr)
rates = [(x, tpr[np.argmin(abs(fpr - x))], fpr[np.argmin(abs(fpr - x))]) for x in 10.0 ** np.arange(-6, 0)]
done = time.perf_counter()
for x, t, f in rates:
    print(f"FAR {x:.0e}: nearest TAR {t:.6f} at FAR {f:.3e}, strict TAR {tpr[fpr <= x].max():.6f}")
print(f"{len(first)} pairs: score {scored - start:.2f} s, ROC {done - scored:.2f} s, "
      f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, "
      f"largest difference of scores {np.abs(scores - np.load(f'{folder}/scores.npy')).max():.2e}")
