"""Arrays where they lie, read a region at a time.

Every format gives a `LazyArray`: shape and dtype are known, values are read when they are asked for. An `ArrayGroup` is what
one file, or one set of files of the same name, holds: one array per name. Groups, which the guides call cases, are what a
validation split divides.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.errors import DataError

Array = NDArray[Any]
Region = tuple[slice, ...]

BLOCK_BYTES = 2**24
UNKNOWN = "?"  # a layout that the user has to say


@dataclass(frozen=True)
class LazyArray:
    """One array in a file.

    Attributes:
        place: where it lies, for messages.
        shape: its dimensions.
        dtype: what `read` gives.
        read: returns a region: one slice per axis, start and stop within the shape, step 1. Raises `DataError`.
        layout: what its axes are, where the format says it; `UNKNOWN` where the user has to.
        orientation: how it lies in space, where the format says it.
        files: the files that it is read from.
        remarks: what was done to its values, or is worth knowing.
        in_colour: the same in RGB, of a picture that `read` refuses because nobody asked for a conversion; else None.
        keep: returns what is kept under a key, or makes it and keeps it in place of the array's own values, of a format that
            keeps some; else None.
    """

    place: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[Region], Array] = field(repr=False)
    layout: Optional[str] = None
    orientation: Optional[str] = None
    files: tuple[Path, ...] = field(default=(), repr=False)
    remarks: tuple[str, ...] = ()
    in_colour: Optional[LazyArray] = field(default=None, repr=False)
    keep: Optional[Callable[[Hashable, Callable[[], Array]], Array]] = field(default=None, repr=False)

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return int(self.dtype.itemsize) * math.prod(self.shape)


@dataclass(frozen=True)
class ArrayGroup:
    """What belongs together: one array per name; or in order, where the names are only numbers.

    ``columns`` are what a table's other columns say of it, by their names.
    """

    name: str
    arrays: Mapping[str, LazyArray]
    in_order: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)


def whole(shape: tuple[int, ...]) -> Region:
    """Returns the region that is everything."""
    return tuple(slice(0, size) for size in shape)


def regions(shape: tuple[int, ...], itemsize: int) -> Iterator[Region]:
    """Yields regions of at most `BLOCK_BYTES` that together are everything, in order of the first axes."""
    done: Region = ()
    rest = shape

    def split(done: Region, rest: tuple[int, ...]) -> Iterator[Region]:
        row = itemsize * math.prod(rest[1:])
        if not rest or row * rest[0] <= BLOCK_BYTES:
            yield (*done, *whole(rest))
        elif row > BLOCK_BYTES:
            for index in range(rest[0]):
                yield from split((*done, slice(index, index + 1)), rest[1:])
        else:
            rows = max(1, BLOCK_BYTES // row)
            for start in range(0, rest[0], rows):
                yield (*done, slice(start, min(rest[0], start + rows)), *whole(rest[1:]))

    return split(done, rest)


def read_finite(stored: LazyArray, region: Region, name: str) -> Array:
    """Reads a region and refuses NaN and infinity in it.

    Args:
        stored: the array.
        region: what to read.
        name: the array's, for the message.

    Raises:
        DataError: it cannot be read, or a value is not finite.
    """
    size, memory = int(stored.dtype.itemsize) * math.prod(part.stop - part.start for part in region), machine_memory()
    if memory is not None and size > memory:
        raise _too_large(stored, name, size)
    try:
        values = np.asarray(stored.read(region))  # of an array without axes numpy gives a scalar
    except MemoryError as error:
        raise _too_large(stored, name, size) from error
    if values.dtype.kind in "fc":
        finite = np.isfinite(values)
        if not finite.all():
            at = np.argwhere(~finite)[0]
            index = [int(i) + part.start for i, part in zip(at, region)]
            raise DataError(
                f"{stored.place}: {name}{index} is {values[tuple(at)]}", remedy="remove or repair this sample"
            )
    return values


def _too_large(stored: LazyArray, name: str, size: int) -> DataError:
    return DataError(
        f"{stored.place}: {name} would take {size / 2**30:.1f} GiB at once, more than there is memory; read it in patches "
        "(`patch`), or make its samples smaller"
    )


@functools.lru_cache(maxsize=1)
def machine_memory() -> Optional[int]:
    """Returns the bytes of memory of this machine, where the system says it."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows; systems that do not know the names
        return None
