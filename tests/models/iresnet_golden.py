"""Writes iresnet_golden.txt: a tiny IResNet run forward in float64 NumPy, from the written description alone.

The description: stem conv3x3 - BN - PReLU; four stages whose first block halves the image; a block is
BN - conv3x3 - BN - PReLU - conv3x3 (stride here) - BN plus a shortcut, which in the first block of a stage is
conv1x1 (same stride) - BN on the block's own input; head BN - flatten, channels outermost - linear with bias - BN with
weight 1. No convolution has a bias; epsilon 1e-5. Training mode normalises with the batch's mean and biased variance
and moves the running values by 0.1, with the unbiased variance; evaluation mode normalises with the running values.
Convolution is written as the sum that defines it. Names are InsightFace's.

Arrays: `images`; each weight under its name; `train` and `eval`, the embeddings; `after.NAME`, the running values
after one training pass. Image values are multiples of 1/8, so that they are short in the file and exact in f32.
Format: a line `name count`, then the numbers.
"""
import os

import numpy as np

STEM, CHANNELS, BLOCKS, SIZE, DIM, IMAGES = 2, (2, 3, 4, 5), (2, 1, 1, 1), 32, 3, 3
EPSILON, MOMENTUM = 1e-5, 0.1

draw = np.random.default_rng(112)
weights = {}  # every tensor of the network by name, filled when a layer is first used
moved = {}    # running values after the training pass
training = True


def tensor(name, make):
    if name not in weights:
        weights[name] = make()
    return weights[name]


def conv(x, name, out, size, stride):
    """Square kernel, padded by size // 2: y[n, o, i, j] = sum over c, a, b of w[o, c, a, b] x[n, c, si + a, sj + b]."""
    spread = 1 / np.sqrt(x.shape[1] * size**2)  # keeps the embeddings of evaluation mode of order one
    w = tensor(name + ".weight", lambda: draw.normal(0, spread, (out, x.shape[1], size, size)))
    edge = size // 2
    big = np.pad(x, ((0, 0), (0, 0), (edge, edge), (edge, edge)))
    side = (x.shape[2] + 2 * edge - size) // stride + 1
    y = np.zeros((x.shape[0], out, side, side))
    for i in range(side):
        for j in range(side):
            window = big[:, :, stride * i : stride * i + size, stride * j : stride * j + size]
            for o in range(out):
                y[:, o, i, j] = (window * w[o]).sum(axis=(1, 2, 3))
    return y


def norm(x, name, free_weight=True):
    """Per channel (axis 1), over everything else."""
    c = x.shape[1]
    gain = tensor(name + ".weight", lambda: draw.uniform(0.5, 1.5, c) if free_weight else np.ones(c))
    shift = tensor(name + ".bias", lambda: draw.normal(0, 0.3, c))
    old_mean = tensor(name + ".running_mean", lambda: draw.normal(0, 0.4, c))
    old_var = tensor(name + ".running_var", lambda: draw.uniform(0.3, 2.0, c))
    y = np.empty_like(x)
    new_mean, new_var = np.empty(c), np.empty(c)
    for k in range(c):
        values = x[:, k]
        mean, var = old_mean[k], old_var[k]
        if training:
            mean = values.sum() / values.size
            squares = ((values - mean) ** 2).sum()
            var = squares / values.size
            new_mean[k] = (1 - MOMENTUM) * old_mean[k] + MOMENTUM * mean
            new_var[k] = (1 - MOMENTUM) * old_var[k] + MOMENTUM * squares / (values.size - 1)
        y[:, k] = gain[k] * (values - mean) / np.sqrt(var + EPSILON) + shift[k]
    if training:
        moved[name + ".running_mean"], moved[name + ".running_var"] = new_mean, new_var
    return y


def prelu(x, name):
    slope = tensor(name + ".weight", lambda: draw.uniform(0.1, 0.4, x.shape[1]))
    y = x.copy()
    for k in range(x.shape[1]):
        y[:, k] = np.where(x[:, k] > 0, x[:, k], slope[k] * x[:, k])
    return y


def embed(x):
    y = prelu(norm(conv(x, "conv1", STEM, 3, 1), "bn1"), "prelu")
    for stage in range(4):
        for block in range(BLOCKS[stage]):
            at, out, stride = f"layer{stage + 1}.{block}.", CHANNELS[stage], 2 if block == 0 else 1
            z = conv(norm(y, at + "bn1"), at + "conv1", out, 3, 1)
            z = conv(prelu(norm(z, at + "bn2"), at + "prelu"), at + "conv2", out, 3, stride)
            z = norm(z, at + "bn3")
            if block == 0:
                y = norm(conv(y, at + "downsample.0", out, 1, stride), at + "downsample.1")
            y = z + y
    y = norm(y, "bn2")
    flat = np.array([[v for channel in image for row in channel for v in row] for image in y])
    w = tensor("fc.weight", lambda: draw.normal(0, 0.5, (DIM, flat.shape[1])))
    bias = tensor("fc.bias", lambda: draw.normal(0, 0.5, DIM))
    rows = np.array([[(w[d] * image).sum() + bias[d] for d in range(DIM)] for image in flat])
    return norm(rows, "features", free_weight=False)


images = draw.integers(-8, 9, (IMAGES, 3, SIZE, SIZE)) / 8
trained = embed(images)
training = False
evaluated = embed(images)

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "iresnet_golden.txt"), "w") as out:
    arrays = {"images": images, "train": trained, "eval": evaluated}
    for name, values in {**arrays, **weights, **{"after." + k: v for k, v in moved.items()}}.items():
        out.write(f"{name} {values.size}\n" + " ".join(repr(float(v)) for v in values.reshape(-1)) + "\n")
