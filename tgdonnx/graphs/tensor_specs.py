"""What a step is fed: names, dtypes and shapes of its inputs, and which of them have an axis of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Optional

import onnx_ir as ir

from tgdonnx.files.typed import Positive

TARGET = "target"
"""The input that the one output that trains is compared with, and the array for it."""

Role = Literal["input", "target", "weights"]
"""Of the model, what an output is compared with, or what its elements count."""


@dataclass(frozen=True)
class TensorSpec:
    """What an input of the training model looks like.

    Attributes:
        name: the array for it; see `tgdonnx.artifacts.names`.
        dtype: its numpy dtype.
        shape: its dimensions; None where any size goes; None altogether when the rank is open.
        classes: of a target of class indices, how many there are; None where that is not known, and of all others.
        vendor_name: the vendor's input, or the output that a target is compared with, where that has another name than the
            array.
        role: what it is for. Inputs of the model come first, then targets, then weights.
    """

    name: str
    dtype: str
    shape: Optional[tuple[Optional[Positive], ...]]
    classes: Optional[Positive] = None
    vendor_name: Optional[str] = None
    role: Role = "input"

    @property
    def takes_labels(self) -> bool:
        """Whether it is a target of class indices."""
        return self.role == "target" and self.dtype == "int64"

    @property
    def array_names(self) -> tuple[str, ...]:
        """What arrays for it may be called: of a target also like the output that it is compared with."""
        return (self.name,) if self.role != "target" or self.vendor_name is None else (self.name, self.vendor_name)

    @classmethod
    def of(cls, value: ir.Value) -> TensorSpec:
        """Returns what an input of a graph looks like; one of no known type counts as float32."""
        dtype = value.dtype if value.dtype not in (None, ir.DataType.UNDEFINED) else ir.DataType.FLOAT
        shape = None if value.shape is None else tuple(d if isinstance(d, int) and d > 0 else None for d in value.shape)
        return cls(str(value.name), str(dtype.numpy()), shape)


def count_inputs(specs: Sequence[TensorSpec]) -> int:
    """Returns how many of the arrays of a step are inputs of the model; targets and weights come behind them."""
    return sum(spec.role == "input" for spec in specs)


def shared_inputs(inputs: Sequence[TensorSpec]) -> frozenset[int]:
    """Returns the places of those inputs that have no axis of samples, such as a noise level: a batch has one value of them.

    These are inputs without axes, and inputs whose first axis is of another size than the batch: fixed, where another input
    leaves the batch open, or of another length than the batch that the input with the most axes fixes.

    Args:
        inputs: what a step is fed, with or without the target, which has samples like the output.
    """
    places = [place for place, spec in enumerate(inputs) if spec.role == "input"]
    shapes = {place: inputs[place].shape for place in places}
    first = {place: shape[0] if shape else None for place, shape in shapes.items() if shape is None or shape}
    if not first:
        return frozenset(places)
    lead = max(first, key=lambda place: (len(shapes[place] or ()), first[place] != 1))
    batch = None if None in first.values() else first[lead]
    return frozenset(place for place in places if place not in first or first[place] != batch)


def fixed_batch(inputs: Sequence[TensorSpec]) -> Optional[int]:
    """Returns the batch size that inputs fix; None if any goes."""
    shared = shared_inputs(inputs)
    sampled = (spec.shape for place, spec in enumerate(inputs) if place not in shared)
    return next((shape[0] for shape in sampled if shape and shape[0] is not None), None)
