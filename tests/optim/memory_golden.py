"""Writes memory_golden.txt: XBM and VPL beside ArcFace in float64 PyTorch, from the formulae alone; gradients by autograd.

Both: seven steps, batches of 4, W updated by plain SGD at 0.5; embeddings are drawn, not encoded.
XBM (Wang et al. 2020): a queue of 10 past rows and the batch itself, pairs of a row with itself left out; from step 2.
VPL (Deng et al. 2021): prototypes normalise((1 - lambda) W / |W| + lambda M) for classes with a row of at most 2 steps
among the newest rows of a ring, the newest row of the class; from step 2.
Format: a line `name count`, then the numbers.
"""
import math

import torch

torch.set_default_dtype(torch.float64)
out = open(__file__.replace(".py", ".txt"), "w")
B, D, K, STEPS, LR, S, M = 4, 6, 8, 7, 0.5, 16.0, 0.5


def emit(name, values):
    flat = torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist()
    out.write(f"{name} {len(flat)}\n" + " ".join(repr(v) for v in flat) + "\n")


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def arcface(e, w, y):
    cosine = unit(e) @ unit(w).T
    target = cosine.gather(1, y[:, None])
    theta = torch.acos(target)
    moved = torch.where(theta + M <= math.pi, torch.cos(theta + M), target - M * math.sin(M))
    logits = S * cosine.scatter(1, y[:, None], moved)
    return torch.nn.functional.cross_entropy(logits, y)


def pairs(e, y, memory, memory_y, margin, skip_self):
    total = torch.zeros(())
    for i in range(len(e)):
        for j in range(len(memory)):
            if skip_self and i == j:
                continue
            s = torch.dot(unit(e[i]), unit(memory[j]))
            if y[i] == memory_y[j]:
                total = total + (1 - s)
            elif s > margin:
                total = total + s
    return total / len(e)


def draw(generator, like):
    e = torch.randn(B, D, generator=generator) + 0.8 * like  # near enough for cosines above the margin
    return (2 * e).requires_grad_(), torch.randint(0, K, (B,), generator=generator)


for compensate in (False, True):
    name = "xbm." + ("comp" if compensate else "plain")
    generator = torch.Generator().manual_seed(3)
    centre = torch.randn(D, generator=generator)
    w = (0.3 * torch.randn(K, D, generator=generator)).requires_grad_()
    emit(name + ".w0", w.detach())
    queue = []  # (embedding, W row then, label), oldest first
    for step in range(STEPS):
        e, y = draw(generator, centre)
        loss, extra = arcface(e, w, y), torch.zeros(())
        if step >= 2:
            extra = pairs(e, y, e.detach(), y, 0.4, True)
            past = [q[0] + q[0].norm() / q[1].norm() * (w[q[2]].detach() - q[1]) if compensate else q[0] for q in queue]
            extra = 0.7 * (extra + pairs(e, y, past, [q[2] for q in queue], 0.4, False))
        (loss + extra).backward()
        queue = (queue + [(e[i].detach().clone(), w[y[i]].detach().clone(), int(y[i])) for i in range(B)])[-10:]
        tag = f"{name}.{step}"
        emit(tag + ".e", e.detach()), emit(tag + ".y", y), emit(tag + ".loss", loss.detach())
        emit(tag + ".extra", extra.detach()), emit(tag + ".dx", e.grad)
        with torch.no_grad():
            w -= LR * w.grad
        w.grad = None
        emit(tag + ".w", w.detach())

for rows in (20, 6):
    name = f"vpl.{rows}"
    generator = torch.Generator().manual_seed(8)
    w = (0.3 * torch.randn(K, D, generator=generator)).requires_grad_()
    emit(name + ".w0", w.detach())
    queue = []  # (embedding, label, step), oldest first
    for step in range(STEPS):
        e, y = draw(generator, torch.zeros(D))
        prototypes = []
        for k in range(K):
            fresh = [q for q in queue if q[1] == k and step - q[2] <= 2]
            row = unit(w[k])
            if step >= 2 and fresh:
                row = unit(0.7 * row + 0.3 * unit(fresh[-1][0]))
            prototypes.append(row)
        loss = arcface(e, torch.stack(prototypes), y)
        loss.backward()
        queue = (queue + [(e[i].detach().clone(), int(y[i]), step) for i in range(B)])[-rows:]
        tag = f"{name}.{step}"
        emit(tag + ".e", e.detach()), emit(tag + ".y", y), emit(tag + ".loss", loss.detach())
        emit(tag + ".dx", e.grad), emit(tag + ".dw", w.grad)
        with torch.no_grad():
            w -= LR * w.grad
        w.grad = None
        emit(tag + ".w", w.detach())
