"""Values and files that are one sample each: what class folders, tables and nnU-Net's folders are put together from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from tgdonnx.data.arrays import in_memory
from tgdonnx.data.file_cache import FileCache
from tgdonnx.data.format import ArrayFormat
from tgdonnx.data.formats import format_of, of_kind
from tgdonnx.data.lazy_arrays import LazyArray
from tgdonnx.data.sources import open_file
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TARGET, TensorSpec


def target_of(inputs: Sequence[TensorSpec]) -> Optional[TensorSpec]:
    """Returns the target among what a step is fed; None where it is left out, or there are several."""
    return next((spec for spec in inputs if spec.name == TARGET), None)


def only_input(inputs: Sequence[TensorSpec]) -> Optional[TensorSpec]:
    """Returns the input of a model that has one; None if it has several."""
    found = [spec for spec in inputs if spec.role == "input"]
    return found[0] if len(found) == 1 else None


def takes_one_label(target: Optional[TensorSpec]) -> bool:
    """Whether a target is one class index per sample."""
    if target is None or not target.takes_labels:
        return False
    return target.shape is None or all(size == 1 for size in target.shape[1:])


def one_value(value: float, spec: Optional[TensorSpec], place: str) -> LazyArray:
    """Returns one sample of a single number, of the dtype and rank of what it is for; a class index where that is not known."""
    rank = len(spec.shape) if spec is not None and spec.shape else 1
    dtype = np.dtype(spec.dtype if spec is not None else np.int64)
    return in_memory(np.full((1,) * rank, value, dtype), place)


def is_sample_file(path: Path) -> bool:
    """Whether the name of a file says that it holds an array."""
    return isinstance(format_of(path), ArrayFormat)


def sample_file(path: Path, kept: FileCache) -> LazyArray:
    """Opens a file that holds one sample.

    Raises:
        DataError: it does not, or cannot be read.
        RuntimeMissingError: the library for its format is not installed.
    """
    found = format_of(path)
    if not isinstance(found, ArrayFormat):
        suffixes = [suffix for each in of_kind(ArrayFormat) for suffix in each.suffixes]
        raise DataError(f"{path} is no file with one sample; expected one of {', '.join(suffixes)}")
    return open_file(found, path, kept)
