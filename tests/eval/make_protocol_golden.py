"""Writes protocol_golden.txt: verification by scikit-learn and SciPy, retrieval and bootstrap by NumPy.

Verification: KFold, roc_curve, auc, interp1d and brentq of made distances that hold ties. Retrieval: the formulas of
"A metric learning reality check" (recall, R-precision, MAP@R) over all distances, on unit vectors whose products are
exact in any order, with exact duplicates, equal distances, classes of one image, queries without a match. Bootstrap:
Philox4x32-10 written out in plain Python, figures by scikit-learn with sample weights, numpy.percentile. Tests: scipy.
Needs numpy, scipy and scikit-learn. Format: a line `name count`, then the numbers.
"""
import os

import numpy as np
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from scipy.stats import binomtest, permutation_test
from sklearn.metrics import auc, roc_auc_score, roc_curve
from sklearn.model_selection import KFold

out = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "protocol_golden.txt"), "w")


def emit(name, values):
    values = np.asarray(values, dtype=np.float64).reshape(-1)
    out.write(f"{name} {values.size}\n" + " ".join(repr(float(v)) for v in values) + "\n")


# --- verification
def best_threshold_accuracy(d, same, train, test):
    thresholds = np.arange(0, 4, 0.01)
    accuracy = [np.mean((d[train] < t) == same[train]) for t in thresholds]
    best = thresholds[np.argmax(accuracy)]
    return best, np.mean((d[test] < best) == same[test])


def tar_at_far_threshold(d, same, train, far):
    thresholds = np.arange(0, 4, 0.001)
    negative = d[train][~same[train]]
    rates = np.array([np.sum(negative < t) / len(negative) for t in thresholds])
    if rates.max() < far:
        return 0.0
    keep = np.append(rates[1:] != rates[:-1], True)  # the last threshold of equal rates
    return float(interp1d(rates[keep], thresholds[keep], kind="slinear")(far)) if keep.sum() > 1 else thresholds[keep][0]


def facexzoo(scores, same, train, test):
    s, y = scores[train], same[train]
    thresholds = s.min() + (s.max() - s.min()) / 1000 * np.arange(1, 1001)
    tpr = np.array([np.mean(s[y] > t) for t in thresholds])
    fpr = np.array([np.mean(s[~y] > t) for t in thresholds])
    t = thresholds[np.argmax(tpr - fpr)]
    right = np.sum(scores[test][same[test]] > t) + np.sum(scores[test][~same[test]] < t)
    return t, right / len(test)


rng = np.random.default_rng(11)
for case, (n, step) in enumerate([(200, 0.0), (205, 0.03125)]):
    same = rng.integers(0, 2, n).astype(bool)
    d = np.clip(rng.normal(0.9, 0.35, n) + 0.55 * ~same, 0, 3.9)
    if step:
        d = np.round(d / step) * step
    rows = [best_threshold_accuracy(d, same, tr, te) for tr, te in KFold(10, shuffle=False).split(d)]
    tars, zoo = [], []
    scores = 1 - d / 2
    for tr, te in KFold(10, shuffle=False).split(d):
        t = tar_at_far_threshold(d, same, tr, 0.05)
        tars.append((t, np.sum((d[te] < t) & same[te]) / max(1, same[te].sum())))
        zoo.append(facexzoo(scores, same, tr, te))
    fpr, tpr, _ = roc_curve(same, scores, drop_intermediate=False)
    name = f"verify{case}"
    emit(name + ".d", d), emit(name + ".same", same)
    emit(name + ".thresholds", [r[0] for r in rows]), emit(name + ".accuracy", [r[1] for r in rows])
    emit(name + ".mean", [np.mean([r[1] for r in rows]), np.std([r[1] for r in rows]),
                          np.std([r[1] for r in rows], ddof=1) / np.sqrt(10)])
    emit(name + ".tar_thresholds", [t[0] for t in tars]), emit(name + ".tar", [t[1] for t in tars])
    emit(name + ".zoo_thresholds", [z[0] for z in zoo]), emit(name + ".zoo", [z[1] for z in zoo])
    emit(name + ".zoo_mean", [np.mean([z[1] for z in zoo]), np.std([z[1] for z in zoo], ddof=1) / np.sqrt(10)])
    emit(name + ".auc", auc(fpr, tpr))
    eer = np.interp(0, fpr - (1 - tpr), fpr)  # where the polyline crosses FPR = FNR
    if not step:  # the field's one-liner, where no two points stand above each other
        assert abs(eer - brentq(lambda x: 1 - x - interp1d(fpr, tpr)(x), 0, 1, xtol=1e-15)) < 1e-9
    emit(name + ".eer", eer)
    fars = [0.0, 0.01, 0.05, 0.1, 0.5, 1.0]
    emit(name + ".fars", fars)
    emit(name + ".tar_strict", [max(t for f, t in zip(fpr, tpr) if f <= x) for x in fars])
    emit(name + ".tar_nearest", [np.flipud(tpr)[np.argmin(np.abs(np.flipud(fpr) - x))] for x in fars])
    # View 1: the threshold of the first 120 pairs on the others
    emit(name + ".view1", best_threshold_accuracy(d, same, np.arange(120), np.arange(120, n)))


