"""Writes verification_golden.txt: the 10-fold protocol written out with plain loops, and ROC values by counting.

Cases hold ties, sizes that folds do not divide, and equal thresholds. Independent of the engine: no sorting, no
prefix sums. Format: a line `name count`, then the numbers.
"""
import os

import numpy as np

out = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "verification_golden.txt"), "w")


def emit(name, values):
    values = np.asarray(values, dtype=np.float64).reshape(-1)
    out.write(f"{name} {values.size}\n" + " ".join(repr(float(v)) for v in values) + "\n")


def folds_of(n, k):  # scikit-learn's KFold without shuffling
    sizes = [n // k + (1 if f < n % k else 0) for f in range(k)]
    return np.concatenate([[f] * s for f, s in enumerate(sizes)])


def verify(d, same, fold, k):
    thresholds = np.arange(0, 4, 0.01)
    accuracy, chosen = [], []
    for f in range(k):
        best, best_accuracy = None, -1.0
        for t in thresholds:
            a = np.mean([(dist < t) == bool(s) for dist, s, g in zip(d, same, fold) if g != f])
            if a > best_accuracy:  # the first of equals
                best, best_accuracy = t, a
        accuracy.append(np.mean([(dist < best) == bool(s) for dist, s, g in zip(d, same, fold) if g == f]))
        chosen.append(best)
    return accuracy, chosen


def tar_at(scores, same, far):
    """Largest TAR whose FAR does not exceed far, over every score as a threshold."""
    best = 0.0
    p, n = np.sum(same), np.sum(1 - same)
    for t in list(np.unique(scores)) + [np.inf]:
        accepted = scores >= t
        if np.sum(accepted & (same == 0)) / n <= far:
            best = max(best, np.sum(accepted & (same == 1)) / p)
    return best


def tar_folds(d, same, fold, k, far):
    """TAR of each fold at the threshold that interpolates the other folds' FAR, each FAR with its last threshold."""
    thresholds = np.arange(0, 4, 0.001)
    tars, chosen, fars = [], [], []
    for f in range(k):
        train, test = fold != f, fold == f
        rates = [np.sum((d < t) & (same == 0) & train) / np.sum((same == 0) & train) for t in thresholds]
        last = dict(zip(rates, thresholds))  # later ones replace earlier ones
        t = np.interp(far, list(last.keys()), list(last.values())) if max(rates) >= far else 0.0
        tars.append(np.sum((d < t) & (same == 1) & test) / max(1, np.sum((same == 1) & test)))
        fars.append(np.sum((d < t) & (same == 0) & test) / max(1, np.sum((same == 0) & test)))
        chosen.append(t)
    return tars, chosen, np.mean(fars)


def auc(scores, same):
    pos, neg = scores[same == 1], scores[same == 0]
    return np.mean([(1.0 if a > b else 0.5 if a == b else 0.0) for a in pos for b in neg])


rng = np.random.default_rng(7)
for case, (n, k, step) in enumerate([(60, 10, 0.0), (67, 10, 0.05), (40, 4, 0.25), (33, 5, 0.01)]):
    same = rng.integers(0, 2, size=n)
    d = np.clip(rng.normal(1.0, 0.4, size=n) + 0.5 * (1 - same), 0, 4)
    if step:
        d = np.round(d / step) * step  # ties, also with the thresholds themselves
    fold = folds_of(n, k)
    accuracy, chosen = verify(d, same, fold, k)
    name = f"case{case}"
    emit(name + ".d", d), emit(name + ".same", same), emit(name + ".folds", [k]), emit(name + ".accuracy", accuracy), emit(name + ".thresholds", chosen)
    emit(name + ".mean", np.mean(accuracy)), emit(name + ".std", np.std(accuracy)), emit(name + ".se", np.std(accuracy, ddof=1) / np.sqrt(k))
    scores = -d
    emit(name + ".tar", [tar_at(scores, same, f) for f in (0.0, 0.01, 0.1, 0.3, 1.0)]), emit(name + ".auc", auc(scores, same))
    for far in (1e-3, 0.2):
        tars, chosen, mean_far = tar_folds(d, same, fold, k, far)
        emit(f"{name}.tar_folds_{far}", tars), emit(f"{name}.tar_thresholds_{far}", chosen)
        emit(f"{name}.tar_mean_{far}", [np.mean(tars), np.std(tars), mean_far])
# no different pair is ever accepted: the FAR is not reached
d, same, fold = np.array([0.5, 4.0, 0.1, 4.0]), np.array([1, 0, 1, 0]), np.array([0, 0, 1, 1])
emit("unreached.tar_folds", tar_folds(d, same, fold, 2, 1e-3)[0])
