"""The checkpoint that we write is what onnxruntime-training reads, and what it writes itself says the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.models import Array
from tgdonnx.engines.onnxruntime_training.checkpoint_file import checkpoint_bytes
from tgdonnx.runtime import load_training_api

pytestmark = pytest.mark.training

RNG = np.random.default_rng(0)
SHAPES = {
    "w": (3, 2, 5),
    "b": (7,),
    "one": (),
    "many": (1, 1, 2, 3, 1),
    "tgdonnx::ä/权重:0": (2, 2),
    "none": (0, 4),
}
PARAMETERS: dict[str, Array] = {name: np.asarray(RNG.normal(size=shape), np.float32) for name, shape in SHAPES.items()}


def read(path: Path) -> dict[str, Array]:
    state = load_training_api().CheckpointState.load_checkpoint(str(path))
    return {name: np.array(parameter.data) for name, parameter in state.parameters}


@pytest.mark.parametrize("count", range(len(PARAMETERS) + 1))
def test_the_runtime_reads_the_parameters_bit_for_bit(count: int, tmp_path: Path) -> None:
    given = dict(list(PARAMETERS.items())[:count])
    (tmp_path / "checkpoint").write_bytes(checkpoint_bytes(given))
    found = read(tmp_path / "checkpoint")
    assert found.keys() == given.keys()
    for name, array in given.items():
        assert found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_arrays_that_are_not_contiguous_are_written_in_their_order(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)[::2]
    (tmp_path / "checkpoint").write_bytes(checkpoint_bytes({"w": array}))
    np.testing.assert_array_equal(read(tmp_path / "checkpoint")["w"], array)


def test_what_the_runtime_writes_again_says_the_same(tmp_path: Path) -> None:
    api = load_training_api()
    (tmp_path / "ours").write_bytes(checkpoint_bytes(PARAMETERS))
    state = api.CheckpointState.load_checkpoint(str(tmp_path / "ours"))
    api.CheckpointState.save_checkpoint(state, str(tmp_path / "theirs"))
    theirs = read(tmp_path / "theirs")
    assert {name: array.tobytes() for name, array in theirs.items()} == {
        name: array.tobytes() for name, array in PARAMETERS.items()
    }