# --- retrieval
def retrieval(query, query_labels, gallery, gallery_labels, self, ks):
    distance = np.linalg.norm(query[:, None].astype(np.float64) - gallery[None].astype(np.float64), axis=2)
    hits, r_precision, map_at_r, first = [], [], [], []
    for q in range(len(query)):
        others = [i for i in range(len(gallery)) if not (self and i == q)]
        order = sorted(others, key=lambda i: (round(distance[q, i], 9), i))  # equal distances by the lower index
        match = gallery_labels[order] == query_labels[q]
        hits.append([float(match[:k].any()) for k in ks])
        first.append(np.argmax(match) + 1 if match.any() else 0)
        r = int(match.sum())
        r_precision.append(np.mean(match[:r]) if r else np.nan)
        precision = np.cumsum(match[:r]) / np.arange(1, r + 1)
        map_at_r.append(np.sum(precision * match[:r]) / r if r else np.nan)
    return np.array(hits), np.array(r_precision), np.array(map_at_r), first


def emit_retrieval(name, query, query_labels, gallery, gallery_labels, self, ks):
    hits, rp, mapr, first = retrieval(query, query_labels, gallery, gallery_labels, self, ks)
    emit(name + ".query", query), emit(name + ".query_labels", query_labels)
    if not self:
        emit(name + ".gallery", gallery), emit(name + ".gallery_labels", gallery_labels)
    emit(name + ".dim", query.shape[1]), emit(name + ".ks", ks), emit(name + ".recall", hits.mean(axis=0))
    emit(name + ".r_precision", np.nanmean(rp)), emit(name + ".map_at_r", np.nanmean(mapr))
    emit(name + ".without_match", np.isnan(rp).sum()), emit(name + ".first", first)
    emit(name + ".query_map_at_r", np.where(np.isnan(mapr), -1, mapr))


def exact_units(n):  # four entries of +-1/2: length 1, products multiples of 1/4
    x = np.zeros((n, 6), np.float32)
    for row in x:
        row[rng.choice(6, 4, replace=False)] = rng.choice([-0.5, 0.5], 4)
    return x


ties = exact_units(70)
ties[10:20] = ties[0:10]  # exact duplicates, of the same class and of others
labels = rng.integers(0, 12, 70)
labels[:3] = [100, 101, 102]  # classes of one image
labels[10] = labels[4]
emit_retrieval("ties", ties, labels, ties, labels, True, [1, 2, 4, 8, 69, 500])
emit_retrieval("apart", ties[:25], labels[:25], ties[25:], labels[25:], False, [1, 10, 20, 30, 40])
smooth = rng.normal(size=(90, 16)).astype(np.float32)
smooth_labels = np.repeat(np.arange(18), 5)
smooth += 0.8 * rng.normal(size=(18, 16)).astype(np.float32)[smooth_labels]
unit = smooth.astype(np.float64) / np.linalg.norm(smooth.astype(np.float64), axis=1, keepdims=True)
hits, rp, mapr, first = retrieval(unit, smooth_labels, unit, smooth_labels, True, [1, 5])
emit("smooth.query", smooth), emit("smooth.query_labels", smooth_labels), emit("smooth.dim", 16), emit("smooth.ks", [1, 5])
emit("smooth.recall", hits.mean(axis=0)), emit("smooth.r_precision", rp.mean()), emit("smooth.map_at_r", mapr.mean())
emit("smooth.without_match", 0), emit("smooth.first", first), emit("smooth.query_map_at_r", mapr)

