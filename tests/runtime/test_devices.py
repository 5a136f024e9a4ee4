"""Devices by name, and what is said where the runtime cannot use one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tgdonnx.errors import ArtifactsError, RuntimeMissingError
from tgdonnx.runtime.devices import CPU, Device, open_on, parse_device, require_device


@pytest.mark.parametrize(
    ("text", "device"), [("cpu", CPU), ("cuda", Device("cuda", 0)), ("cuda:12", Device("cuda", 12))]
)
def test_a_device_goes_by_its_name(text: str, device: Device) -> None:
    assert parse_device(text) == device
    assert parse_device(str(device)) == device


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:-1", "cuda:1234", "cpu:0", "CUDA"])
def test_what_is_no_device_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(RuntimeMissingError, match="expected a device such as cpu, cuda or cuda:1"):
        parse_device(text)


def test_the_processor_is_there_and_a_missing_device_is_said_with_the_remedy() -> None:
    require_device(CPU)
    with pytest.raises(RuntimeMissingError, match=r"cannot use cuda:0: it has .*CPUExecutionProvider.*onnxruntime-gpu"):
        require_device(Device("cuda"))


def test_a_file_that_the_runtime_cannot_load_is_said(tmp_path: Path) -> None:
    (tmp_path / "step.onnx").write_bytes(b"\x07" * 50)
    with pytest.raises(ArtifactsError, match=r"cannot load .*step\.onnx: .*; build the artifacts again"):
        open_on(tmp_path / "step.onnx", CPU)
