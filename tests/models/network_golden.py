#!/usr/bin/env python3
"""Writes mobilefacenet_golden.txt, resnet_golden.txt and network_names.txt with PyTorch and torchvision, in float64.

The ResNet is torchvision's own class with fewer channels; the MobileFaceNet is written here from its description
(Chen et al. 2018 with InsightFace's changes), with the names of InsightFace's mobilefacenet.py.

Golden files: each weight under its name; `train` and `eval`, the embeddings; `gradient.NAME`, of
sum(train * factor); `after.NAME`, the running values after the training pass. Images and factors are made a rule,
so that they need not stand in the file: element i is (h - 7.5) / 4, where h is the upper four bits of the 32-bit number
i * i * 2654435761. Format: a line `name count`, then the numbers. Names: a line `network name sizes`.
"""
import os

import torch
from torch import nn
from torchvision.models import resnet

HERE = os.path.dirname(os.path.abspath(__file__))


class Layers(nn.Module):
    """What InsightFace wraps: parts under the name `layers`, and the input added where `residual`."""

    def __init__(self, *parts, residual=False):
        super().__init__()
        self.layers = nn.Sequential(*parts)
        self.residual = residual

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


def unit(c_in, c_out, k, stride=1, groups=1, active=True, pad=None):
    parts = [nn.Conv2d(c_in, c_out, k, stride, k // 2 if pad is None else pad, groups=groups, bias=False),
             nn.BatchNorm2d(c_out)]
    return Layers(*parts, nn.PReLU(c_out)) if active else Layers(*parts)


def bottleneck(c_in, wide, c_out, stride, residual):
    return Layers(unit(c_in, wide, 1), unit(wide, wide, 3, stride, wide), unit(wide, c_out, 1, active=False),
                  residual=residual)


class MobileFaceNet(nn.Module):
    def __init__(self, blocks, scale, width, dim, side):
        super().__init__()
        c, w = width * scale, width

        def row(count, channels, wide):
            return Layers(*[bottleneck(channels, wide, channels, 1, True) for _ in range(count)])

        second = unit(c, c, 3, groups=w) if blocks[0] == 1 else row(blocks[0], c, 2 * w)
        self.layers = nn.ModuleList([
            unit(3, c, 3, 2), second,
            bottleneck(c, 2 * w, c, 2, False), row(blocks[1], c, 2 * w),
            bottleneck(c, 4 * w, 2 * c, 2, False), row(blocks[2], 2 * c, 4 * w),
            bottleneck(2 * c, 8 * w, 2 * c, 2, False), row(blocks[3], 2 * c, 4 * w)])
        self.conv_sep = unit(2 * c, 8 * w, 1)
        self.features = Layers(unit(8 * w, 8 * w, side, groups=8 * w, active=False, pad=0), nn.Flatten(),
                               nn.Linear(8 * w, dim, bias=False), nn.BatchNorm1d(dim))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.features(self.conv_sep(x))


class NarrowResNet(resnet.ResNet):
    """torchvision's network of bottlenecks with a stem of `width` channels, for which its constructor has no option."""

    def __init__(self, blocks, width, dim):
        nn.Module.__init__(self)
        self._norm_layer, self.inplanes, self.dilation, self.groups, self.base_width = nn.BatchNorm2d, width, 1, 1, 64
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1, self.relu, self.maxpool = nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        for s in range(4):
            layer = self._make_layer(resnet.Bottleneck, width << s, blocks[s], stride=1 if s == 0 else 2)
            setattr(self, f"layer{s + 1}", layer)
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(32 * width, dim)


def by_rule(*shape):
    count = torch.Size(shape).numel()
    values = [((i * i * 2654435761 % 2**32 >> 28) - 7.5) / 4 for i in range(count)]
    return torch.tensor(values, dtype=torch.float64).reshape(shape)


def write_golden(name, net, images, size, dim, seed):
    net.double()
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in net.state_dict().items():
            if key.endswith("num_batches_tracked"):
                continue
            noise = torch.randn(tensor.shape, generator=draw, dtype=torch.float64)
            if tensor.dim() > 1:
                value = noise * (2 / tensor[0].numel()) ** 0.5
            elif key.endswith("running_var") or (key.endswith("weight") and key.replace("weight", "bias") in net.state_dict()):
                value = 1 + 0.4 * torch.tanh(noise)
            else:
                value = 0.2 * noise  # biases, running means, slopes
            tensor.copy_(torch.round(value * 256) / 256)
    x, factor = by_rule(images, 3, size, size), by_rule(images, dim)
    arrays = {k: v.clone() for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    net.eval()
    arrays["eval"] = net(x).detach()
    net.train()
    embeddings = net(x)
    (embeddings * factor).sum().backward()
    arrays["train"] = embeddings.detach()
    for key, p in net.named_parameters():
        arrays["gradient." + key] = p.grad
    for key, b in net.named_buffers():
        if not key.endswith("num_batches_tracked"):
            arrays["after." + key] = b
    with open(os.path.join(HERE, name), "w") as out:
        for key, value in arrays.items():
            out.write(f"{key} {value.numel()}\n" + " ".join("%.13g" % v for v in value.reshape(-1).tolist()) + "\n")


write_golden("mobilefacenet_golden.txt", MobileFaceNet((1, 2, 1, 1), 2, 2, 3, 3), 4, 48, 3, seed=60)
write_golden("resnet_golden.txt", NarrowResNet((2, 1, 1, 1), 1, 3), 4, 48, 3, seed=57)
with open(os.path.join(HERE, "network_names.txt"), "w") as out:
    for name, net in {"mobilefacenet": MobileFaceNet((1, 4, 6, 2), 2, 64, 512, 7),
                      "mobilefacenet_large": MobileFaceNet((2, 8, 12, 4), 4, 64, 512, 7),
                      "resnet50": resnet.resnet50()}.items():
        for key, tensor in net.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                out.write(" ".join([name, key, *map(str, tensor.shape)]) + "\n")
