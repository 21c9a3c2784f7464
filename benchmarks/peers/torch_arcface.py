#!/usr/bin/env python3
"""The peer of the benchmarks: the same training step in PyTorch.

IResNet-18/50/100 (InsightFace's layers), ArcFace, and BroadFace as its authors' public rule has it: two separate terms,
CE(X, W constant) + CE([queue; X constant], W), logits materialised, the queue kept by concatenation. It is meant to
be a strong peer: bf16 autocast (the last linear and its batch norm in f32 with TF32, logits widened to f32 and then
changed in place, so that few matrices of their size are held), channels_last, cuDNN's autotuner, fused SGD, no wait
for the device within a step, with and without torch.compile; inference with weights that are bf16 already. The
backbone's gradient is clipped at norm 5, as arcface_torch does. Prints images/s (median over steps, CUDA events) and
peak memory for whole steps, for the classifier alone and for inference; --json writes the rows, after each one, so
that a time limit loses nothing. compare.py makes one table of them and of bf's. --precision f32 leaves autocast out,
--layout plain channels_last. torch_cpu.py runs the steps of this file on the CPU, in turns with bf.

    torch_arcface.py --network r100 --batch 256 --queue 0,8192,32768 --compile off --json peer.json
    torch_arcface.py --device cpu --quick          # a toy size: does it run
    torch_arcface.py --check                       # parameter counts, and the rule against its formula in f64
"""
import argparse
import contextlib
import gc
import json
import math
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

BLOCKS = {"toy": (1, 1, 1, 1), "r18": (2, 2, 2, 2), "r50": (3, 4, 14, 3), "r100": (3, 13, 30, 3)}
# 112 pixels, 512-d, with the frozen weight of the last batch norm
PARAMETERS = {"r18": 24_025_600, "r50": 43_590_848, "r100": 65_156_160}


def autocast(device, enabled=True):
    return torch.autocast(device, dtype=torch.bfloat16, enabled=enabled)


