"""Writes made_by_torch.onnx and rewritten.onnx: the network of iresnet_golden.txt as other programs export it.

made_by_torch.onnx comes from torch.onnx.export: batch norms behind convolutions are folded, folded tensors have numbers
for names. rewritten.onnx is the same after what tools do to such files: a normalisation of pixels in front, operands of
sums swapped, the last linear as MatMul and Add, values as lists, every tensor renamed.
"""
import os

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
CHANNELS, BLOCKS = (2, 3, 4, 5), (2, 1, 1, 1)

lines = open(os.path.join(HERE, "iresnet_golden.txt")).read().split("\n")
arrays = {head.split()[0]: np.array(row.split(), float) for head, row in zip(lines[::2], lines[1::2])}


class Block(nn.Module):
    def __init__(self, width, out, stride, first):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.prelu = nn.PReLU(out)
        self.conv2 = nn.Conv2d(out, out, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = None
        if first:
            self.downsample = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x)))))
        return self.bn3(y) + (self.downsample(x) if self.downsample else x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 2, 3, padding=1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(2), nn.PReLU(2)
        width = 2
        for stage, (out, count) in enumerate(zip(CHANNELS, BLOCKS)):
            blocks = []
            for i in range(count):
                blocks.append(Block(width, out, 2 if i == 0 else 1, i == 0))
                width = out
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.bn2, self.fc, self.features = nn.BatchNorm2d(width), nn.Linear(width * 4, 3), nn.BatchNorm1d(3)

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.bn2(self.layer4(self.layer3(self.layer2(self.layer1(x)))))
        return self.features(self.fc(torch.flatten(x, 1)))


net = Net().eval()
with torch.no_grad():
    for name, tensor in net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            tensor.copy_(torch.tensor(arrays[name]).reshape(tensor.shape))
images = torch.tensor(arrays["images"], dtype=torch.float32).reshape(3, 3, 32, 32)
assert np.abs(net(images).detach().numpy() - arrays["eval"].reshape(3, 3)).max() < 1e-5
path = os.path.join(HERE, "made_by_torch.onnx")
torch.onnx.export(net, images, path, dynamo=False, opset_version=13, input_names=["data"],
                  dynamic_axes={"data": {0: "n"}})
model = onnx.load(path)
for node in model.graph.node:
    node.ClearField("doc_string")
onnx.checker.check_model(model, full_check=True)
onnx.save(model, path)

graph = model.graph
new_names, nodes = {}, []
tensors = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
for node in graph.node:
    if node.op_type == "Add":
        node.input[:] = reversed(node.input)
    if node.op_type == "Gemm":
        x, weight, bias = node.input
        tensors[weight] = tensors[weight].T.copy()
        nodes += [helper.make_node("MatMul", [x, weight], ["product"]),
                  helper.make_node("Add", [bias, "product"], [node.output[0]])]
    else:
        nodes.append(node)
nodes[0].input[0] = "normalised"
tensors["mean"], tensors["deviation"] = np.array(127.5, np.float32), np.array(128, np.float32)
nodes = [helper.make_node("Sub", ["data", "mean"], ["centred"]),
         helper.make_node("Div", ["centred", "deviation"], ["normalised"])] + nodes
for i, name in enumerate(tensors):
    new_names[name] = f"t{i}"
for node in nodes:
    node.input[:] = [new_names.get(name, name) for name in node.input]
initializers = [helper.make_tensor(new_names[n], TensorProto.FLOAT, t.shape, t.reshape(-1)) for n, t in tensors.items()]
graph = helper.make_graph(nodes, "rewritten", [graph.input[0]], [graph.output[0]], initializers)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
onnx.checker.check_model(model, full_check=True)
onnx.save(model, os.path.join(HERE, "rewritten.onnx"))
