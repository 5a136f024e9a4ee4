"""Steps on WebGPU, which Chromium computes in software here: the same losses, and what is done where it cannot be trusted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.browser.conftest import Small
from tests.browser.order import batches
from tests.browser.tab import Tab
from tests.reporting.browser import browser
from tests.support.models import conv_weight, parse, save
from tgdonnx.engines.onnxruntime.session import StepSession
from tgdonnx.engines.onnxruntime.state import BEST_STATE, STATE

pytestmark = pytest.mark.chromium

SOFTWARE = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
STEPS, BATCH, RATE, SEED = 50, 3, 1e-3, 5
HELD = [3, 7, 11]
ON_WEBGPU = "Steps run on WebGPU (google swiftshader)"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """A net of few operators: each is a program to compile for a graphics processor, and here that is done in software."""
    root, rng = tmp_path_factory.mktemp("tiny"), np.random.default_rng(3)
    net = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        net (float[N, 3, H, W] x) => (float[N, 3, H, W] y) {
            a = Conv<pads = [1, 1, 1, 1]>(x, w)
            b = Relu(a)
            y = Conv<pads = [1, 1, 1, 1]>(b, u)
        }""",
        {"w": conv_weight(rng, 4, 3, 3, 3), "u": conv_weight(rng, 3, 4, 3, 3)},
    )
    vendor = save(net, root / "vendor.onnx")
    tgdonnx.mask(vendor, root / "masked.onnx", tgdonnx.AllLayers())
    options = tgdonnx.BuildOptions(clip_norm=1.0, l2=1e-5)
    tgdonnx.build(root / "masked.onnx", root / "artifacts", options, zip=root / "artifacts.zip")
    target = rng.random((12, 3, 8, 9), np.float32)
    x = target + rng.normal(0, 0.1, target.shape).astype(np.float32)
    np.savez(root / "train.npz", x=x, target=target)
    return Small(vendor, root / "artifacts", root / "artifacts.zip", root / "train.npz", x, target)


def prepare(tab: Tab, artifacts: Path, data: Path, device: str, steps: int = STEPS) -> None:
    tab.give("artifacts-folder", artifacts)
    tab.set(held_out=len(HELD))
    tab.give("data-files", data)
    tab.set(steps=steps, batch=BATCH, rate=RATE, seed=SEED, evaluate_every=10, device=device)


def losses_in_python(artifacts: Path, arrays: list[Any], steps: int) -> list[float]:
    manifest = json.loads((artifacts / "manifest.json").read_text())
    names = [[entry["name"] for entry in manifest[key]] for key in ("inputs", "trained")]
    session = StepSession(artifacts, STATE, *names)
    samples = [i for i in range(len(arrays[0])) if i not in HELD]
    chosen = batches(samples, BATCH, SEED, steps)
    return [float(session.step([[array[each] for array in arrays]], RATE)[0]) for each in chosen]


def test_losses_are_those_of_python_and_the_saved_file_is_verified(tiny: Small, address: str, tmp_path: Path) -> None:
    (tmp_path / "downloads").mkdir()
    with browser(tmp_path / "profile", SOFTWARE) as opened:
        tab = Tab(opened, f"{address}?threads=1", tmp_path / "downloads")
        prepare(tab, tiny.artifacts, tiny.data, "webgpu")
        tab.train(seconds=300)
        said, (run,) = tab.said(), tab.kept()
        saved, state = tab.save("save-tuned"), tab.save("save-state")
    assert ON_WEBGPU in said["runtime"]
    assert "Training is done" in said["status"]
    expected = losses_in_python(tiny.artifacts, [tiny.x, tiny.target], STEPS)
    np.testing.assert_allclose(run["losses"], expected, rtol=1e-4)
    (tmp_path / "saved.onnx").write_bytes(saved)
    report = tgdonnx.verify(tiny.vendor, tmp_path / "saved.onnx")
    assert report.ok, report.violations
    artifacts = Path(shutil.copytree(tiny.artifacts, tmp_path / "artifacts"))
    (artifacts / BEST_STATE).write_bytes(state)
    tgdonnx.export(artifacts, tmp_path / "exported.onnx")
    assert saved == (tmp_path / "exported.onnx").read_bytes()


def test_where_the_graphics_process_dies_training_goes_on_on_webassembly(
    tiny: Small, address: str, tmp_path: Path
) -> None:
    steps = 200
    with browser(tmp_path / "profile", SOFTWARE) as opened:
        tab = Tab(opened, f"{address}?threads=1")
        prepare(tab, tiny.artifacts, tiny.data, "webgpu", steps)
        tab.click("start")
        tab.wait("document.getElementById('progress').value >= 3", 300)
        assert ON_WEBGPU in tab.said()["runtime"]
        opened.call("Browser.crashGpuProcess")
        tab.wait("/^Training is|^It did not/.test(document.getElementById('status').textContent)", 300)
        said, (run,) = tab.said(), tab.kept()
    assert "WebGPU was given up: " in said["runtime"]
    assert said["problem"] == ""
    expected = losses_in_python(tiny.artifacts, [tiny.x, tiny.target], steps)
    np.testing.assert_allclose(run["losses"], expected, rtol=1e-4)


def test_a_gradient_that_is_wrong_is_noticed_and_webassembly_trains(address: str, tmp_path: Path) -> None:
    # onnxruntime-web 1.30.0 on WebGPU has another result for a Conv of 6 maps (microsoft/onnxruntime, issue 29651).
    rng = np.random.default_rng(4)
    net = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        net (float[N, 6, H, W] x) => (float[N, 8, H, W] y) {
            y = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w)
        }""",
        {"w": conv_weight(rng, 8, 6, 3, 3)},
    )
    vendor = save(net, tmp_path / "vendor.onnx")
    tgdonnx.mask(vendor, tmp_path / "masked.onnx", tgdonnx.AllLayers())
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts", tgdonnx.BuildOptions())
    x, target = (rng.random((12, maps, 8, 8), np.float32) for maps in (6, 8))
    np.savez(tmp_path / "train.npz", x=x, target=target)
    with browser(tmp_path / "profile", SOFTWARE) as opened:
        tab = Tab(opened, f"{address}?threads=1")
        prepare(tab, tmp_path / "artifacts", tmp_path / "train.npz", "webgpu", 5)
        tab.train(seconds=300)
        said, (run,) = tab.said(), tab.kept()
    assert "WebGPU is not used: " in said["runtime"]
    assert "differs from that of WebAssembly by" in said["runtime"]
    np.testing.assert_allclose(run["losses"], losses_in_python(tmp_path / "artifacts", [x, target], 5), rtol=1e-5)


@pytest.mark.parametrize(
    ("flags", "device", "why"),
    [
        (SOFTWARE, "fastest", "this browser computes it in software"),
        (SOFTWARE, "wasm", "WebAssembly was chosen"),
        ((), "webgpu", "this browser gives no graphics processor for it"),
    ],
)
def test_webassembly_trains_where_webgpu_is_not_there_not_wanted_or_in_software(
    flags: tuple[str, ...], device: str, why: str, tiny: Small, address: str, tmp_path: Path
) -> None:
    with browser(tmp_path / "profile", flags) as opened:
        tab = Tab(opened, f"{address}?threads=1")
        prepare(tab, tiny.artifacts, tiny.data, device, 3)
        tab.train(seconds=300)
        said = tab.said()
    assert said["runtime"].startswith("ONNX Runtime on WebAssembly with SIMD, 1 thread: ")
    assert said["runtime"].endswith(f" WebGPU is not used: {why}.")
    assert "Training is done" in said["status"]
