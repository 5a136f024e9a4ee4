"""Trains the vendor's networks: the DnCNN of the paper, in PyTorch, as a vendor would, and exports them.

    python samples/pet/vendor.py v1 -o samples/pet/networks

writes v1-net.onnx and v1-net.json, the log. A GPU is used if there is one; without one the training takes many hours.
Needs torch, onnx and onnxscript; nothing else of the study does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from studies import COHORTS, cohort, pairs
from torch import nn

WIDTHS = (64, 64, 128, 128, 128, 256, 256)
STEPS, BATCH, PATCH = 30_000, 16, 64
RATE, WEIGHT_DECAY = 1e-3, 1e-4


class DnCNN(nn.Module):
    """Eight 3 x 3 Convs; predicts the noise and subtracts it (Chen et al. 2021, section 3.1)."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        last = channels
        for index, width in enumerate(WIDTHS):
            layers.append(nn.Conv2d(last, width, 3, padding=1))
            if index:
                layers.append(nn.BatchNorm2d(width))
            layers.append(nn.ReLU(inplace=True))
            last = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(last, channels, 3, padding=1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - self.layers(x)


def train(version: str, *, steps: int, seed: int, workers: int, device: str) -> tuple[DnCNN, dict]:
    """Trains on 20 studies; returns the network and the log."""
    torch.manual_seed(seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    begin = time.time()
    inputs, targets = (torch.from_numpy(a).to(device) for a in pairs(cohort(f"{version}-train", workers=workers)))
    held_out = [torch.from_numpy(a).to(device) for a in pairs(cohort(f"{version}-validation", workers=workers))]
    simulated = time.time() - begin
    net = DnCNN().to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rows, log, total = torch.arange(PATCH, device=device), [], torch.zeros((), device=device)
    for step in range(1, steps + 1):
        chosen = torch.randint(len(inputs), (BATCH, 1, 1, 1), device=device)
        # Bodies fill the middle of the image.
        top, left = (
            torch.randint(16, inputs.shape[-1] - PATCH - 15, (BATCH, 1, 1, 1), device=device) for _ in range(2)
        )
        index = (chosen, torch.arange(3, device=device).view(1, -1, 1, 1), top + rows.view(1, 1, -1, 1), left + rows)
        x, y = inputs[index], targets[index]
        axes = [axis for axis in (2, 3) if np.random.default_rng([seed, step, axis]).random() < 0.5]
        if axes:
            x, y = x.flip(axes), y.flip(axes)
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.mse_loss(net(x.contiguous(memory_format=torch.channels_last)), y)
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.detach()
        if step % (steps // 30) == 0:
            log.append({"step": step, "loss": float(total) / (steps // 30), "validation": validate(net, *held_out)})
            total.zero_()
            print(version, json.dumps(log[-1]), flush=True)
    about = {"version": version, "seed": seed, "steps": steps, "batch": BATCH, "patch": PATCH, "rate": RATE}
    about |= {"weight_decay": WEIGHT_DECAY, "studies": COHORTS[f"{version}-train"][2], "torch": torch.__version__}
    about |= {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "simulation_seconds": simulated}
    return net, {**about, "training_seconds": time.time() - begin - simulated, "log": log}


def validate(net: DnCNN, inputs: torch.Tensor, targets: torch.Tensor) -> float:
    """Returns the mean squared error on whole slices."""
    net.eval()
    with torch.no_grad():
        errors = [nn.functional.mse_loss(net(x), y) for x, y in zip(inputs.split(32), targets.split(32))]
    net.train()
    return float(torch.stack(errors).mean())


def export(net: DnCNN, path: Path) -> str:
    """Writes the network as an ONNX file; returns its hash."""
    net = net.cpu().eval()
    torch.onnx.export(
        net,
        (torch.zeros(1, 3, 64, 64),),
        path,
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        input_names=["image"],
        output_names=["denoised"],
        dynamic_axes={name: {0: "batch", 2: "height", 3: "width"} for name in ("image", "denoised")},
        opset_version=17,
    )
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", choices=["v1", "v2"])
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net, log = train(options.version, steps=options.steps, seed=options.seed, workers=options.workers, device=device)
    options.output.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), options.output / f"{options.version}-net.pt")
    try:
        log["sha256"] = export(net, options.output / f"{options.version}-net.onnx")
    finally:
        (options.output / f"{options.version}-net.json").write_text(json.dumps(log, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
