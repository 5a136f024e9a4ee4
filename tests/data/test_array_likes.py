"""Arrays of other libraries, by what they offer."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.foreign_arrays import Capsule, Tensor
from tgdonnx.data.array_likes import as_array
from tgdonnx.errors import DataError

VALUES = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize("kind", [np.asarray, Tensor, Capsule, np.ma.masked_array])
def test_the_values_are_those_that_were_given_and_not_a_copy(kind: type) -> None:
    found = as_array(kind(VALUES), "x")
    assert type(found) is np.ndarray
    assert found.dtype == np.float32
    assert np.array_equal(found, VALUES)
    assert np.shares_memory(found, VALUES)


def test_lists_of_numbers_are_arrays() -> None:
    assert as_array([[1, 2], [3, 4]], "x").tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            Tensor(VALUES, "it lies on cuda:0"),
            "x: Tensor gives no array of numpy: it lies on cuda:0; bring it to the memory",
        ),
        ([[1, 2], [3]], "x: list gives no array of numpy: setting an array element with a sequence"),
        ([None, 1], "x holds Python objects, not numbers; leave it out"),
        (np.ma.masked_less(VALUES, 3), "x has values that are masked out; fill them in"),
    ],
)
def test_what_gives_no_values_is_refused(value: object, message: str) -> None:
    with pytest.raises(DataError) as caught:
        as_array(value, "x")
    assert str(caught.value).startswith(message)
