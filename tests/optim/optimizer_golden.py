"""Writes optimizer_golden.txt: ten updates of five weights by rules written out in float64 (NumPy).

Rules: SGD with momentum as PyTorch documents it, with and without Nesterov; AdamW (Loshchilov and Hutter 2019).
Gradient of step t at weight w: g = w * 0.3 + sin(t + index).
"""
import numpy as np

START = np.array([1.0, -2.0, 0.5, 3.0, -0.25])
LR, MU, DECAY = 0.05, 0.9, 5e-4


def grad(w, t):
    return 0.3 * w + np.sin(t + np.arange(5))


def sgd(nesterov):
    w, v = START.copy(), np.zeros(5)
    for t in range(10):
        d = grad(w, t) + DECAY * w
        v = MU * v + d
        w = w - LR * (d + MU * v if nesterov else v)
    return w


def adamw():
    w, m, v = START.copy(), np.zeros(5), np.zeros(5)
    for t in range(10):
        g = grad(w, t)
        w = w - LR * 0.1 * w
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        w = w - LR * (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
    return w


def adam():
    w, m, v = START.copy(), np.zeros(5), np.zeros(5)
    for t in range(10):
        g = grad(w, t) + 0.1 * w
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        w = w - LR * (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
    return w


with open(__file__.replace(".py", ".txt"), "w") as out:
    for w in (sgd(False), sgd(True), adamw(), adam()):
        out.write(" ".join(repr(float(x)) for x in w) + "\n")
