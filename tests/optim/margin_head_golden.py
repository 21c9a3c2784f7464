"""Writes margin_head_golden.txt: heads that set a margin for each row, with BroadFace, in float64 PyTorch.

Each head trains a classifier for five steps from given embeddings: batches of 5, a queue of 8 that fills and wraps, W by
plain SGD. Logits are a materialised matrix, gradients are autograd's: L_enc with W constant gives dX, L_cls with all
embeddings constant gives dW. AdaFace's statistics move with the batch alone; ElasticFace's draws are Philox4x32-10 of
(seed, stream 9, batch number, row), rows of the queue counted from 2^40; MagFace's penalty is in L_enc only.
Format: a line `name count`, then the numbers.
"""
import math

import torch

torch.set_default_dtype(torch.float64)
out = open(__file__.replace(".py", ".txt"), "w")
M64, M32 = 2**64 - 1, 2**32 - 1


def emit(name, values):
    flat = torch.as_tensor(values, dtype=torch.float64).reshape(-1).tolist()
    out.write(f"{name} {len(flat)}\n" + " ".join(repr(v) for v in flat) + "\n")


def philox(key, high, low):
    k = [key & M32, key >> 32]
    c = [low & M32, low >> 32, high & M32, high >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & M32, (a >> 32) ^ c[3] ^ k[1], a & M32]
        k = [(k[0] + 0x9E3779B9) & M32, (k[1] + 0xBB67AE85) & M32]
    return c


def normal(seed, call, row, stream=9):
    z = (seed + 0x9E3779B97F4A7C15 * (stream + 1)) & M64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & M64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & M64
    bits = philox(z ^ (z >> 31), call, row)
    u, v = 1 - (bits[0] >> 8) / 2**24, (bits[1] >> 8) / 2**24
    return math.sqrt(-2 * math.log(u)) * math.cos(2 * math.pi * v)


class AdaFace:
    m, h, alpha = 0.4, 0.333, 0.3

    def __init__(self):
        self.mean, self.std = 20.0, 100.0

    def new_batch(self, norms):
        safe = norms.detach().clip(0.001, 100)
        self.mean = self.alpha * safe.mean().item() + (1 - self.alpha) * self.mean
        self.std = self.alpha * safe.std().item() + (1 - self.alpha) * self.std

    def target(self, cos, norms, first):
        safe = norms.detach().clip(0.001, 100)
        z = ((safe - self.mean) / (self.std + 1e-3) * self.h).clip(-1, 1)
        return (cos.acos() - self.m * z).clip(1e-3, math.pi - 1e-3).cos() - (self.m + self.m * z)

    def penalty(self, norms):
        return norms.sum() * 0


class ElasticFace:
    seed, sigma = 77, 0.05

    def __init__(self, arc):
        self.arc, self.calls = arc, 0

    def new_batch(self, norms):
        self.calls += 1

    def target(self, cos, norms, first):
        draws = torch.tensor([normal(self.seed, self.calls, first + i) for i in range(len(norms))])
        if not self.arc:
            return cos - (0.35 + self.sigma * draws)
        return arcface(cos, 0.5 + self.sigma * draws)

    def penalty(self, norms):
        return norms.sum() * 0


class MagFace:
    la, ua, lm, um, weight = 10, 110, 0.45, 0.8, 35

    def __init__(self, easy, detached):
        self.easy, self.detached = easy, detached

    def new_batch(self, norms):
        pass

    def target(self, cos, norms, first):
        if self.detached:
            norms = norms.detach()
        m = self.lm + (self.um - self.lm) / (self.ua - self.la) * (norms.clip(self.la, self.ua) - self.la)
        if self.easy:
            return torch.where(cos > 0, (cos.acos() + m).cos(), cos)
        return arcface(cos, m)

    def penalty(self, norms):
        a = norms.clip(self.la, self.ua)
        return self.weight * (1 / a + a / self.ua**2).mean()


def arcface(cos, m):
    return torch.where(cos.acos() + m > math.pi, cos - m * m.sin(), (cos.acos() + m).cos())


def row_losses(x, w, y, head, first):
    norms = x.norm(dim=1)
    cos = (x / norms[:, None]) @ (w / w.norm(dim=1, keepdim=True)).T
    target = head.target(cos.gather(1, y[:, None])[:, 0], norms, first)
    return torch.nn.functional.cross_entropy(16 * cos.scatter(1, y[:, None], target[:, None]), y, reduction="none")


HEADS = {
    "adaface": AdaFace(),
    "elastic_arc": ElasticFace(True),
    "elastic_cos": ElasticFace(False),
    "magface": MagFace(True, False),
    "magface_hard": MagFace(False, False),
    "magface_detached": MagFace(True, True),
}
B, Q, D, K, STEPS, LR = 5, 8, 6, 7, 5, 0.5
for name, head in HEADS.items():
    g = torch.Generator().manual_seed(8)
    w = torch.randn(K, D, generator=g) * 0.3
    emit(name + ".w0", w)
    queue = []  # (embedding, snapshot, label): row s of the sequence in slot s mod Q, as the draws number them
    for step in range(STEPS):
        y = torch.randint(0, K, (B,), generator=g)
        # norms from about 4 to 170: inside and outside all limits; half the rows lie towards their class
        e = torch.randn(B, D, generator=g) + 3 * w[y] * (torch.arange(B) % 2)[:, None]
        e = (e * (2 + 58 * torch.rand(B, 1, generator=g))).requires_grad_()
        head.new_batch(e.norm(dim=1))
        enc = row_losses(e, w, y, head, 0).mean() + head.penalty(e.norm(dim=1))
        (dx,) = torch.autograd.grad(enc, e)
        live, x = w.clone().requires_grad_(), e.detach()
        losses = row_losses(x, live, y, head, 0)
        if queue:
            old, then, labels = (torch.stack(t) for t in zip(*queue))
            moved = old + old.norm(dim=1, keepdim=True) / then.norm(dim=1, keepdim=True) * (w[labels] - then)
            losses = torch.cat([losses, row_losses(moved, live, labels, head, 2**40)])
        cls = losses.mean()
        (dw,) = torch.autograd.grad(cls, live)
        for i in range(B):
            slot = (step * B + i) % Q
            queue[slot : slot + 1] = [(x[i], w[y[i]].clone(), y[i])]
        w = w - LR * dw
        tag = f"{name}.{step}"
        emit(tag + ".e", x), emit(tag + ".y", y), emit(tag + ".enc", enc.detach()), emit(tag + ".cls", cls.detach())
        emit(tag + ".dx", dx), emit(tag + ".w", w)
        if name == "adaface":
            emit(tag + ".norms", [head.mean, head.std])
