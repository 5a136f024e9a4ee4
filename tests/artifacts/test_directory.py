"""The artifacts directory: what may be replaced, and what is said of one that is incomplete or damaged."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tgdonnx
from tests.artifacts.built import CHECKPOINT, FILES, MODELS, listing, masked, refused
from tests.support import models
from tests.support.trainer import make_artifacts
from tgdonnx.artifacts import read_manifest
from tgdonnx.errors import ArtifactsError, OutputError

# The directory.


@pytest.mark.parametrize("engine", MODELS)
def test_a_directory_that_exists_is_replaced_only_when_told_to(engine: str, tmp_path: Path) -> None:
    path = masked(models.chain(0), tmp_path)
    tgdonnx.build(path, tmp_path / "artifacts", tgdonnx.BuildOptions(engine=engine))
    before = (tmp_path / "artifacts" / "manifest.json").read_bytes()
    refused(tmp_path, path, OutputError, "exists; pass `overwrite=True`", l2=0.5)
    assert (tmp_path / "artifacts" / "manifest.json").read_bytes() == before
    (tmp_path / "artifacts" / "log.jsonl").write_text("of an earlier run\n")
    other, _ = sorted(MODELS, key=lambda name: name == engine)
    tgdonnx.build(path, tmp_path / "artifacts", tgdonnx.BuildOptions(l2=0.5, engine=other), overwrite=True)
    assert listing(tmp_path / "artifacts") == FILES[other]
    assert read_manifest(tmp_path / "artifacts").options.l2 == 0.5
    assert listing(tmp_path) == ["artifacts", "masked.onnx", "model.onnx"]


def test_an_empty_directory_may_be_filled(tmp_path: Path) -> None:
    path = masked(models.chain(0), tmp_path)
    (tmp_path / "artifacts").mkdir()
    tgdonnx.build(path, tmp_path / "artifacts", tgdonnx.BuildOptions(engine="onnxruntime"))
    assert listing(tmp_path / "artifacts") == FILES["onnxruntime"]


def test_a_directory_with_other_files_is_never_replaced(tmp_path: Path) -> None:
    path = masked(models.chain(0), tmp_path)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "thesis.txt").write_text("precious")
    refused(tmp_path, path, OutputError, "other files than artifacts", overwrite=True)
    assert listing(tmp_path / "artifacts") == ["thesis.txt"]


def test_a_file_in_the_way_and_a_missing_parent_are_told(tmp_path: Path) -> None:
    path = masked(models.chain(0), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file; the artifacts need a directory"):
        tgdonnx.build(path, tmp_path / "file", overwrite=True)
    with pytest.raises(OutputError, match="nowhere"):
        tgdonnx.build(path, tmp_path / "nowhere" / "artifacts")


@pytest.mark.parametrize("engine", MODELS)
def test_a_failure_while_writing_leaves_the_old_artifacts_whole(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = masked(models.chain(0), tmp_path)
    tgdonnx.build(path, tmp_path / "artifacts", tgdonnx.BuildOptions(engine=engine))
    before = {name: (tmp_path / "artifacts" / name).read_bytes() for name in FILES[engine]}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importlib.import_module("tgdonnx.artifacts.build"), "write_model", full)
    with pytest.raises(OutputError, match="No space left on device"):
        tgdonnx.build(path, tmp_path / "artifacts", tgdonnx.BuildOptions(l2=1.0, engine=engine), overwrite=True)
    assert {name: (tmp_path / "artifacts" / name).read_bytes() for name in FILES[engine]} == before
    assert listing(tmp_path) == ["artifacts", "masked.onnx", "model.onnx"]


# Reading it.


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    return make_artifacts(models.chain(0), tmp_path, tgdonnx.Phi(0.3))


def edited(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_newer_format_is_refused_with_the_remedy(artifacts: Path) -> None:
    edited(artifacts, lambda content: content.update(format=4))
    with pytest.raises(ArtifactsError, match="format 4; this version reads up to 3: update tgdonnx"):
        read_manifest(artifacts)


def test_keys_that_a_later_version_added_are_ignored(artifacts: Path) -> None:
    before = read_manifest(artifacts)
    edited(artifacts, lambda content: content.update(colour="blue"))
    assert read_manifest(artifacts) == before


@pytest.mark.parametrize(
    ("engine", "name"), [(engine, name) for engine in MODELS for name in (*MODELS[engine], CHECKPOINT[engine])]
)
def test_a_missing_file_is_named(engine: str, name: str, tmp_path: Path) -> None:
    directory = make_artifacts(models.chain(0), tmp_path, tgdonnx.Phi(0.3), engine=engine)
    (directory / name).unlink()
    with pytest.raises(ArtifactsError, match=f"{name} is missing"):
        read_manifest(directory)


def test_a_missing_masked_model_is_named(artifacts: Path) -> None:
    (artifacts / "masked.onnx").unlink()
    with pytest.raises(ArtifactsError, match=r"masked\.onnx is missing"):
        read_manifest(artifacts)


def test_a_directory_without_a_manifest_is_no_artifacts_directory(artifacts: Path) -> None:
    (artifacts / "manifest.json").unlink()
    with pytest.raises(ArtifactsError, match=r"no artifacts directory: it has no manifest\.json"):
        read_manifest(artifacts)
    with pytest.raises(ArtifactsError, match="no artifacts directory"):
        read_manifest(artifacts / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "{}", '{"format": "new"}', '{"format": 1}', "\x00"])
def test_a_damaged_manifest_is_told(text: str, artifacts: Path) -> None:
    (artifacts / "manifest.json").write_text(text)
    with pytest.raises(ArtifactsError, match="is damaged"):
        read_manifest(artifacts)


def test_a_manifest_that_is_no_text_is_told(artifacts: Path) -> None:
    (artifacts / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtifactsError, match="is damaged"):
        read_manifest(artifacts)


@pytest.mark.parametrize("key", ["versions", "options", "base_sha256", "selection", "rho", "inputs", "trained"])
def test_a_manifest_without_a_key_is_told(key: str, artifacts: Path) -> None:
    edited(artifacts, lambda content: content.pop(key))
    with pytest.raises(ArtifactsError, match=f"is damaged .*{key}"):
        read_manifest(artifacts)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(trained=[{}]),
        lambda content: content.update(inputs=[{"name": "x"}]),
        lambda content: content.update(inputs=3),
        lambda content: content["trained"][0].update(vendor_place="nowhere"),
        lambda content: content["trained"][0].update(retrain=None),
    ],
)
def test_a_manifest_with_an_entry_of_the_wrong_kind_is_told(
    change: Callable[[dict[str, Any]], object], artifacts: Path
) -> None:
    edited(artifacts, change)
    with pytest.raises(ArtifactsError, match="is damaged"):
        read_manifest(artifacts)
