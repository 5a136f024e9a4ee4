"""What is said where the training runtime is missing is true for the Python and the machine at hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import models
from tgdonnx.checking import check
from tgdonnx.runtime import availability


def pretend(monkeypatch: pytest.MonkeyPatch, version: tuple[int, int], system: str, machine: str) -> None:
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)


HAS_WHEEL = [
    ((3, 9), "linux", "x86_64"),
    ((3, 12), "linux", "x86_64"),
    ((3, 11), "win32", "AMD64"),
    ((3, 10), "darwin", "arm64"),
    ((3, 12), "darwin", "x86_64"),
]
HAS_NONE = [
    ((3, 13), "linux", "x86_64", "Python 3.13: use Python 3.9 to 3.12"),
    ((3, 14), "darwin", "arm64", "Python 3.14: use Python 3.9 to 3.12"),
    ((3, 11), "linux", "aarch64", "Linux on aarch64, only for"),
    ((3, 11), "win32", "ARM64", "Windows on ARM64, only for"),
    ((3, 11), "freebsd14", "x86_64", "freebsd14 on x86_64, only for"),
]


@pytest.mark.parametrize(("version", "system", "machine"), HAS_WHEEL)
def test_the_extra_is_named_where_it_installs_the_runtime(
    version: tuple[int, int], system: str, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, version, system, machine)
    assert availability.training_remedy().startswith("pip install 'tgdonnx[train]'")


@pytest.mark.parametrize(("version", "system", "machine", "said"), HAS_NONE)
def test_the_extra_is_not_named_where_it_installs_nothing(
    version: tuple[int, int], system: str, machine: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, version, system, machine)
    assert said in availability.training_remedy()
    assert "[train]" not in availability.training_remedy() + availability.inference_remedy()
    assert "tgdonnx[ort]" in availability.training_remedy()


@pytest.mark.training
def test_check_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models.save(models.dncnn(0), tmp_path / "model.onnx")
    monkeypatch.setattr("tgdonnx.checking.environment._TRAINING", ())
    finding = next(
        finding for finding in check(model, engine="onnxruntime-training").findings if finding.code == "TGD101"
    )
    assert finding.remedy == availability.training_remedy()
