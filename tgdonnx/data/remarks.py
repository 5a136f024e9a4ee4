"""What is said of data: every conversion, and what could not be looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from tgdonnx.data.content import nbytes
from tgdonnx.data.layouts import View
from tgdonnx.data.lazy_arrays import Array
from tgdonnx.data.matching import SampleSet
from tgdonnx.data.options import DataOptions
from tgdonnx.data.scaling import Scaling, describe_linear
from tgdonnx.graphs.tensor_specs import TensorSpec


def conversions(
    sets: Sequence[SampleSet], inputs: Sequence[TensorSpec], options: DataOptions, scaling: Optional[Scaling]
) -> tuple[str, ...]:
    """Returns what is done to every input between file and batch, each thing once."""
    said = dict.fromkeys(
        remark
        for index, spec in enumerate(inputs)
        for remark in _of_input(spec, [sample_set.views[index] for sample_set in sets], options, scaling)
    )
    return tuple(said)


def left_out(sets: Sequence[SampleSet], inputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """Returns what is said of arrays that nothing takes, if there are any."""
    names = sorted({name for sample_set in sets for name in sample_set.unused})
    if not names:
        return ()
    named = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return (f"left out: {named}; what is taken is {', '.join(spec.name for spec in inputs)}",)


def describe_level(spec: TensorSpec, level: Array) -> str:
    """Returns what is said of an input that has one value for all samples."""
    said = f"{level.item():g}" if level.size == 1 else f"one value {list(level.shape)}"
    return f"{spec.name}: {said} in every batch"


def unseen(where: str, sets: Sequence[SampleSet]) -> str:
    """Returns what is said of data too large to look through."""
    return (
        f"{where}: {nbytes(sets) / 1e9:.1f} GB are too much to look through first; values are checked as they are read"
    )


def _of_input(
    spec: TensorSpec, views: Sequence[View], options: DataOptions, scaling: Optional[Scaling]
) -> Iterator[str]:
    for view in views:
        yield from view.stored.remarks
    first = views[0]
    if first.source != first.layout:
        yield f"{spec.name}: stored {first.source}, taken to {first.layout}"
    if first.stack > 1:
        yield (
            f"{spec.name}: {first.stack} neighbouring slices are the channels of a sample; at the ends of a volume the last "
            "slice is repeated"
        )
    linear = scaling.arrays.get(spec.name) if scaling is not None else None
    if linear is not None:
        dtypes = " and ".join(sorted({str(view.stored.dtype) for view in views}))
        if spec.dtype == "float32":
            yield f"{spec.name}: {describe_linear(linear, dtypes)}"
        elif dtypes != spec.dtype:
            yield f"{spec.name}: {dtypes} to {spec.dtype}, every value as it is"
    if isinstance(options.crop_target, tuple) and spec.role != "input":
        border = "x".join(map(str, options.crop_target))
        yield f"{spec.name}: {border} pixels at its border are left out, since the output lacks them"
    if options.augment and not first.space:
        yield f"{spec.name} has no axes of space and is not turned with the images"
