#!/usr/bin/env python3
"""Writes ijb_golden.txt: templates, pair scores and ROC points of IJB 1:1, and the 1:N protocol, on made sets.

Templates are written out with NumPy in float64; ROC points come from scikit-learn's roc_curve as InsightFace uses it
(drop_intermediate, reversed, first nearest FAR). 1:N is the rule written out with loops over a whole score matrix. The
sets hold exact ties, duplicate templates, templates of one image and of several media, missing images (one template
has none left), unmated probes. Format: a line `name count`, then the numbers.
"""
import os

import numpy as np
from sklearn.metrics import roc_auc_score, roc_curve

out = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "ijb_golden.txt"), "w")
rng = np.random.default_rng(11)
FARS = [1e-6, 1e-3, 0.01, 0.05, 0.1, 0.3]


def emit(name, values):
    values = np.asarray(values, dtype=np.float64).reshape(-1)
    out.write(f"{name} {values.size}\n" + " ".join(repr(float(v)) for v in values) + "\n")


def rates(name, same, scores):
    """What InsightFace prints, and the strict reading of the whole curve."""
    fpr, tpr, _ = roc_curve(same, scores)
    fpr, tpr = np.flipud(fpr), np.flipud(tpr)
    nearest = [min(zip(abs(fpr - x), range(len(fpr))))[1] for x in FARS]
    emit(name + ".nearest_tar", tpr[nearest]), emit(name + ".nearest_far", fpr[nearest])
    fpr, tpr, _ = roc_curve(same, scores, drop_intermediate=False)
    emit(name + ".strict_tar", [tpr[fpr <= x].max() for x in FARS])
    emit(name + ".strict_far", [fpr[fpr <= x].max() for x in FARS])
    emit(name + ".auc", roc_auc_score(same, scores))
    gap = fpr - (1 - tpr)  # the EER lies where it turns positive
    i = np.argmax(gap >= 0)
    share = 0 if gap[i] == gap[i - 1] else -gap[i - 1] / (gap[i] - gap[i - 1])
    emit(name + ".eer", fpr[i - 1] + share * (fpr[i] - fpr[i - 1]))


# scores alone: no ties, some, almost nothing else; tiny sets
for case, (n, step) in enumerate([(300, 0), (400, 0.05), (200, 0.5), (2, 0), (5, 1), (500, 0.01)]):
    same = np.array(([1, 0] + list(rng.random(n) < 0.2))[:n], dtype=int)
    scores = rng.normal(size=n) * 0.3 + 0.6 * same
    if step:
        scores = np.round(scores / step) * step
    emit(f"roc{case}.same", same), emit(f"roc{case}.scores", scores), rates(f"roc{case}", same, scores)
emit("fars", FARS)

# templates: id, number of images of each of its media
dim, shapes = 8, {}
for t in range(30):
    shapes[3 * t + 2] = [int(rng.integers(1, 4)) for _ in range(int(rng.integers(1, 4)))]
shapes[2] = [1]
media, template, images = [], [], []
for t, counts in shapes.items():
    for m, count in enumerate(counts):
        for _ in range(count):
            template.append(t), media.append(1000 - m), images.append(rng.normal(size=dim) * 3)
for copy in (8, 11, 35):  # whole templates that stand twice: their scores tie exactly
    rows = [i for i, t in enumerate(template) if t == copy]
    for i in rows:
        template.append(copy + 200), media.append(media[i]), images.append(images[i])
images = np.array(images, dtype=np.float32)
detector = rng.uniform(0.1, 1, len(images)).astype(np.float32)
for copy in (8, 11, 35):
    a = [i for i, t in enumerate(template) if t == copy]
    b = [i for i, t in enumerate(template) if t == copy + 200]
    detector[b] = detector[a]
order = rng.permutation(len(images))
# a copy's images must be added in the order of the original's, or the last bits of their sums differ
place = {}
for t in set(template):
    own = sorted(np.flatnonzero(np.array(template)[order] == t))
    for slot, i in zip(own, sorted(order[own])):
        place[slot] = i
