"""Strips: one per layer, with the filters that the masks let train."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import tgdonnx
from tests.support import models
from tgdonnx.masked_model import read_masked
from tgdonnx.reporting.filters import MOST_CELLS, SHADES, Strip, filter_strips, strip

PHI = 0.3


def _group(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "group"), 1)


def drawn(s: Strip) -> NDArray[np.int64]:
    """The shade of every cell, read back from the paths."""
    cells = np.zeros(s.cells, int)
    for shade, path in enumerate(s.shades, 1):
        assert re.fullmatch(r"(M\d+ 0h\d+v10h-\d+z)*", path)
        for start, width, back in re.findall(r"M(\d+) 0h(\d+)v10h-(\d+)z", path):
            assert width == back
            assert (cells[int(start) : int(start) + int(width)] == 0).all(), "two shades on one cell"
            cells[int(start) : int(start) + int(width)] = shade
    return cells


@pytest.mark.parametrize("mode", ["paper", "readers"])
@pytest.mark.parametrize("network", [models.dncnn, models.grouped, models.one_d, models.shared_weights])
def test_the_shaded_cells_are_the_filters_that_train(network: models.Builder, mode: str, tmp_path: Path) -> None:
    model = network(0)
    base = models.save(model, tmp_path / "model.onnx")
    tgdonnx.mask(base, tmp_path / "masked.onnx", tgdonnx.Phi(PHI), tgdonnx.MaskOptions(mode=mode))  # type: ignore[arg-type]
    masked = onnx.load(tmp_path / "masked.onnx").graph
    masks = {t.name[:-13]: numpy_helper.to_array(t) for t in masked.initializer if t.name.endswith(".retrain_mask")}
    groups = {node.name: _group(node) for node in model.graph.node}
    strips = filter_strips(read_masked(tmp_path / "masked.onnx"))
    assert [s.node for s in strips] == [layer.node for layer in tgdonnx.score(base).layers]
    compared = 0
    for s in strips:
        tensor = next((t for t in model.graph.initializer if t.name == s.weight), None)
        if tensor is None or s.op_type not in ("Conv", "ConvTranspose") or (groups[s.node] > 1 and s.op_type != "Conv"):
            continue
        trains = np.broadcast_to(masks.get(s.weight, np.zeros(())), tuple(tensor.dims)) == 1
        by_filter = np.moveaxis(trains, int(s.op_type == "ConvTranspose"), 0).reshape(s.filters, -1)
        shades = drawn(s)
        np.testing.assert_array_equal(shades == SHADES, by_filter.all(1))
        np.testing.assert_array_equal(shades > 0, by_filter.any(1))
        assert s.whole == by_filter.all(1).sum()
        assert s.partly == (by_filter.any(1) & ~by_filter.all(1)).sum()
        compared += int(by_filter.any())
    assert compared


@pytest.mark.parametrize("filters", [1, 128, 129, MOST_CELLS, MOST_CELLS + 1, 2000, 4097])
def test_many_filters_share_cells_and_none_that_trains_is_lost(filters: int) -> None:
    rng = np.random.default_rng(filters)
    trains = (rng.random(filters) < 0.3).astype(np.float64)
    trains[: filters // 4] = 1
    s = strip("conv", "Conv", "w", (filters, 3), trains)
    assert s.cells <= MOST_CELLS
    cells = drawn(s)
    parts = [trains[i : i + s.per_cell] for i in range(0, filters, s.per_cell)]
    assert len(parts) == s.cells
    np.testing.assert_array_equal(cells == SHADES, [part.all() for part in parts])
    np.testing.assert_array_equal(cells == 0, [not part.any() for part in parts])
    assert sum(len(path) for path in s.shades) < 5000


def test_the_more_trains_the_darker() -> None:
    cells = drawn(strip("conv", "Conv", "w", (5, 3), np.array([0, 0.01, 0.5, 0.99, 1])))
    assert cells[0] == 0
    assert (np.diff(cells[1:]) >= 0).all()
    assert cells[1] == 1
    assert cells[3] < cells[4] == SHADES
