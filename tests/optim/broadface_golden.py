"""Writes broadface_golden.txt: margin softmax and BroadFace in float64 NumPy, from the formulae alone.

Part 1, margins: loss, dX and dW of one batch for each head and gradient convention, with rows parallel and
anti-parallel to their class row. Gradients: logits are a materialised matrix; exact derivatives of the target logit
come from central differences of phi where smooth, so that no closed form is shared with the engine.
Part 2, BroadFace: seven steps of the rule (Kim, Park, Shin 2020) with a ring of 10 rows, batches of 4, W updated by
plain SGD; the queue fills and wraps. All steps print L_enc, L_cls, dX, W.
Format: a line `name count`, then the numbers.
"""
import numpy as np

np.seterr(all="raise", under="ignore")
out = open(__file__.replace(".py", ".txt"), "w")


def emit(name, array):
    flat = np.asarray(array, dtype=np.float64).reshape(-1)
    out.write(f"{name} {flat.size}\n" + " ".join(repr(float(v)) for v in flat) + "\n")


def phi(kind, c, m1, m2, m3, exact):
    theta = np.arccos(c)
    if kind == "softmax":
        return c
    if kind == "cosface":
        return c - m3
    if kind == "arcface":
        return c - m2 * np.sin(m2) if exact and theta + m2 > np.pi else np.cos(theta + m2)
    if kind == "combined":
        angle = m1 * theta + m2
        if exact and angle > np.pi:  # m1 > 1: the cosine mirrored at -1 keeps falling
            return (-2 - np.cos(angle) if m1 > 1 else c - m2 * np.sin(m2)) - m3
        return np.cos(angle) - m3
    if kind == "sphereface":
        k = np.floor(m1 * theta / np.pi)
        return (-1.0) ** k * np.cos(m1 * theta) - 2 * k
    raise ValueError(kind)


def slope(kind, c, m1, m2, m3, exact):
    if not exact:
        return 1.0
    if kind in ("softmax", "cosface"):
        return 1.0
    h = 1e-6 * min(1.0, (1 - abs(c)) * 10)
    d = lambda s: (phi(kind, c + s, m1, m2, m3, exact) - phi(kind, c - s, m1, m2, m3, exact)) / (2 * s)
    return (4 * d(h / 2) - d(h)) / 3  # Richardson


def margin_softmax(x, w, y, kind, s, m1, m2, m3, exact, weights):
    """Row losses; gradients of sum(weights * losses) for x and w, cosines normalised by hand."""
    nx, nw = np.linalg.norm(x, axis=1, keepdims=True), np.linalg.norm(w, axis=1, keepdims=True)
    ux, uw = x / nx, w / nw
    cos = np.clip(ux @ uw.T, -1, 1)
    rows = np.arange(len(y))
    z = s * cos
    target = cos[rows, y]
    z[rows, y] = [s * phi(kind, c, m1, m2, m3, exact) for c in target]
    top = z.max(axis=1, keepdims=True)
    e = np.exp(z - top)
    p = e / e.sum(axis=1, keepdims=True)
    losses = top[:, 0] + np.log(e.sum(axis=1)) - z[rows, y]
    g = p * s
    g[rows, y] = (p[rows, y] - 1) * s * np.array([slope(kind, c, m1, m2, m3, exact) for c in target])
    g *= np.asarray(weights)[:, None]
    dux, duw = g @ uw, g.T @ ux
    dx = (dux - ux * (ux * dux).sum(axis=1, keepdims=True)) / nx
    dw = (duw - uw * (uw * duw).sum(axis=1, keepdims=True)) / nw
    return losses, dx, dw


HEADS = {
    "softmax": (1, 0, 0), "arcface": (1, 0.5, 0), "cosface": (1, 0, 0.4), "combined": (0.9, 0.4, 0.15), "sphereface": (3, 0, 0),
}