order = np.array([place[k] for k in range(len(order))])
images, detector = images[order], detector[order]
template, media = np.array(template)[order], np.array(media)[order]
present = (rng.random(len(images)) > 0.06).astype(int)
for copy in (8, 11, 35):
    present[(template == copy) | (template == copy + 200)] = 1
present[template == 2] = 0  # its one image is missing


def templates_of(weights, unit):
    features = []
    for t in np.unique(template):
        total = np.zeros(dim)
        for m in np.unique(media[template == t]):
            rows = np.flatnonzero((template == t) & (media == m) & (present == 1))
            if len(rows) == 0:
                continue
            x = images[rows].astype(np.float64)
            if unit:
                x = x / np.linalg.norm(x, axis=1, keepdims=True)
            if weights:
                x = x * detector[rows].astype(np.float64)[:, None]
            total += x.mean(axis=0)
        norm = np.linalg.norm(total)
        features.append(total / norm if norm > 0 else total)
    return np.array(features)


for name, values in (("images", images), ("template", template), ("media", media), ("detector", detector), ("present", present)):
    emit(name, values)
ids = np.unique(template)
emit("ids", ids)
for name, weights, unit in (("kept", True, False), ("plain", False, False), ("unit", True, True)):
    emit("features." + name, templates_of(weights, unit))
features = templates_of(True, False)
first, second = rng.integers(0, len(ids), 800), rng.integers(0, len(ids), 800)
alike = np.sum(features[first] * features[second], -1) > 0.999999  # a template with itself: 1 but for the last bits
first, second = first[~alike], second[~alike]
first[100:200], second[100:200] = first[:100], second[:100]  # pairs that stand twice
row_of = {t: r for r, t in enumerate(ids)}
for copy in (8, 11, 35):
    for other in (14, 20, 26, 41):
        first = np.append(first, [row_of[copy], row_of[copy + 200]])
        second = np.append(second, [row_of[other]] * 2)
scores = np.sum(features[first] * features[second], -1)
steps = np.diff(np.unique(scores))
assert len(steps) < len(scores) - 50 and steps.min() > 1e-12, "ties are exact or none"
same = (scores + rng.normal(size=len(scores)) * 0.3 > 0.6).astype(int)
emit("first", ids[first]), emit("second", ids[second]), emit("same", same), emit("scores", scores)
rates("pairs", same, scores)

# 1:N: whole numbers, so that sums are exact and ties are many
gallery, probes = rng.integers(-2, 3, (23, 6)), rng.integers(-2, 3, (60, 6))
gallery_subject, probe_subject = 100 + np.arange(23), rng.integers(95, 135, 60)
for p in range(0, 60, 2):  # some probes look like their mates
    if probe_subject[p] in gallery_subject:
        probes[p] = gallery[probe_subject[p] - 100]
gallery[5] = gallery[6]  # two subjects with one face
probes[3], probe_subject[3] = gallery[5], 105
fpirs, ranks = [0.001, 0.01, 0.1, 0.3, 1.0], 8
similarity = probes @ gallery.T
hits, sure, non_mated = np.zeros(ranks, dtype=int), [], []
for p in range(60):
    mate = np.flatnonzero(gallery_subject == probe_subject[p])
    if len(mate) == 0:
        non_mated.append(similarity[p].max())
        continue
    own = similarity[p, mate[0]]
    others = np.delete(similarity[p], mate[0])
    rank = 1 + np.sum(others >= own)
    hits += np.arange(1, ranks + 1) >= rank
    sure.append((own, own > others.max()))
non_mated = np.sort(non_mated)[::-1]
thresholds = [non_mated[max(int(len(non_mated) * x) - 1, 0)] for x in fpirs]
emit("gallery", gallery), emit("gallery_subject", gallery_subject), emit("probes", probes), emit("probe_subject", probe_subject)
emit("fpirs", fpirs), emit("hits", hits), emit("mated", len(sure)), emit("non_mated", len(non_mated)), emit("thresholds", thresholds)
emit("tpir", [np.mean([best and own > t for own, best in sure]) for t in thresholds])
