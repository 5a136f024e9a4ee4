"""Batches that a program gives one after the other: read once, and then data like any other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np
import pytest

from tests.data.datasets import everything, opened, spec
from tests.support.foreign_arrays import Loader, in_batches
from tests.support.models import Array
from tgdonnx.data import DataOptions, held, open_like, open_training
from tgdonnx.errors import DataError, MissingArrayError

PAIR = (spec("x", 2, None, None), spec("target", 1, None, None))
RNG = np.random.default_rng(0)
ARRAYS = {
    "x": RNG.normal(size=(9, 2, 4, 5)).astype(np.float32),
    "target": RNG.normal(size=(9, 1, 4, 5)).astype(np.float32),
}
BATCHES = in_batches(ARRAYS, 4, 3, 2)


def one_by_one() -> Iterator[dict[str, Array]]:
    yield from BATCHES


@pytest.mark.parametrize(
    "given",
    [BATCHES, tuple(BATCHES), one_by_one(), [tuple(batch.values()) for batch in BATCHES]],
    ids=["list", "tuple", "generator", "in order"],
)
def test_batches_are_the_same_data_as_the_arrays_that_they_were_cut_from(given: Any) -> None:
    ours, theirs = opened(given, PAIR), opened(ARRAYS, PAIR)
    assert len(ours) == len(theirs) == 9
    for epoch in (None, 1, 2):
        for mine, whole in zip(ours.batches(4, epoch=epoch, seed=3), theirs.batches(4, epoch=epoch, seed=3)):
            assert all(np.array_equal(a, b) for a, b in zip(mine, whole))
    assert any(
        remark.startswith("3 batches were read once and are kept in memory (0.0 MiB)") for remark in ours.remarks
    )


def test_memory_that_is_filled_again_for_the_next_batch_is_copied() -> None:
    loader = Loader(tuple(ARRAYS.values()), 4)
    found = everything(opened(loader, PAIR))
    assert loader.passes == 1
    rows = [{tuple(sample.ravel()) for sample in array} for array in (*found, *ARRAYS.values())]
    assert rows[:2] == rows[2:]


def test_the_order_of_arrays_is_said_and_more_of_them_than_a_step_takes_are_refused() -> None:
    given = [(ARRAYS["x"], ARRAYS["target"])]
    assert "arrays of a batch are taken in this order: x, target" in opened(given, PAIR).remarks
    with pytest.raises(
        DataError, match="batch 0, has 3 arrays; expected 2, in this order: x, target; give them by name"
    ):
        opened([(*given[0], ARRAYS["x"])], PAIR)
    with pytest.raises(MissingArrayError, match="has no array 'target'; expected x, target, found x"):
        opened([ARRAYS["x"]], PAIR)


def test_where_nothing_is_trained_a_target_may_be_there_and_is_not_taken_for_an_input() -> None:
    two = (spec("x", 2, None, None), spec("y", 1, None, None))
    with pytest.raises(MissingArrayError, match="has no array 'y'"):
        opened([{"x": ARRAYS["x"], "target": ARRAYS["target"]}], two)
    found = open_like(opened(ARRAYS, PAIR), [(ARRAYS["x"], ARRAYS["target"])], PAIR[:1], ignored=["target"])
    assert np.array_equal(everything(found)[0], ARRAYS["x"])


def test_a_split_holds_out_whole_batches() -> None:
    training, validation = open_training(BATCHES, PAIR, DataOptions(validation_split=0.34))
    assert validation is not None
    held_out = everything(validation)[0]
    assert [len(held_out)] == [len(b["x"]) for b in BATCHES if np.array_equal(b["x"], held_out)]
    assert len(training) == 9 - len(held_out)
    assert any(remark.startswith("held out for validation: batch ") for remark in validation.remarks)
    with pytest.raises(DataError, match="is a single batch, and a split goes by batches"):
        open_training(ARRAYS, PAIR, DataOptions(validation_split=0.34))


def test_batches_of_other_sizes_go_one_by_one_as_files_do() -> None:
    small = {name: array[:2, :, :3] for name, array in ARRAYS.items()}
    dataset = opened([ARRAYS, small], PAIR)
    assert [arrays[0].shape for arrays in dataset.batches(1)] == [(1, 2, 4, 5)] * 9 + [(1, 2, 3, 5)] * 2
    with pytest.raises(DataError, match="'x' differs in size: the data, batch 0 has samples"):
        next(dataset.batches(2))


def test_what_is_held_can_be_opened_again_and_what_was_given_once_is_told() -> None:
    generator = one_by_one()
    source = held(generator)
    assert [len(opened(source, PAIR)) for _ in range(2)] == [9, 9]
    with pytest.raises(DataError, match="generator gave no batch, and this one gives them only once; give a list"):
        held(generator)
    with pytest.raises(DataError, match="list gave no batch; give"):
        held([])


def test_the_identity_is_of_values_names_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tgdonnx.data.description.EXAMINED_BYTES", 16)  # also where there is much to hash
    known = opened(BATCHES, PAIR).identity
    assert opened(one_by_one(), PAIR).identity == known
    changed = [{name: array.copy() for name, array in batch.items()} for batch in BATCHES]
    changed[2]["target"][1, 0, 3, 4] += 1
    assert opened(changed, PAIR).identity != known
    assert opened(BATCHES[::-1], PAIR).identity != known


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (ARRAYS["x"], "an array alone does not say what it is for: expected arrays by name"),
        (5, "or batches of them one after the other; got int"),
        (["a.png"], "the data, batch 0 is of type str; expected arrays by name"),
        ([[(ARRAYS["x"], ARRAYS["x"]), ARRAYS["target"]]], "batch 0 has several arrays in the place of '0'"),
        ([{"x": [[1], [2, 3]]}], "the data, batch 0: 'x': list gives no array of numpy"),
    ],
)
def test_what_is_no_batch_is_refused(given: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        held(given)


def test_what_has_samples_but_gives_no_batches_is_refused() -> None:
    class Samples:
        def __getitem__(self, place: int) -> tuple[Array, Array]:
            return ARRAYS["x"][place], ARRAYS["target"][place]

    with pytest.raises(DataError, match="got Samples; put what makes batches around it"):
        held(Samples())  # type: ignore[arg-type]


def test_batches_without_end_are_refused_before_they_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tgdonnx.data.batches.machine_memory", lambda: 10 * ARRAYS["x"].nbytes)
    with pytest.raises(DataError, match=r"6 batches take .* more than half of the memory of this machine; give fewer"):
        held({"x": ARRAYS["x"]} for _ in count())


def test_an_error_in_what_gives_the_batches_is_its_own() -> None:
    def broken() -> Iterator[dict[str, Array]]:
        yield BATCHES[0]
        raise ZeroDivisionError("in the program")

    with pytest.raises(ZeroDivisionError, match="in the program"):
        held(broken())
