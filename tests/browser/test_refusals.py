"""What the page cannot do, it says in a sentence, with what to do; nothing is trained."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import tgdonnx
from tests.browser.conftest import Small
from tests.browser.tab import Tab
from tests.reporting.browser import browser
from tests.support import models
from tgdonnx.engines.onnxruntime.state import STATE

pytestmark = pytest.mark.chromium


@pytest.fixture(scope="module")
def tab(address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    root = tmp_path_factory.mktemp("refusals")
    (root / "downloads").mkdir()
    with browser(root / "profile") as opened:
        yield Tab(opened, f"{address}?threads=1", root / "downloads")


def refused(tab: Tab, *words: str) -> None:
    problem = tab.said()["problem"]
    assert all(word in problem for word in words), problem
    assert problem.endswith((".", "?"))
    assert "this page does not know" not in problem
    assert tab.evaluate("document.getElementById('start').disabled")


@pytest.fixture
def copy(small: Small, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small.artifacts, tmp_path / "artifacts"))


def test_a_file_that_is_no_zip(tab: Tab, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"no zip at all")
    tab.give("artifacts-file", tmp_path / "a.zip")
    refused(tab, "a.zip is no zip file", "tgdonnx build --zip")


def test_a_zip_that_was_cut_off(tab: Tab, small: Small, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(small.zip.read_bytes()[:2000])
    tab.give("artifacts-file", tmp_path / "a.zip")
    refused(tab, "a.zip is no zip file that can be read")


def test_a_zip_of_other_things(tab: Tab, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    tab.give("artifacts-file", tmp_path / "a.zip")
    refused(tab, "no manifest.json", "tgdonnx build")


def test_artifacts_of_the_other_engine(tab: Tab, copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "engine": "onnxruntime-training"}))
    tab.give("artifacts-folder", copy)
    refused(tab, "onnxruntime-training, which no browser has", "--engine onnxruntime")


def test_artifacts_of_a_newer_format(tab: Tab, copy: Path) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "format": 99}))
    tab.give("artifacts-folder", copy)
    refused(tab, "format 99", "newer page")


def test_artifacts_that_are_incomplete(tab: Tab, copy: Path) -> None:
    (copy / "eval.onnx").unlink()
    tab.give("artifacts-folder", copy)
    refused(tab, "eval.onnx is missing")


def test_a_state_with_a_byte_that_changed(tab: Tab, copy: Path) -> None:
    data = bytearray((copy / STATE).read_bytes())
    data[-1] ^= 1
    (copy / STATE).write_bytes(data)
    tab.give("artifacts-folder", copy)
    refused(tab, "state.safetensors is damaged")


def test_a_masked_model_of_another_vendors_file(tab: Tab, copy: Path, tmp_path: Path) -> None:
    tgdonnx.mask(models.dncnn(4), tmp_path / "other.onnx", tgdonnx.Percentile(50))
    shutil.copy(tmp_path / "other.onnx", copy / "masked.onnx")
    tab.give("artifacts-folder", copy)
    refused(tab, "is not the one of manifest.json", "SHA-256")


def test_arrays_of_other_names_shapes_and_counts(tab: Tab, small: Small, tmp_path: Path) -> None:
    tab.give("artifacts-folder", small.artifacts)
    np.savez(tmp_path / "names.npz", image=small.x, target=small.target)
    tab.give("data-files", tmp_path / "names.npz")
    refused(tab, "no array x", "image, target")
    np.savez(tmp_path / "shapes.npz", x=small.x[:, :1], target=small.target)
    tab.give("data-files", tmp_path / "shapes.npz")
    refused(tab, "x is 12 x 1 x 18 x 22", "N x 3 x any x any")
    np.savez(tmp_path / "counts.npz", x=small.x, target=small.target[:5])
    tab.give("data-files", tmp_path / "counts.npz")
    refused(tab, "x 12, target 5")
    np.savez(tmp_path / "nan.npz", x=small.x * np.nan, target=small.target)
    tab.give("data-files", tmp_path / "nan.npz")
    refused(tab, "NaN")


def picture(path: Path, height: int, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path)


def test_pictures_that_are_no_pairs(tab: Tab, small: Small, tmp_path: Path) -> None:
    tab.give("artifacts-folder", small.artifacts)
    tab.set(size=16, held_out=1)
    for folder in ("noisy", "clean"):
        picture(tmp_path / "sizes" / folder / "a.png", 20, 20 if folder == "noisy" else 24)
    tab.give("data-folder", tmp_path / "sizes")
    refused(tab, "noisy/a.png is 20 x 20", "clean/a.png 24 x 20")
    picture(tmp_path / "partner" / "noisy" / "a.png", 20, 20)
    picture(tmp_path / "partner" / "clean" / "b.png", 20, 20)
    tab.give("data-folder", tmp_path / "partner")
    refused(tab, "noisy/a.png has no partner")
    picture(tmp_path / "folders" / "these" / "a.png", 20, 20)
    tab.give("data-folder", tmp_path / "folders")
    refused(tab, "noisy and clean", "these")
    for folder in ("noisy", "clean"):
        picture(tmp_path / "small" / folder / "a.png", 20, 12)
    tab.give("data-folder", tmp_path / "small")
    refused(tab, "noisy/a.png is 12 x 20", "16 x 16", "smaller patches")


def test_pictures_that_a_browser_would_change(tab: Tab, small: Small, tmp_path: Path) -> None:
    tab.give("artifacts-folder", small.artifacts)
    for folder in ("noisy", "clean"):
        (tmp_path / "deep" / folder).mkdir(parents=True)
        Image.fromarray(np.zeros((20, 20), np.uint16)).save(tmp_path / "deep" / folder / "a.png")
    tab.give("data-folder", tmp_path / "deep")
    refused(tab, "a.png has 16 bits", ".npz")
    for folder in ("noisy", "clean"):
        (tmp_path / "broken" / folder).mkdir(parents=True)
        (tmp_path / "broken" / folder / "a.png").write_bytes(b"no picture")
    tab.give("data-folder", tmp_path / "broken")
    refused(tab, "a.png cannot be decoded")


def test_a_loss_that_is_not_finite_keeps_the_state_before(tab: Tab, small: Small) -> None:
    tab.give("artifacts-folder", small.artifacts)
    tab.set(held_out=2)
    tab.give("data-files", small.data)
    tab.set(steps=10, batch=4, rate=1e30, keep_every=10)
    tab.train()
    assert "training diverged, and the state before that step is kept" in tab.said()["problem"]
    (run,) = tab.kept()
    assert 1 <= len(run["losses"]) < 10
    assert np.isfinite(run["losses"]).all()


def test_of_mode_adapter_the_state_alone_is_saved_and_python_exports_it(tab: Tab, small: Small, tmp_path: Path) -> None:
    tgdonnx.mask(
        small.vendor,
        tmp_path / "masked.onnx",
        tgdonnx.AllLayers(),
        tgdonnx.MaskOptions(mode="adapter", adapter=tgdonnx.Adapter(rank=2)),
    )
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts", tgdonnx.BuildOptions())
    tab.give("artifacts-folder", tmp_path / "artifacts")
    assert "takes more than overwriting bytes" in tab.said()["artifacts-note"]
    tab.give("data-files", small.data)
    tab.set(steps=4, batch=4, rate=1e-3)
    tab.train()
    assert tab.evaluate("document.getElementById('save-tuned').disabled")
    (tmp_path / "artifacts" / STATE).write_bytes(tab.save("save-state"))
    tgdonnx.export(tmp_path / "artifacts", tmp_path / "tuned.onnx")
    assert tgdonnx.verify(small.vendor, tmp_path / "tuned.onnx").ok
    assert len(onnx.load(tmp_path / "tuned.onnx").graph.node) > len(onnx.load(small.vendor).graph.node)
