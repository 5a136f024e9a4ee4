"""Several outputs come of the same runs of the model, by the same tiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.models import save
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tgdonnx import ApplyOptions, apply
from tgdonnx.applying import ApplyProgress
from tgdonnx.runtime import InferenceModel

# Outputs of the size of the image, of half of it, and of twice it, that look differently far.
PYRAMID = """g (float[N, 1, H, W] x) => (float[N, 3, h, w] half, float[N, 2, H, W] same, float[N, 1, p, q] twice) {
    a = Conv<pads = [2, 2, 2, 2]>(x, v, c) same = Relu(a)
    half = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(same, w, d)
    twice = ConvTranspose<strides = [2, 2]>(same, u)
}"""
SCORED = PYRAMID.replace("(float[N, 3, h, w] half", "(float[N, 3] score, float[N, 3, h, w] half").replace(
    "twice = Conv", "m = GlobalAveragePool(half) score = Flatten(m) twice = Conv"
)


def written(text: str, path: Path) -> Path:
    return save(text_model(text, v=(2, 1, 5, 5), c=(2,), w=(3, 2, 3, 3), d=(3,), u=(2, 1, 2, 2)), path)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes that the runtime is given."""
    given, run = [], InferenceModel.run

    def counted(self: InferenceModel, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None) -> list[Any]:
        given.append(next(iter(feeds.values())).shape)
        return run(self, feeds, outputs)

    monkeypatch.setattr(InferenceModel, "run", counted)
    return given


def expected(path: Path, data: np.ndarray) -> dict[str, np.ndarray]:
    session = open_session(str(path))
    return dict(zip((each.name for each in session.get_outputs()), session.run(None, {"x": data})))


@pytest.mark.parametrize(("tile", "tiles"), [((16, 20), 12), ((64, 64), 1)])
def test_all_outputs_come_of_one_run_per_sample_and_tile(
    tile: tuple[int, int], tiles: int, runs: list[tuple[int, ...]], tmp_path: Path
) -> None:
    path, progress = written(PYRAMID, tmp_path / "model.onnx"), list[ApplyProgress]()
    data = np.random.default_rng(0).standard_normal((2, 1, 40, 36)).astype(np.float32)
    report = apply(path, data, tmp_path / "all.npz", options=ApplyOptions(tile=tile), show=progress.append)
    assert report.tiles == tiles
    assert len(runs) == 2 * tiles
    assert [(each.done, each.total) for each in progress] == [(n + 1, 2 * tiles) for n in range(2 * tiles)]
    with np.load(tmp_path / "all.npz") as found:
        for name, values in expected(path, data).items():
            np.testing.assert_allclose(found[name], values, rtol=0, atol=1e-5)


def test_where_one_output_looks_at_everything_all_come_of_runs_on_whole_images(
    runs: list[tuple[int, ...]], tmp_path: Path
) -> None:
    path = written(SCORED, tmp_path / "model.onnx")
    data = np.random.default_rng(1).standard_normal((2, 1, 40, 36)).astype(np.float32)
    report = apply(path, data, options=ApplyOptions(tile=(16, 20)))
    assert runs == [(1, 1, 40, 36)] * 2
    for name, values in expected(path, data).items():
        np.testing.assert_allclose(report.arrays[name], values, rtol=0, atol=1e-5)
    told = [remark for remark in report.remarks if "whole images" in remark]
    assert len(told) == 1
    assert "output 'score'" in told[0]


def test_what_an_output_does_not_need_does_not_keep_it_from_tiles(runs: list[tuple[int, ...]], tmp_path: Path) -> None:
    path = written(SCORED, tmp_path / "model.onnx")
    data = np.random.default_rng(1).standard_normal((2, 1, 40, 36)).astype(np.float32)
    report = apply(path, data, options=ApplyOptions(tile=(16, 20), outputs=("same", "half")))
    assert len(runs) == 2 * report.tiles == 24
    for name, values in report.arrays.items():
        np.testing.assert_allclose(values, expected(path, data)[name], rtol=0, atol=1e-5)
