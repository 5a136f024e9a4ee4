"""One file with the artifacts and the vendor's file: what is in it, the same bytes every time, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tgdonnx
from tests.artifacts.built import FILES, MODELS, listing, masked
from tests.cli.commands import run
from tests.regrowing.starts import ANY_CHANGE
from tests.support import models
from tests.support.external_models import external_model
from tgdonnx.errors import ArtifactsError, OutputError, TgdonnxError

OPTIONS = tgdonnx.BuildOptions(form="thin")


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.namelist() == sorted(archive.namelist())
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("engine", MODELS)
def test_it_holds_the_files_of_the_directory_and_the_vendors(engine: str, tmp_path: Path) -> None:
    path = masked(models.chain(0), tmp_path)
    built = tgdonnx.build(
        path, tmp_path / "artifacts", tgdonnx.BuildOptions(engine=engine), zip=tmp_path / "artifacts.zip"
    )
    assert built.zip == str(tmp_path / "artifacts.zip")
    expected = {name: (tmp_path / "artifacts" / name).read_bytes() for name in FILES[engine] if name != ".lock"}
    expected["vendor.onnx"] = (tmp_path / "model.onnx").read_bytes()
    assert contents(tmp_path / "artifacts.zip") == expected
    assert listing(tmp_path) == ["artifacts", "artifacts.zip", "masked.onnx", "model.onnx"]


STARTS: dict[str, tuple[tgdonnx.Strategy, dict[str, Any]]] = {
    "regrow": (tgdonnx.Phi(0.3), {"reinitialization": tgdonnx.Reinitialization(tolerance=ANY_CHANGE)}),
    "adapter": (tgdonnx.LastLayers(2), {}),
}


@pytest.mark.parametrize("mode", STARTS)
def test_the_vendors_file_is_the_vendors_also_where_training_starts_from_another(mode: str, tmp_path: Path) -> None:
    strategy, options = STARTS[mode]
    path = masked(models.chain(0), tmp_path, strategy, mode=mode, **options)
    tgdonnx.build(path, tmp_path / "artifacts", OPTIONS, zip=tmp_path / "artifacts.zip")
    assert contents(tmp_path / "artifacts.zip")["vendor.onnx"] == (tmp_path / "model.onnx").read_bytes()


@pytest.mark.parametrize("location", ["w.bin", "weights/w.bin"])
def test_external_data_lies_where_the_manifest_says(location: str, tmp_path: Path) -> None:
    vendor = external_model(tmp_path, location=location)
    tgdonnx.mask(vendor, tmp_path / "masked.onnx", tgdonnx.Percentile(50))
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts", OPTIONS, zip=tmp_path / "artifacts.zip")
    found = contents(tmp_path / "artifacts.zip")
    assert found["vendor.onnx"] == vendor.read_bytes()
    assert found[location] == (tmp_path / location).read_bytes()
    assert found["masked.onnx.data"] == (tmp_path / "masked.onnx.data").read_bytes()
    trained = json.loads(found["manifest.json"])["trained"]
    assert {tensor["write_back"]["stored"]["location"] for tensor in trained} == {location}


@pytest.mark.parametrize(
    "location", ["state.safetensors", "state.best.safetensors", "vendor.onnx", "vendor.onnx/w.bin"]
)
def test_external_data_that_is_called_as_a_file_of_ours_is_refused(location: str, tmp_path: Path) -> None:
    vendor = external_model(tmp_path, location=location)
    tgdonnx.mask(vendor, tmp_path / "masked.onnx", tgdonnx.Percentile(50))
    before = listing(tmp_path)
    with pytest.raises(ArtifactsError, match=r"keeps weights in '.*', which another file in the zip is called"):
        tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts", OPTIONS, zip=tmp_path / "artifacts.zip")
    assert listing(tmp_path) == before


def test_building_again_writes_the_same_bytes(tmp_path: Path) -> None:
    path = masked(models.chain(0), tmp_path)
    for name in ("first", "second"):
        tgdonnx.build(path, tmp_path / name, OPTIONS, zip=tmp_path / f"{name}.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    path = masked(models.dncnn(0), tmp_path, tgdonnx.Percentile(50))
    program = "import sys, tgdonnx; tgdonnx.build(sys.argv[1], sys.argv[2], zip=sys.argv[3])"
    for seed in ("1", "2"):
        words = [sys.executable, "-c", program, str(path), str(tmp_path / seed), str(tmp_path / f"{seed}.zip")]
        subprocess.run(words, check=True, timeout=60, env={**os.environ, "PYTHONHASHSEED": seed})
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_what_is_unpacked_trains_and_is_exported(tmp_path: Path) -> None:
    model = models.dncnn(0)
    path = masked(model, tmp_path, tgdonnx.Percentile(50))
    tgdonnx.build(path, tmp_path / "artifacts", OPTIONS, zip=tmp_path / "artifacts.zip")
    with zipfile.ZipFile(tmp_path / "artifacts.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    feeds = models.random_feeds(model)
    data = {**feeds, "target": feeds["x"] + 1}
    tgdonnx.train(tmp_path / "unpacked", data, tgdonnx.TrainOptions(steps=2, batch=1))
    tgdonnx.export(tmp_path / "unpacked", tmp_path / "tuned.onnx")
    assert tgdonnx.verify(tmp_path / "model.onnx", tmp_path / "tuned.onnx").ok


def test_what_is_too_large_for_a_zip_is_refused_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = masked(models.chain(0), tmp_path)
    before = listing(tmp_path)
    monkeypatch.setattr("tgdonnx.bounds.ZIP_BYTES", 1000)
    with pytest.raises(ArtifactsError, match="expected at most 1,000 for a zip; leave `zip` out"):
        tgdonnx.build(path, tmp_path / "artifacts", OPTIONS, zip=tmp_path / "artifacts.zip")
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [("vendor.zip", "vendor's model"), ("masked.onnx", "one of the inputs"), ("there.zip", "exists")],
)
def test_nothing_that_is_there_is_overwritten(name: str, message: str, tmp_path: Path) -> None:
    path = masked(models.chain(0), tmp_path)
    (tmp_path / "there.zip").write_bytes(b"precious")
    shutil.copy(tmp_path / "model.onnx", tmp_path / "vendor.zip")
    before = {each: (tmp_path / each).read_bytes() for each in listing(tmp_path)}
    with pytest.raises(OutputError, match=message):
        tgdonnx.build(path, tmp_path / "artifacts", OPTIONS, zip=tmp_path / name, overwrite=name != "there.zip")
    assert {each: (tmp_path / each).read_bytes() for each in listing(tmp_path)} == before


@pytest.mark.parametrize(("name", "remedy"), [("z.txt", "call it z.zip"), ("z", "call it z.zip")])
def test_a_zip_is_called_one(name: str, remedy: str, tmp_path: Path) -> None:
    path = masked(models.chain(0), tmp_path)
    before = listing(tmp_path)
    with pytest.raises(OutputError, match=rf"{name} is to be a zip, and its name does not end in \.zip; {remedy}"):
        tgdonnx.build(path, tmp_path / "artifacts", OPTIONS, zip=tmp_path / name)
    assert listing(tmp_path) == before
    tgdonnx.build(path, tmp_path / "artifacts", OPTIONS, zip=tmp_path / "Z.ZIP")
    assert "manifest.json" in contents(tmp_path / "Z.ZIP")


def test_a_failure_leaves_the_old_zip_and_the_old_artifacts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = masked(models.chain(0), tmp_path)
    tgdonnx.build(path, tmp_path / "artifacts", OPTIONS, zip=tmp_path / "artifacts.zip")
    before = (tmp_path / "artifacts.zip").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    other = tgdonnx.BuildOptions(form="thin", l2=0.5)
    with pytest.raises(OutputError, match="No space left on device"):
        tgdonnx.build(path, tmp_path / "artifacts", other, zip=tmp_path / "artifacts.zip", overwrite=True)
    assert (tmp_path / "artifacts.zip").read_bytes() == before
    kept = (tmp_path / "artifacts" / "manifest.json").read_bytes()
    assert contents(tmp_path / "artifacts.zip")["manifest.json"] == kept
    assert listing(tmp_path) == ["artifacts", "artifacts.zip", "masked.onnx", "model.onnx"]


DATA = {"x": models.random_feeds(models.chain(0))["x"]}
TAKERS: dict[str, Callable[[Path], object]] = {
    "train": lambda path: tgdonnx.train(path, DATA),
    "export": lambda path: tgdonnx.export(path, path.parent / "tuned.onnx"),
    "blend": lambda path: tgdonnx.blend(path, validation=DATA),
    "report": lambda path: tgdonnx.report(path, path.parent / "page.html"),
}


@pytest.mark.parametrize("taker", TAKERS)
def test_what_takes_a_directory_says_that_a_zip_is_to_be_unpacked(taker: str, tmp_path: Path) -> None:
    path = tmp_path / "artifacts.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", "{}")
    with pytest.raises(TgdonnxError, match=r"artifacts\.zip is a zip; expected an artifacts directory; unpack it"):
        TAKERS[taker](path)
    assert listing(tmp_path) == ["artifacts.zip"]


def test_the_command_says_how_large_it_is_and_names_its_own_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = masked(models.chain(0), tmp_path)
    words = ["build", path, "-o", tmp_path / "artifacts", "--zip", tmp_path / "artifacts.zip"]
    said = run(*words)
    assert said.exit_code == 0
    assert (
        f"artifacts.zip: {(tmp_path / 'artifacts.zip').stat().st_size:,} bytes, with the vendor's file" in said.output
    )
    monkeypatch.setattr("tgdonnx.bounds.ZIP_BYTES", 1000)
    refused = run(*words, "--overwrite")
    assert refused.exit_code == 2
    assert "leave --zip out" in refused.stderr
