"""Which numbers travel, and what has to be the same at all sites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tgdonnx
from tests.federated.sites import artifacts
from tgdonnx.artifacts import open_artifacts
from tgdonnx.federated.travelling import Numbers, fingerprint, travelling
from tgdonnx.finetuning.session import read_parameters

ROWS = tgdonnx.Filters({"w1": [1, 2], "w2": [0, 9]})
# Two of 8 filters of 3x3x3, and of 12 of 8x3x3, with biases and the scale and offset of a batch norm.
COUNT = 2 * 3 * 9 + 2 + 2 * 8 * 9 + 2 + 2


def numbers_of(directory: Path) -> tuple[Any, dict[str, Any]]:
    opened = open_artifacts(directory)
    return travelling(opened), read_parameters(directory, opened.manifest.runtime.checkpoint)


@pytest.mark.parametrize("form", ["masked", "thin"])
def test_just_the_numbers_that_train_travel(form: str, tmp_path: Path) -> None:
    which, parameters = numbers_of(artifacts(tmp_path, strategy=ROWS, form=form))
    taken = which.taken(parameters)
    assert sum(array.size for array in taken.values()) == COUNT
    assert which.bytes == 4 * COUNT
    assert which.whole_bytes == (tmp_path / "model.onnx").stat().st_size
    moved = which.put({name: array + 1 for name, array in taken.items()}, parameters)
    changed = sum(np.count_nonzero(moved[name] != parameters[name]) for name in parameters)
    assert changed == COUNT
    assert all(np.array_equal(array, which.taken(parameters)[name]) for name, array in taken.items()), "copies"


def test_both_forms_send_the_same_numbers(tmp_path: Path) -> None:
    (masked, a), (thin, b) = (numbers_of(artifacts(tmp_path / f, strategy=ROWS, form=f)) for f in ("masked", "thin"))
    flat = [np.sort(np.concatenate(list(which.taken(p).values()))) for which, p in ((masked, a), (thin, b))]
    assert np.array_equal(*flat)


def damaged(numbers: Numbers, name: str, array: Any) -> dict[str, Any]:
    return {**numbers, name: array}


def test_arrays_that_are_not_those_numbers_are_told_by_name(tmp_path: Path) -> None:
    which, parameters = numbers_of(artifacts(tmp_path, strategy=ROWS))
    good = which.taken(parameters)
    name = next(iter(good))
    size = good[name].size
    assert which.problem(good) == ""
    bad = good[name].copy()
    bad[1] = np.nan
    found = {
        f"NaN, infinity or what float32 does not hold in {name!r}, 1 times": bad,
        f"what float32 does not hold in {name!r}, {size} times": np.full(size, 1e300),
        f"of shape [{size + 1}], expected floating-point numbers of shape [{size}]": np.zeros(size + 1, np.float32),
        "as int64 of shape": np.zeros(size, np.int64),
        "as <U1 of shape": np.full(size, "a"),
    }
    for told, array in found.items():
        assert told in which.problem(damaged(good, name, array))
    assert "something of 'w9'" in which.problem(damaged(good, "w9", bad))
    assert f"nothing of {name!r}" in which.problem({key: array for key, array in good.items() if key != name})


def test_a_hash_tells_what_is_not_the_same(tmp_path: Path) -> None:
    def found(folder: str, **options: Any) -> Any:
        return fingerprint(open_artifacts(artifacts(tmp_path / folder, **options)))

    own = found("own", strategy=ROWS)
    assert own.difference(found("again", strategy=ROWS)) == ""
    assert own.difference(found("base", strategy=ROWS, seed=1)) == "another base model"
    assert own.difference(found("masks", strategy=tgdonnx.Filters({"w1": [1, 3], "w2": [0, 9]}))) == "other masks"
    assert own.difference(found("options", strategy=ROWS, loss="l1")) == "other build options"
    assert (
        own.difference(found("all", seed=1, loss="l1")) == "another base model and other masks and other build options"
    )
