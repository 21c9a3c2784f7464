#!/usr/bin/env python3
"""Writes megaface_golden.txt: MegaFace's protocols on a made set, written out with loops over distances.

As InsightFace prepares features for the devkit: every vector of length 1 gets one more dimension, 0, or 100 for a noisy
distractor, and neighbours are ranked by distance; so the noisy ones never win. The set holds a distractor that equals a
photo, distractors that stand twice, a person with one photo. Format: a line `name count`, then the numbers.
"""
import os

import numpy as np

out = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "megaface_golden.txt"), "w")
rng = np.random.default_rng(5)


def emit(name, values):
    values = np.asarray(values, dtype=np.float64).reshape(-1)
    out.write(f"{name} {values.size}\n" + " ".join(repr(float(v)) for v in values) + "\n")


dim, sizes, count, ranks = 6, [3, 5, 2, 1, 4], 70, 12
person = np.repeat(np.arange(5), sizes)
centre = rng.normal(size=(5, dim))
probes = (centre[person] + 0.6 * rng.normal(size=(len(person), dim))).astype(np.float32)
distractors = rng.normal(size=(count, dim)).astype(np.float32)
# a photo that stands among the distractors, twice; one more that is noisy. Other photos do not: their distances of
# exactly 0 would tie with these, cosines of different vectors with themselves only to the last bit
distractors[[10, 11, 13]] = probes[[0, 0, 9]]
distractors[20:30] = distractors[30:40]
distractors[40:46] = centre[[0, 1, 1, 2, 4, 4]]
noisy = np.zeros(count, dtype=int)
noisy[[13, 41, 44, 50, 60, 61]] = 1


def extended(x, fill):
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    return np.column_stack([unit, fill])


p, d = extended(probes, np.zeros(len(person))), extended(distractors, 100.0 * noisy)
to_distractor = np.array([[np.sum((a - b) ** 2) for b in d] for a in p])
to_probe = np.array([[np.sum((a - b) ** 2) for b in p] for a in p])
hits, trials = np.zeros(ranks, dtype=int), 0
for i in range(len(person)):  # i joins the distractors, j probes
    for j in range(len(person)):
        if i == j or person[i] != person[j]:
            continue
        trials += 1
        best = np.sort(to_distractor[j])
        hits += to_probe[j, i] <= best[:ranks]
genuine = np.array([to_probe[i, j] for i in range(len(person)) for j in range(i) if person[i] == person[j]])
impostor = to_distractor.reshape(-1)
fars = [0.0, 0.001, 0.01, 0.05, 0.2]
tars, reached = [], []
for x in fars:
    best = (0.0, 0.0)
    for t in np.unique(np.concatenate([genuine, impostor])):
        far, tar = np.mean(impostor <= t), np.mean(genuine <= t)
        if far <= x:  # thresholds grow: the last is the most lax
            best = (tar, far)
    tars.append(best[0]), reached.append(best[1])
emit("probes", probes), emit("person", person), emit("distractors", distractors), emit("noisy", noisy)
emit("hits", hits), emit("trials", trials), emit("fars", fars), emit("tars", tars), emit("reached", reached)
emit("pairs", [len(genuine), len(impostor)])
