"""Trains the vendor's denoiser of electrocardiograms in PyTorch: `networks/ecg.onnx`, and the log of its training.

    python samples/retention/ecg_vendor.py

Eight convolutions of 7 samples with 32 filters, a norm behind each but the first and the last, ReLU, and what comes out is
subtracted from the input (DnCNN, Zhang et al. 2017, in one dimension). It is trained as vendors do: long, with weight decay, at
a rate that falls along a cosine. That leaves dead filters.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import onnx
import torch
from ecg import PEAK, traces
from torch import nn

HERE = Path(__file__).parent / "networks"
STEPS, BATCH, PATCH = 6000, 16, 192
RATE, WEIGHT_DECAY = 1e-3, 1e-3
WIDTH, KERNEL, LAYERS = 32, 7, 8
SEED = 0


class Denoiser(nn.Module):
    """The network: gives the clean signal."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(1, WIDTH, KERNEL, padding=KERNEL // 2), nn.ReLU()]
        for _ in range(LAYERS - 2):
            layers += [
                nn.Conv1d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2, bias=False),
                nn.BatchNorm1d(WIDTH),
                nn.ReLU(),
            ]
        self.body = nn.Sequential(*layers, nn.Conv1d(WIDTH, 1, KERNEL, padding=KERNEL // 2))

    def forward(self, trace: torch.Tensor) -> torch.Tensor:
        """Returns the clean signal."""
        return trace - self.body(trace)


def main() -> None:
    """Trains and writes."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    noisy, clean = (torch.from_numpy(each) for each in traces("old", 4000, seed=SEED))
    network = Denoiser()
    optimizer = torch.optim.Adam(network.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    losses, begin = [], time.process_time()
    for step in range(STEPS):
        rows, start = torch.from_numpy(rng.integers(len(noisy), size=BATCH)), int(rng.integers(noisy.shape[2] - PATCH))
        window = slice(start, start + PATCH)
        loss = nn.functional.mse_loss(network(noisy[rows, :, window]), clean[rows, :, window])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 500 == 499:
            print(step + 1, f"{10 * np.log10(PEAK**2 / np.mean(losses[-500:])):.2f} dB", flush=True)
    network.eval()
    HERE.mkdir(exist_ok=True)
    torch.onnx.export(
        network,
        (noisy[:2],),
        HERE / "ecg.onnx",
        input_names=["trace"],
        output_names=["clean"],
        opset_version=17,
        do_constant_folding=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        dynamic_axes={"trace": {0: "batch", 2: "length"}, "clean": {0: "batch", 2: "length"}},
        dynamo=False,
    )
    onnx.checker.check_model(onnx.load(HERE / "ecg.onnx"), full_check=True)
    log = {"seed": SEED, "steps": STEPS, "seconds": time.process_time() - begin}
    log["loss"] = [float(np.mean(losses[i : i + 500])) for i in range(0, STEPS, 500)]
    (HERE / "ecg.json").write_text(json.dumps(log, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