class Block(nn.Module):
    """y = bn3(conv2(prelu(bn2(conv1(bn1(x)))))) + shortcut(x); the stride is on conv2."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.prelu = nn.PReLU(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = self.conv1(self.bn1(x))
        y = self.bn3(self.conv2(self.prelu(self.bn2(y))))
        return y + (x if self.downsample is None else self.downsample(x))


class IResNet(nn.Module):
    """Images [B, 3, S, S] to raw embeddings [B, D]; precision: bf16 (autocast) or f32."""

    def __init__(self, name, size, dim, precision="bf16"):
        super().__init__()
        self.autocast = precision == "bf16"
        self.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.prelu = nn.PReLU(64)
        layers, width = [], 64
        for channels, count in zip((64, 128, 256, 512), BLOCKS[name]):
            for i in range(count):
                layers.append(Block(width, channels, 2 if i == 0 else 1))
                width = channels
        self.layers = nn.Sequential(*layers)
        self.bn2 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width * (size // 16) ** 2, dim)
        self.features = nn.BatchNorm1d(dim)
        self.features.weight.requires_grad_(False)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.normal_(m.weight, 0, 0.1)

    def forward(self, x):
        with autocast(x.device.type, self.autocast):
            x = self.prelu(self.bn1(self.conv1(x)))
            x = torch.flatten(self.bn2(self.layers(x)), 1)
        with autocast(x.device.type, False):
            return self.features(self.fc(x.float()))


def arcface_loss(x, w, labels, scale=64.0, margin=0.5):
    """Mean cross-entropy of s cos(theta + m) on the target, s cos elsewhere; the logits are held."""
    x, w = F.normalize(x), F.normalize(w)
    cosine = F.linear(x, w)
    if cosine.dtype == torch.bfloat16:
        cosine = cosine.float()
    # from the rows: taken out of the logits, its gradient would be one more matrix of their size
    c = (x * w[labels]).sum(1, keepdim=True).clamp(-1 + 1e-7, 1 - 1e-7)
    theta = torch.acos(c)
    easy = c - margin * math.sin(margin)
    phi = torch.where(theta + margin <= math.pi, torch.cos(theta + margin), easy)
    return F.cross_entropy(cosine.scatter_(1, labels[:, None], phi).mul_(scale), labels)


class BroadFace(nn.Module):
    """The classifier with its queue of past embeddings (Kim, Park, Shin 2020); without rows it is plain ArcFace."""

    def __init__(self, classes, dim, queue):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dim))
        nn.init.xavier_uniform_(self.weight)
        self.queue = queue
        self.register_buffer("past", torch.zeros(0, dim))
        self.past_weight = torch.zeros(0, dim)
        self.past_labels = torch.zeros(0, dtype=torch.long)

    def fill(self):
        """A full queue of random rows: what a step meets after warm-up."""
        device, dim = self.weight.device, self.weight.shape[1]
        self.past = torch.randn(self.queue, dim, device=device)
        self.past_labels = torch.randint(self.weight.shape[0], (self.queue,), device=device)
        self.past_weight = self.weight.detach()[self.past_labels]

    def compensated(self):
        now = self.weight.detach()[self.past_labels]
        ratio = self.past.norm(dim=1, keepdim=True) / self.past_weight.norm(dim=1, keepdim=True)
        return self.past + ratio * (now - self.past_weight)

    def enqueue(self, x, labels):
        with torch.no_grad():
            self.past = torch.cat([self.past, x.detach()])[-self.queue :]
            self.past_labels = torch.cat([self.past_labels, labels])[-self.queue :]
            self.past_weight = torch.cat([self.past_weight, self.weight.detach()[labels]])[-self.queue :]

    def forward(self, x, labels, loss=arcface_loss):
        if self.queue == 0:
            return loss(x, self.weight, labels)
        rows = torch.cat([self.compensated(), x.detach()])
        row_labels = torch.cat([self.past_labels, labels])
        total = loss(x, self.weight.detach(), labels) + loss(rows, self.weight, row_labels)
        self.enqueue(x, labels)
        return total


def optimizer_for(parameters):
    parameters = [p for p in parameters if p.requires_grad]
    options = {"lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4}
    with contextlib.suppress(TypeError, RuntimeError):
        return torch.optim.SGD(parameters, fused=True, **options)
    return torch.optim.SGD(parameters, foreach=True, **options)


def measure(step, device, warmup, steps):
    """Milliseconds of each step(), the peak bytes that the allocator gave out, and the bytes held between steps."""
    for _ in range(warmup):
        step()
    if device != "cuda":
        times = []
        for _ in range(steps):
            start = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - start))
        return times, None, None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
    marks[0].record()
    for mark in marks[1:]:
        step()
        mark.record()
    torch.cuda.synchronize()
    times = [a.elapsed_time(b) for a, b in zip(marks, marks[1:])]
    return times, torch.cuda.max_memory_allocated(), held


def laid_out(args, x):
    """Images or a network in the layout that was asked for."""
    return x.to(memory_format=torch.channels_last) if args.layout == "channels_last" else x


def images(args, batch):
    return laid_out(args, torch.randn(batch, 3, args.size, args.size, device=args.device))


def network_on(args, name):
    return laid_out(args, IResNet(name, args.size, args.dim, args.precision).to(args.device))


def training_step(args, name, batch, queue, compiled):
    net = network_on(args, name).train()
    head = BroadFace(args.classes, args.dim, queue).to(args.device)
    head.fill()
    sgd = optimizer_for([*net.parameters(), *head.parameters()])
    backbone = [p for p in net.parameters() if p.requires_grad]
    x, labels = images(args, batch), torch.randint(args.classes, (batch,), device=args.device)
    run = torch.compile(net, dynamic=False, mode=args.compile_mode) if compiled else net
    loss_of = torch.compile(arcface_loss, dynamic=False, mode=args.compile_mode) if compiled else arcface_loss

    def step():
        sgd.zero_grad(set_to_none=True)
        embedding = run(x)
        with autocast(args.device, args.precision == "bf16"):
            loss = head(embedding, labels, loss_of)
        loss.backward()
        nn.utils.clip_grad_norm_(backbone, 5.0)
        sgd.step()

    return step


def classifier_step(args, batch, queue, compiled):
    """Forward and backward of the head: loss, dX, dW; no update."""
    head = BroadFace(args.classes, args.dim, queue).to(args.device)
    head.fill()
    embedding = torch.randn(batch, args.dim, device=args.device, requires_grad=True)
    labels = torch.randint(args.classes, (batch,), device=args.device)
    loss_of = torch.compile(arcface_loss, dynamic=False, mode=args.compile_mode) if compiled else arcface_loss

    def step():
        head.weight.grad = embedding.grad = None
        with autocast(args.device, args.precision == "bf16"):
            loss = head(embedding, labels, loss_of)
        loss.backward()

    return step


def inference_step(args, name, batch, compiled):
    net = network_on(args, name).train()
    passes = 30
    if args.device == "cpu":  # where passes take long: the statistics of one batch as they are
        passes = 1
        for m in net.modules():
            if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d)):
                m.momentum = None
    with torch.no_grad():  # running statistics: without them the numbers grow out of range from block to block
        for _ in range(passes):
            net(images(args, 8))
    net.eval()
    x = images(args, batch)
    if args.precision == "bf16":
        net.to(torch.bfloat16)  # autocast would convert each weight in each pass
        net.fc.float()
        net.features.float()
        x = x.to(torch.bfloat16)
    run = torch.compile(net, dynamic=False, mode=args.compile_mode) if compiled else net

    def step():
        with torch.inference_mode():
            run(x)

    return step


def check():
    """Parameter counts against the published table; the two terms against the plain formula, in f64 on the CPU."""
    for name, want in PARAMETERS.items():
        got = sum(p.numel() for p in IResNet(name, 112, 512).parameters())
        assert got == want, f"{name}: {got} parameters, want {want}"
    torch.manual_seed(1)
    head = BroadFace(11, 6, 8).double()
    head.fill()
    head.past, head.past_weight = head.past.double(), torch.randn(8, 6).double()
    x = torch.randn(4, 6).double().requires_grad_()
    labels = torch.tensor([1, 10, 0, 1])
    rows, row_labels = torch.cat([head.compensated(), x.detach()]), torch.cat([head.past_labels, labels])
    oldest = head.past_labels[4].item()
    head(x, labels).backward()

    def formula(embedding, w, y):
        """Row losses, the cosine matrix written out."""
        c = (embedding / embedding.norm(dim=1, keepdim=True)) @ (w / w.norm(dim=1, keepdim=True)).T
        own = F.one_hot(y, w.shape[0]).bool()
        phi = torch.cos(torch.acos(c) + 0.5)
        phi = torch.where(torch.acos(c) + 0.5 <= math.pi, phi, c - 0.5 * math.sin(0.5))
        z = 64 * torch.where(own, phi, c)
        return torch.logsumexp(z, 1) - z[own]

    w = head.weight.detach().clone().requires_grad_()
    dx = torch.autograd.grad(formula(x, w.detach(), labels).mean(), x)[0]
    dw = torch.autograd.grad(formula(rows, w, row_labels).sum() / 12, w)[0]
    assert torch.allclose(x.grad, dx, atol=1e-6) and torch.allclose(head.weight.grad, dw, atol=1e-6)
    assert head.past.shape == (8, 6) and head.past_labels[0].item() == oldest
    print("check: parameter counts and the rule's gradients agree")


def numbers(text):
    return [int(v) for v in text.split(",") if v]


def words(text):
    return [v for v in text.split(",") if v]


def cases(args):
    for compiled in (c == "on" for c in args.compile):
        for queue in args.queue:
            for batch in args.batch:
                if "classifier" in args.what:
                    yield {"what": "classifier", "network": "-", "batch": batch, "queue": queue, "compile": compiled}
                for name in args.network if "train" in args.what else []:
                    yield {"what": "train", "network": name, "batch": batch, "queue": queue, "compile": compiled}
        for batch in args.batch:
            for name in args.network if "inference" in args.what else []:
                yield {"what": "inference", "network": name, "batch": batch, "queue": 0, "compile": compiled}


def step_of(args, case):
    if case["what"] == "train":
        return training_step(args, case["network"], case["batch"], case["queue"], case["compile"])
    if case["what"] == "classifier":
        return classifier_step(args, case["batch"], case["queue"], case["compile"])
    return inference_step(args, case["network"], case["batch"], case["compile"])


def run_case(args, case):
    times, peak, held = measure(step_of(args, case), args.device, args.warmup, args.steps)
    milliseconds = statistics.median(times)
    return {
        "ms": round(milliseconds, 3),
        "fastest_ms": round(min(times), 3),
        "slowest_ms": round(max(times), 3),
        "images_per_s": round(1e3 * case["batch"] / milliseconds, 1),
        "peak_mib": None if peak is None else round(peak / 2**20, 1),
        "beside_mib": None if peak is None else round((peak - held) / 2**20, 1),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cuda", "cpu"])
    parser.add_argument("--network", type=words, default=["r50", "r100"], help="of toy, r18, r50, r100")
    parser.add_argument("--precision", default="bf16", choices=["bf16", "f32"])
    parser.add_argument("--layout", default="channels_last", choices=["channels_last", "plain"])
    parser.add_argument("--batch", type=numbers, default=[128, 256, 512])
    parser.add_argument("--queue", type=numbers, default=[0, 8192, 32768])
    parser.add_argument("--compile", type=words, default=["off", "on"], help="of off, on")
    parser.add_argument("--compile-mode", default="default", help="torch.compile's mode")
    parser.add_argument("--what", type=words, default=["classifier", "train", "inference"])
    parser.add_argument("--classes", type=int, default=85742)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--steps", type=int, default=20, help="timed steps a row")
    parser.add_argument("--warmup", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0, help="start no row after this time; 0: no limit")
    parser.add_argument("--quick", action="store_true", help="a toy size")
    parser.add_argument("--check", action="store_true", help="check the peer itself, then end")
    parser.add_argument("--json")
    args = parser.parse_args()
    if args.check:
        return check()
    if args.quick:
        args.network, args.batch, args.queue, args.compile = ["toy"], [8], [0, 64], ["off"]
        args.classes, args.dim, args.size, args.steps, args.warmup = 100, 32, 32, 3, 1
    unknown = [n for n in args.network if n not in BLOCKS]
    if unknown:
        parser.error(f"unknown network {unknown[0]}; want one of {', '.join(BLOCKS)}")
    torch.set_float32_matmul_precision("high")  # TF32
    torch.backends.cudnn.benchmark = True
    where = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    how = "bf16 autocast" if args.precision == "bf16" else "f32"
    print(f"torch {torch.__version__}, {where}, K {args.classes}, D {args.dim}, {args.size} pixels, {how}")
    print(f"{'what':<11}{'network':<8}{'compile':<8}{'B':>5}{'Q':>7}{'ms':>10}{'images/s':>11}{'peak MiB':>10}")
    result = {
        "engine": "torch",
        "version": torch.__version__,
        "device": where,
        "precision": args.precision,
        "layout": args.layout,
        "classes": args.classes,
        "dim": args.dim,
        "size": args.size,
        "rows": [],
    }
    start = time.monotonic()
    for case in cases(args):
        if args.seconds and time.monotonic() - start > args.seconds:
            row = {**case, "error": "not started: out of time"}
        else:
            try:
                row = {**case, **run_case(args, case)}
            except torch.cuda.OutOfMemoryError:
                row = {**case, "error": "out of memory"}
            except Exception as error:  # one row's failure (often torch.compile) must not lose the others
                row = {**case, "error": f"{type(error).__name__}: {str(error)[:200]}"}
        gc.collect()  # a row's tensors must not count in the next row's peak
        if args.device == "cuda":
            torch.cuda.empty_cache()
        if case["compile"] and hasattr(torch, "_dynamo"):
            torch._dynamo.reset()  # what one row compiled must not count as recompiling in the next
        result["rows"].append(row)
        values = f"  {row.get('error')}"
        if "ms" in row:
            values = f"{row['ms']:>10.2f}{row['images_per_s']:>11.1f}{row['peak_mib'] or 0:>10.0f}"
        state = "on" if row["compile"] else "off"
        print(f"{row['what']:<11}{row['network']:<8}{state:<8}{row['batch']:>5}{row['queue']:>7}{values}", flush=True)
        if args.json:
            with open(args.json, "w") as f:
                json.dump(result, f, indent=1)
    return 0 if any("ms" in row for row in result["rows"]) else 1


if __name__ == "__main__":
    sys.exit(main())
