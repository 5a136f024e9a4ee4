"""A runtime that says it has GPUs: sessions are asked for one, and run on the CPU. Which provider is asked for is on record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import onnxruntime
import pytest

CUDA, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"


@dataclass
class FakeCuda:
    """What was asked for.

    Attributes:
        devices: how many GPUs there are.
        sessions: the providers of every session that was opened, each with its settings.
        options: of these sessions.
        on_processor: how many sessions were asked for without a GPU.
        values: where every array was put, by kind and number.
    """

    devices: int
    sessions: list[dict[str, dict[str, Any]]] = field(default_factory=list)
    options: list[Any] = field(default_factory=list)
    on_processor: int = 0
    values: list[tuple[str, int]] = field(default_factory=list)


def install(monkeypatch: pytest.MonkeyPatch, devices: int) -> FakeCuda:
    """Puts GPUs into the runtime until the test is over; asked for another, it falls back to the CPU without a word."""
    fake = FakeCuda(devices)
    real_session, real_value = onnxruntime.InferenceSession, onnxruntime.OrtValue

    class Session(real_session):  # type: ignore[misc, valid-type]
        def __init__(self, model: Any, options: Any, providers: list[Any], **settings: Any) -> None:
            asked = dict(each if isinstance(each, tuple) else (each, {}) for each in providers)
            self._taken = [p for p, given in asked.items() if p == CPU or given["device_id"] < devices]
            if self._taken[0] == CUDA:
                fake.sessions.append(asked)
                fake.options.append(options)
            elif CUDA not in asked:
                fake.on_processor += 1
            super().__init__(model, options, providers=[CPU], **settings)

        def get_providers(self) -> list[str]:
            return list(self._taken)

    class Value:
        @staticmethod
        def ortvalue_from_numpy(array: Any, kind: str, index: int) -> Any:
            fake.values.append((kind, index))
            return real_value.ortvalue_from_numpy(array, "cpu", 0)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(onnxruntime, "OrtValue", Value)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    return fake