# --- bootstrap
M32, M64 = 2**32 - 1, 2**64 - 1


def philox(key, high, low):
    k, c = [key & M32, key >> 32], [low & M32, low >> 32, high & M32, high >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(q >> 32) ^ c[1] ^ k[0], q & M32, (p >> 32) ^ c[3] ^ k[1], p & M32]
        k = [(k[0] + 0x9E3779B9) & M32, (k[1] + 0xBB67AE85) & M32]
    return c


def drawn(seed, round_, units):
    z = (seed + 0x9E3779B97F4A7C15 * (8 + 1)) & M64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    key, times = z ^ (z >> 31), np.zeros(units, int)
    words = [w for i in range((units + 3) // 4) for w in philox(key, round_, i)][:units]
    for w in words:
        times[(w * units) >> 32] += 1
    return times


def interval(values):
    values = [v for v in values if np.isfinite(v)]
    return np.percentile(values, [2.5, 97.5])


n, rounds = 60, 300
same = np.arange(n) % 2 == 0
scores = np.round(rng.normal(0.2, 0.3, n) + 0.35 * same, 1)  # with ties
fold = np.arange(n) // 20
people = rng.integers(0, 15, (n, 2))
people[same, 1] = people[same, 0]
right = (scores > 0.4) == same
emit("boot.scores", scores), emit("boot.same", same), emit("boot.fold", fold), emit("boot.people", people), emit("boot.right", right)
for kind in ("pair", "subject"):
    lines = []
    for r in range(rounds):
        if kind == "pair":
            w = drawn(5, r, n)
        else:
            t = drawn(5, r, people.max() + 1)
            w = np.array([t[a] if a == b else t[a] * t[b] for a, b in people])
        if r < 3:
            emit(f"boot.{kind}.weights{r}", w)
        by_fold = [np.sum(w[fold == f] * right[fold == f]) / np.sum(w[fold == f]) for f in range(3) if np.sum(w[fold == f])]
        fpr, tpr, _ = roc_curve(same, scores, sample_weight=w, drop_intermediate=False)
        lines.append([np.mean(by_fold), max(t for f, t in zip(fpr, tpr) if f <= 0.1), roc_auc_score(same, scores, sample_weight=w)])
    emit(f"boot.{kind}.intervals", [interval(column) for column in np.array(lines).T])
cluster, values = rng.integers(0, 9, 50), rng.normal(size=50)
means = []
for r in range(rounds):
    w = drawn(5, r, cluster.max() + 1)[cluster]
    means.append(np.average(values, weights=w))
emit("boot.cluster", cluster), emit("boot.values", values), emit("boot.cluster.interval", interval(means))
emit("boot.mean.interval", interval([np.average(values, weights=drawn(5, r, 50)) for r in range(rounds)]))

# --- paired tests
table = [(0, 0), (5, 5), (1, 9), (0, 12), (37, 21), (300, 370), (2800, 3000), (59400, 60000)]
emit("mcnemar.table", table), emit("mcnemar.p", [binomtest(min(b, c), b + c, 0.5).pvalue if b + c else 1 for b, c in table])
difference = np.array([0.5, -0.25, 0.75, 0.0, 0.3, 0.9, -0.1, 0.2, 0.4, 0.6, 0.05])
exact = permutation_test((difference,), np.sum, permutation_type="samples", n_resamples=np.inf)
emit("permutation.difference", difference), emit("permutation.p", exact.pvalue)
