"""Artifacts for reports: really trained, with a log that a test can read back number by number."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import tgdonnx
from tests import models

PHI = 0.3


def pairs(samples: int = 6, shape: tuple[int, ...] = (3, 12, 10), seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    clean = rng.normal(0, 1, (samples, *shape)).astype(np.float32)
    return {"x": clean + rng.normal(0, 0.3, clean.shape).astype(np.float32), "target": clean}


def trained(folder: Path, model: onnx.ModelProto | None = None, **options: Any) -> tgdonnx.FinetuneReport:
    """``vendor.onnx``, ``artifacts`` and ``tuned.onnx`` in a folder: 4 steps."""
    base = models.save(model or models.dncnn(0), folder / "vendor.onnx")
    return tgdonnx.finetune(
        base,
        pairs(),
        folder / "tuned.onnx",
        tgdonnx.Phi(PHI),
        tgdonnx.TrainOptions(epochs=2, batch=3, learning_rate=1e-3),
        **{"artifacts": folder / "artifacts", "validation": pairs(seed=1), **options},
    )


def step(number: int, loss: float, **more: Any) -> dict[str, Any]:
    times = {"learning_rate": 1e-3 / number, "seconds": 0.5, "wait": 0.01}
    return {"event": "step", "epoch": 1, "step": number, "loss": loss, **times, **more}


def epoch(number: int, step: int, loss: float | None, validation: float | None, **more: Any) -> dict[str, Any]:
    return {"event": "epoch", "epoch": number, "step": step, "loss": loss, "validation": validation, **more}


def write_log(directory: Path, entries: Sequence[Any]) -> None:
    lines = (entry if isinstance(entry, str) else json.dumps(entry) for entry in entries)
    (directory / "log.jsonl").write_text("".join(line + "\n" for line in lines), "utf-8")


def full_log(steps: int = 4) -> list[dict[str, Any]]:
    """Steps, three evaluations with metrics of both tasks, and a stop."""
    rng = np.random.default_rng(5)
    losses = 1 / (1 + np.arange(steps)) + 0.01 * rng.random(steps)
    evaluated = [(0, 0), (1, steps // 2), (2, steps)]
    return [
        *(step(i + 1, float(loss)) for i, loss in enumerate(losses)),
        *(
            epoch(
                n,
                at,
                None if n == 0 else float(losses[at - 1]),
                float(rng.random()),
                metrics={"psnr": 20 + 5 * float(rng.random()), "ssim": float(rng.random())},
                retain={"psnr": 40 - 3 * float(rng.random())},
            )
            for n, at in evaluated
        ),
        {"event": "stop", "step": steps, "rule": "length", "reason": f"all {steps} steps are done"},
    ]
