"""Writes class_heads_golden.txt: heads that change the logits of other classes, in float64 PyTorch by its autograd.

Part 1, CurricularFace (Huang et al., CVPR 2020): six steps of batches of 5 beside 4 memory rows, t moved before it is
used, W by plain SGD. Some targets lie where theta + m passes pi.
Part 2, sub-center ArcFace (Deng et al., ECCV 2020) under BroadFace (Kim, Park, Shin 2020): seven steps of batches of 4
and a ring of 10 rows. A row of the ring is the embedding with the center of its class that was nearest when it came,
and moves with that center; its loss looks for the nearest center again.
Logits are a materialised matrix. The loss of the encoder sees W as a constant, the loss of W all embeddings.
Format: a line `name count`, then the numbers.
"""
import math

import torch

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
out = open(__file__.replace(".py", ".txt"), "w")
S, M, LR = 16.0, 0.5, 0.5


def emit(name, values):
    flat = torch.as_tensor(values).to(torch.float64).reshape(-1).tolist()
    out.write(f"{name} {len(flat)}\n" + " ".join(repr(v) for v in flat) + "\n")


def cosines(x, w):
    return torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(w).T


def with_margin(cos):
    """cos(theta + m), and where that would rise again a line of the same slope as cos."""
    moved = torch.cos(torch.acos(cos) + M)
    return torch.where(cos > math.cos(math.pi - M), moved, cos - math.sin(math.pi - M) * M)


def target_of(cos, y):
    return cos[torch.arange(len(y)), y]


def losses(logits, y):
    return torch.nn.functional.cross_entropy(logits, y, reduction="none")


def curricular_losses(x, w, y, t):
    cos = cosines(x, w)
    target = target_of(cos, y)
    with torch.no_grad():
        hard = cos > torch.cos(torch.acos(target) + M)[:, None]
    logits = torch.where(hard, cos * (t + cos), cos)
    return losses(S * logits.scatter(1, y[:, None], with_margin(target)[:, None]), y)


def center_cosines(x, w, centers):
    """[rows, K] of the nearest center, and its place among the centers of its class."""
    return cosines(x, w).reshape(len(x), -1, centers).max(dim=2)


def center_losses(x, w, y, centers):
    cos = center_cosines(x, w, centers)[0]
    return losses(S * cos.scatter(1, y[:, None], with_margin(target_of(cos, y))[:, None]), y)


def two_gradients(row_losses, e, memory, w, y, memory_y):
    """L_enc, L_cls, dX, dW of one step."""
    e, w = e.clone().requires_grad_(), w.clone().requires_grad_()
    encoder = row_losses(e, w.detach(), y).mean()
    classifier = row_losses(torch.cat([e.detach(), memory]), w, torch.cat([y, memory_y])).mean()
    return encoder.detach(), classifier.detach(), *torch.autograd.grad(encoder, e), *torch.autograd.grad(classifier, w)


def emit_step(tag, encoder, classifier, dx, w):
    emit(tag + ".enc", encoder), emit(tag + ".cls", classifier), emit(tag + ".dx", dx), emit(tag + ".w", w)


K, D = 9, 6
for start in (0.0, 0.6):
    name = f"curricular.{start}"
    w, t = torch.randn(K, D), torch.tensor(start)
    emit(name + ".w0", w)
    for step in range(6):
        e, y = 2 * torch.randn(5, D), torch.randint(0, K, (5,))
        e[0] = -1.5 * w[y[0]] + 0.3 * torch.randn(D)  # nearly opposite to its row
        e[1] = 2 * w[y[1]] + 0.5 * torch.randn(D)
        memory, memory_y = torch.randn(4, D), torch.randint(0, K, (4,))
        cos = cosines(e, w)
        t = 0.01 * target_of(cos, y).mean() + 0.99 * t
        encoder, classifier, dx, dw = two_gradients(lambda a, b, c: curricular_losses(a, b, c, t), e, memory, w, y, memory_y)
        w = w - LR * dw
        tag = f"{name}.{step}"
        emit(tag + ".e", e), emit(tag + ".y", y), emit(tag + ".memory", memory), emit(tag + ".memory_y", memory_y)
        emit(tag + ".t", t), emit(tag + ".correct", (cos.argmax(1) == y).sum()), emit_step(tag, encoder, classifier, dx, w)

K, Q = 5, 10
for centers in (2, 3):
    name = f"centers.{centers}"
    w = torch.randn(K * centers, D) * 0.3
    emit(name + ".w0", w)
    ring = []  # (embedding, center then, its row), oldest first
    for step in range(7):
        e, y = 2 * torch.randn(4, D), torch.randint(0, K, (4,))
        moved = [a + a.norm() / then.norm() * (w[row] - then) for a, then, row in ring]
        memory = torch.stack(moved) if moved else torch.empty(0, D)
        memory_y = torch.tensor([row // centers for _, _, row in ring], dtype=torch.long)
        cos, place = center_cosines(e, w, centers)
        rows = y * centers + target_of(place, y)
        encoder, classifier, dx, dw = two_gradients(lambda a, b, c: center_losses(a, b, c, centers), e, memory, w, y, memory_y)
        ring = (ring + [(e[i].clone(), w[rows[i]].clone(), int(rows[i])) for i in range(4)])[-Q:]
        w = w - LR * dw
        tag = f"{name}.{step}"
        emit(tag + ".e", e), emit(tag + ".y", y), emit(tag + ".rows", rows)
        emit(tag + ".correct", (cos.argmax(1) == y).sum()), emit_step(tag, encoder, classifier, dx, w)