rng = np.random.default_rng(20)
X, W = rng.normal(size=(6, 5)), rng.normal(size=(7, 5))
Y = np.array([0, 6, 3, 3, 1, 2])
X[4] = 2.5 * W[1] / np.linalg.norm(W[1])   # parallel to its row
X[5] = -0.7 * W[2] / np.linalg.norm(W[2])  # anti-parallel
emit("margin.x", X), emit("margin.w", W), emit("margin.y", Y)
for head, (m1, m2, m3) in HEADS.items():
    for exact in (True, False):
        # arccos loses half the digits at +-1: heads with an angle are compared on the first four rows
        rows = slice(0, 4) if head in ("arcface", "combined", "sphereface") else slice(0, 6)
        n = len(Y[rows])
        losses, dx, dw = margin_softmax(X[rows], W, Y[rows], head, 16.0, m1, m2, m3, exact, np.full(n, 1 / n))
        name = f"{head}.{'exact' if exact else 'straight'}"
        emit(name + ".rows", [n]), emit(name + ".loss", losses.mean()), emit(name + ".dx", dx), emit(name + ".dw", dw)

B, Q, D, K, STEPS, LR = 4, 10, 6, 8, 7, 0.5
for head in ("arcface", "cosface"):
    for compensate in (True, False):
        rng = np.random.default_rng(5)
        w = rng.normal(size=(K, D)) * 0.3
        name = f"broadface.{head}.{'comp' if compensate else 'plain'}"
        emit(name + ".w0", w)
        queue = []  # (embedding, snapshot, label), oldest first
        m1, m2, m3 = HEADS[head]
        for step in range(STEPS):
            e = rng.normal(size=(B, D)) * 2
            y = rng.integers(0, K, size=B)
            moved = [q[0] + np.linalg.norm(q[0]) / np.linalg.norm(q[1]) * (w[q[2]] - q[1]) if compensate else q[0] for q in queue]
            rows = np.vstack([e] + [m[None] for m in moved])
            labels = np.concatenate([y, np.array([q[2] for q in queue], dtype=int)])
            total = len(rows)
            losses, _, dw = margin_softmax(rows, w, labels, head, 16.0, m1, m2, m3, True, np.full(total, 1 / total))
            batch_losses, dx, _ = margin_softmax(e, w, y, head, 16.0, m1, m2, m3, True, np.full(B, 1 / B))
            queue = (queue + [(e[i].copy(), w[y[i]].copy(), int(y[i])) for i in range(B)])[-Q:]
            w = w - LR * dw
            tag = f"{name}.{step}"
            emit(tag + ".e", e), emit(tag + ".y", y), emit(tag + ".enc", batch_losses.mean()), emit(tag + ".cls", losses.mean())
            emit(tag + ".dx", dx), emit(tag + ".w", w)

# Part 3, targets so far from their row that theta + margin passes pi: the guard of the exact convention.
rng = np.random.default_rng(31)
W = rng.normal(size=(4, 5))
Y = np.array([0, 1, 2])
U = W / np.linalg.norm(W, axis=1, keepdims=True)
V = rng.normal(size=(3, 5))
V -= (V * U[Y]).sum(axis=1, keepdims=True) * U[Y]
V /= np.linalg.norm(V, axis=1, keepdims=True)
COS = np.array([-0.97, -0.998, -0.6])[:, None]
X = np.array([[1.5], [0.8], [2.0]]) * (COS * U[Y] + np.sqrt(1 - COS**2) * V)
emit("obtuse.x", X), emit("obtuse.w", W), emit("obtuse.y", Y)
for head, ms in {"arcface": (1, 0.5, 0), "combined": (0.9, 0.4, 0.15), "wide": (1.35, 0.1, 0.05)}.items():
    for exact in (True, False):
        kind = "combined" if head == "wide" else head
        losses, dx, dw = margin_softmax(X, W, Y, kind, 16.0, *ms, exact, np.full(3, 1 / 3))
        name = f"obtuse.{head}.{'exact' if exact else 'straight'}"
        emit(name + ".loss", losses.mean()), emit(name + ".dx", dx), emit(name + ".dw", dw)
