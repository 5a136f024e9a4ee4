"""Devices by name, and what is said where the runtime cannot use one."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.support import fake_cuda, models
from tgdonnx.errors import ArtifactsError, DataError, RuntimeMissingError
from tgdonnx.files.model_file import load_model
from tgdonnx.runtime import open_inference
from tgdonnx.runtime.devices import CPU, Device, open_on, open_session, parse_device, require_device, usable_device


@pytest.mark.parametrize(
    ("text", "device"), [("cpu", CPU), ("cuda", Device("cuda", 0)), ("cuda:12", Device("cuda", 12))]
)
def test_a_device_goes_by_its_name(text: str, device: Device) -> None:
    assert parse_device(text) == device
    assert parse_device(str(device)) == device


@pytest.mark.parametrize(
    "text", ["", "gpu", "cuda:", "cuda:-1", "cuda:1234", "cpu:0", "CUDA", "AzureExecutionProvider"]
)
def test_what_is_no_device_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(DataError, match="expected a device such as cpu, cuda or cuda:1"):
        parse_device(text)


def test_the_processor_is_there_and_a_missing_device_is_said_with_the_remedy() -> None:
    require_device(CPU)
    with pytest.raises(RuntimeMissingError, match=r"cannot use cuda:0: it has .*CPUExecutionProvider.*onnxruntime-gpu"):
        usable_device("cuda")


def test_a_device_that_is_there_is_found_by_running_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = fake_cuda.install(monkeypatch, devices=2)
    assert usable_device("cuda:1") == Device("cuda", 1)
    assert [asked[fake_cuda.CUDA]["device_id"] for asked in fake.sessions] == [1]


def test_a_device_that_the_runtime_has_the_provider_for_but_that_is_not_there_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_cuda.install(monkeypatch, devices=2)
    with pytest.raises(RuntimeMissingError, match="cannot use cuda:2: it would run models by CPUExecution") as raised:
        usable_device("cuda:2")
    assert "or use the device cpu" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_the_runtime_says_of_a_device_that_fails_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_cuda.install(monkeypatch, devices=1)

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA failure 100: no CUDA-capable device is detected ; GPU=0")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    with pytest.raises(RuntimeMissingError, match="cannot use cuda:0: CUDA failure 100: no CUDA-capable device"):
        usable_device("cuda")


def test_libraries_that_print_what_they_miss_say_nothing_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fake_cuda.install(monkeypatch, devices=0)
    monkeypatch.setattr(
        onnxruntime, "preload_dlls", lambda: sys.stdout.write("Failed to load libcudnn.so.9\n"), raising=False
    )
    with pytest.raises(RuntimeMissingError):
        usable_device("cuda")
    assert capfd.readouterr() == ("", "")


def test_a_session_computes_in_float32_and_alike_from_run_to_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = fake_cuda.install(monkeypatch, devices=1)
    path = models.save(models.chain(0), tmp_path / "model.onnx")
    session = open_session(str(path), Device("cuda"))
    (asked,) = fake.sessions
    assert asked[fake_cuda.CUDA] == {"device_id": 0, "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
    assert list(asked) == [fake_cuda.CUDA, fake_cuda.CPU], (
        "the processor takes nodes that the provider has no kernel for"
    )
    assert fake.options[0].use_deterministic_compute
    assert not session._enable_fallback, "the runtime would open it on the processor, and go on"


def test_a_model_for_inference_never_falls_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_cuda.install(monkeypatch, devices=1)
    file = load_model(models.save(models.chain(0), tmp_path / "model.onnx"))
    feeds = {name: array.astype(np.float32) for name, array in models.random_feeds(file.proto, 0).items()}
    there = open_inference(file, device=Device("cuda", 0)).run(feeds)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(there, open_inference(file).run(feeds)))
    with pytest.raises(RuntimeMissingError, match="cannot use cuda:1"):
        open_inference(file, device=Device("cuda", 1))


def test_a_file_that_the_runtime_cannot_load_is_said(tmp_path: Path) -> None:
    (tmp_path / "step.onnx").write_bytes(b"\x07" * 50)
    with pytest.raises(ArtifactsError, match=r"cannot load .*step\.onnx: .*; build the artifacts again"):
        open_on(tmp_path / "step.onnx", CPU)
