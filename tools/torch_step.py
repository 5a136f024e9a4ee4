"""A training step in PyTorch on the Convs and Relus of a masked model: the peer of `benchmark.py` and `check_gpu.py`.

It leaves the same weights alone: gradients are multiplied by the retrain masks, and AdamW decays nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch  # noqa: TID251  # a peer in the benchmark
from numpy.typing import NDArray
from onnx import numpy_helper


def torch_step(masked: onnx.ModelProto, rate: float, device: str) -> Callable[[NDArray[np.float32]], float]:
    """Returns a step that makes a batch of images out of themselves.

    Args:
        masked: a masked model of Convs, with Relu between any two.
        rate: the learning rate.
        device: where the step runs, as torch calls it. Images come from the processor, as ours do.
    """
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in masked.graph.initializer}
    convs = [node for node in masked.graph.node if node.op_type == "Conv"]
    layers: list[torch.nn.Module] = []
    masks = []
    for node in convs:
        shape: Any = tensors[node.input[1]].shape
        conv = torch.nn.Conv2d(shape[1], shape[0], shape[2], padding=shape[2] // 2).to(device)
        for parameter, name in zip((conv.weight, conv.bias), node.input[1:]):
            assert parameter is not None
            parameter.data = torch.from_numpy(tensors[name].copy()).to(device)
            retrain = torch.from_numpy(tensors[f"{name}.retrain_mask"].copy()).to(device)
            parameter.requires_grad_(bool(retrain.any()))
            if parameter.requires_grad and not retrain.all():
                masks.append((parameter, retrain))
        layers += [conv] if node is convs[-1] else [conv, torch.nn.ReLU(inplace=True)]
    net = torch.nn.Sequential(*layers)
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)

    def step(images: NDArray[np.float32]) -> float:
        batch = torch.from_numpy(images).to(device)
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(net(batch), batch)
        loss.backward()
        for parameter, retrain in masks:
            assert parameter.grad is not None
            parameter.grad *= retrain
        optimizer.step()
        return float(loss.detach())

    return step
