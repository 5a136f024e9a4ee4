"""What samples are called, what a table says of them besides, and of which one every tile of an evaluation is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.datasets import opened, spec
from tgdonnx.graphs.tensor_specs import TensorSpec

IMAGES = (spec("x", 1, None, None), spec("target", 1, None, None))


def images(samples: int, *size: int) -> dict[str, np.ndarray]:
    array = np.arange(samples * int(np.prod(size)), dtype=np.float32).reshape(samples, 1, *size)
    return {"x": array, "target": array}


def test_rows_of_a_table_have_what_its_other_columns_say(tmp_path: Path) -> None:
    inputs = (spec("x", 1, None, None), TensorSpec("target", "int64", (None,), 2, role="target"))
    for number in range(2):
        Image.fromarray(np.full((4, 5), number, np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "t.csv").write_text("x,target,site,age\n0.png,1,north,31\n1.png,0,south,4.5\n")
    cases = opened(tmp_path / "t.csv", inputs, scale=1).cases
    assert [case.name for case in cases] == ["row 1", "row 2"]
    assert [dict(case.columns) for case in cases] == [
        {"site": "north", "age": "31"},
        {"site": "south", "age": "4.5"},
    ]


def test_samples_of_files_go_by_the_file_and_their_place_in_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **images(1, 4, 5))
    np.savez(tmp_path / "b.npz", **images(2, 4, 5))
    assert [case.name for case in opened(tmp_path, IMAGES).cases] == ["a.npz", "b.npz, sample 1", "b.npz, sample 2"]
    assert [case.name for case in opened(images(2, 4, 5), IMAGES).cases] == ["sample 1", "sample 2"]


@pytest.mark.parametrize(("patch", "tiles"), [(None, 1), ((4, 3), 2), ((2, 3), 4)])
def test_every_tile_is_of_its_sample(patch: tuple[int, ...] | None, tiles: int) -> None:
    data = images(3, 4, 6)
    dataset = opened(data, IMAGES, patch=patch)
    places = dataset.case_places()
    assert places.tolist() == np.repeat(np.arange(3), tiles).tolist()
    cut = [batch[0][0] for batch in dataset.batches(1)]
    assert all(np.isin(tile, data["x"][place]).all() for place, tile in zip(places, cut))
