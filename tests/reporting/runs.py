"""Artifacts for reports: really trained, with a log that a test can read back number by number."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx

import tgdonnx
from tests.support import models
from tests.support.tuning import in_objects
from tgdonnx.files.typed import encode
from tgdonnx.finetuning.logs import Entry
from tgdonnx.finetuning.run_record import RunRecord, read_record

PHI = 0.3


def pairs(samples: int = 6, shape: tuple[int, ...] = (3, 12, 10), seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    clean = rng.normal(0, 1, (samples, *shape)).astype(np.float32)
    return {"x": clean + rng.normal(0, 0.3, clean.shape).astype(np.float32), "target": clean}


def trained(
    folder: Path, model: onnx.ModelProto | None = None, data: dict[str, Any] | None = None, **options: Any
) -> tgdonnx.FinetuneReport:
    """``vendor.onnx``, ``artifacts`` and ``tuned.onnx`` in a folder: 4 steps. ``data`` are fields of `RunData`."""
    base = models.save(model or models.dncnn(0), folder / "vendor.onnx")
    return tgdonnx.finetune(
        base,
        tgdonnx.RunData(**{"data": pairs(), "validation": pairs(seed=1), **(data or {})}),
        folder / "tuned.onnx",
        tgdonnx.Phi(PHI),
        tgdonnx.TrainOptions(epochs=2, batch=3, learning_rate=1e-3),
        **in_objects({"artifacts": folder / "artifacts", **options}),
    )


def step(number: int, loss: float, **more: Any) -> dict[str, Any]:
    times = {"learning_rate": 1e-3 / number, "seconds": 0.5, "wait": 0.01}
    return {"event": "step", "epoch": 1, "step": number, "loss": loss, **times, **more}


def epoch(number: int, step: int, loss: float | None, validation: float | None, **more: Any) -> dict[str, Any]:
    entry = {"event": "epoch", "epoch": number, "step": step, "loss": loss, "validation": validation, "seconds": 1.0}
    return {**entry, "metrics": {}, "retain": {}, "images_per_second": None, "wait": None, **more}


def write_log(directory: Path, entries: Sequence[Any]) -> None:
    """Writes lines as a run does: every one is one of its entries, but for text, which is written as it is."""
    lines = [entry.encode() if isinstance(entry, str) else as_written(entry) for entry in entries]
    (directory / "log.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


def as_written(entry: dict[str, Any]) -> bytes:
    text = encode(entry)
    assert json.loads(encode(msgspec.json.decode(text, type=Entry))) == json.loads(text), "a run writes no such line"
    return text.rstrip()


def edit_record(directory: Path, change: Callable[[RunRecord], RunRecord]) -> None:
    """Changes the record of a run, which stays one that a run may write."""
    record = read_record(directory)
    assert record is not None
    (directory / "run.json").write_bytes(encode(change(record), indent=1))


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
