"""Data sets of arrays, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.support.models import Array
from tgdonnx.data import DataOptions, Dataset, open_dataset
from tgdonnx.graphs.tensor_specs import Role, TensorSpec


def spec(name: str, *shape: int | None, dtype: str = "float32") -> TensorSpec:
    """An input with any number of samples."""
    return TensorSpec(name, dtype, (None, *shape), role=role_of(name))


def role_of(name: str) -> Role:
    """What the inputs of these tests are for, by their names."""
    return "target" if name == "target" else "input"


def pair(x: Array, target: Array) -> Dataset:
    """Samples in memory for a step that takes ``x`` and ``target`` of any shape."""
    given = {"x": x, "target": target}
    specs = [TensorSpec(name, str(array.dtype), None, role=role_of(name)) for name, array in given.items()]
    return open_dataset({"x": x, "target": target}, specs)


def everything(dataset: Dataset) -> list[Array]:
    """All samples in their order, one array per input."""
    return [np.concatenate(arrays) for arrays in zip(*dataset.batches(3))]


def opened(source: Any, specs: Sequence[TensorSpec], **options: Any) -> Dataset:
    """Opens data with some options."""
    return open_dataset(source, specs, DataOptions(**options))
