"""What an output is, and what becomes of it: an image in the units of the data, scores, probabilities or classes.

    image          scaling of the data is undone
    scores         as the model gives them; no scaling is ever undone
    probabilities  softmax over several channels, sigmoid of one, unless the model ends in it
    classes        the channel of the largest score; of one channel 1 where its probability is above 1/2

What is not said follows from what the output was compared with in training, where that is known. Else it is scores if the model
ends in Sigmoid or Softmax, or if it has several channels and not as many as the image; classes if the model gives them, in 32
or 64 bits; and else an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Optional, get_args

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from tgdonnx.artifacts.losses import Targets
from tgdonnx.data.scaling import Linear
from tgdonnx.errors import DataError
from tgdonnx.graphs.operators import is_standard

Array = NDArray[Any]
Form = Literal["image", "scores", "probabilities", "classes"]
FORMS: tuple[Form, ...] = get_args(Form)
Activation = Literal["Sigmoid", "Softmax"]

_PASSING = ("Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten")


def check_form(form: Optional[str]) -> None:
    """Checks what a user says.

    Raises:
        DataError: it is no form.
    """
    if form is not None and form not in FORMS:
        raise DataError(f"expected results as {', '.join(FORMS)}, got {form!r}")


@dataclass(frozen=True)
class OutputKind:
    """What is known of an output before the model runs.

    Attributes:
        name: of the output.
        form: what is asked for; None if nothing is.
        targets: what it was compared with in training; None where that is not known.
        activation: what the model ends in there.
        scaling: of what it is like; None if nothing is scaled.
    """

    name: str
    form: Optional[Form]
    targets: Optional[Targets]
    activation: Optional[Activation]
    scaling: Optional[Linear]

    def shaping(self, found: Array, image_channels: int, axis: Optional[int]) -> Shaping:
        """Returns what becomes of the output.

        Args:
            found: it, as the model gives it for some samples.
            image_channels: of the image.
            axis: of its channels; None where it is no image.
        """
        form, reason = self._form(found, image_channels, axis)
        return Shaping(form, reason, self.activation, self.scaling if form == "image" else None)

    def _form(self, found: Array, image_channels: int, axis: Optional[int]) -> tuple[Form, str]:
        if self.form is not None:
            return self.form, "as is asked for"
        if self.targets is not None:
            compared = {"values": "values", "probabilities": "masks", "classes": "classes"}[self.targets]
            return ("image" if self.targets == "values" else "scores"), f"it was trained on {compared}"
        if axis is None:
            return "scores", "it is no image"
        if self.activation is not None:
            return "scores", f"the model ends in {self.activation}"
        if found.dtype.kind != "f":
            labels = found.dtype in (np.int32, np.int64) and found.shape[axis] == 1
            return ("classes" if labels else "image"), f"the model gives {found.dtype}"
        if found.shape[axis] not in (1, image_channels):
            return "scores", f"it has {found.shape[axis]} channels, the image {image_channels}"
        return "image", ""


@dataclass(frozen=True)
class Shaping:
    """What becomes of an output.

    Attributes:
        form: what it becomes.
        reason: why, in words.
        activation: what the model ends in.
        undone: the scaling that is undone; None for none.
    """

    form: Form
    reason: str
    activation: Optional[Activation]
    undone: Optional[Linear]

    def apply(self, found: Array, axis: Optional[int]) -> Array:
        """Returns what becomes of an output, or of a part of it.

        Args:
            found: the output.
            axis: that of channels; None if it has none.

        Raises:
            DataError: it has none, and classes are asked for.
        """
        if self.undone is not None and found.dtype.kind == "f":
            return self.undone.undo(found, 1 if axis is None else axis)
        if self.form in ("image", "scores"):
            return found
        if found.dtype.kind != "f":
            return _labels(found) if self.form == "classes" else found
        if axis is None:
            raise DataError(f"the output has no axis of channels; expected one for results as {self.form}")
        channels = found.shape[axis]
        if self.form == "probabilities":
            return found if self.activation is not None else _probabilities(found, axis)
        if channels == 1:
            return (found > (0 if self.activation is None else 0.5)).astype(np.uint8)
        classes: Array = found.argmax(axis, keepdims=True).astype(np.uint8 if channels <= 256 else np.uint16)
        return classes


def _labels(found: Array) -> Array:
    """Returns classes that the model itself gives, in as few bits as hold any."""
    if found.dtype == np.uint8:
        return found
    if found.size and not 0 <= found.min() <= found.max() <= np.iinfo(np.uint16).max:
        raise DataError(
            f"expected classes of 0 to {np.iinfo(np.uint16).max}, the model gives {found.min()} to {found.max()}",
            remedy="take them as they are (`form='scores'`)",
        )
    return found.astype(np.uint16)


def _probabilities(found: Array, axis: int) -> Array:
    values = found.astype(np.float64)
    if found.shape[axis] == 1:
        powers = np.exp(-np.abs(values))  # does not overflow
        return np.where(values >= 0, 1 / (1 + powers), powers / (1 + powers)).astype(found.dtype)
    powers = np.exp(values - values.max(axis, keepdims=True))
    normalised: Array = (powers / powers.sum(axis, keepdims=True)).astype(found.dtype)
    return normalised


def activation_of(output: ir.Value) -> Optional[Activation]:
    """Returns the Sigmoid or Softmax that a model ends in, before nodes that only move or cast; None if it ends otherwise."""
    node = output.producer()
    while node is not None and is_standard(node) and node.op_type in _PASSING:
        value = node.inputs[0]
        node = None if value is None else value.producer()
    if node is None or not is_standard(node):
        return None
    return next((kind for kind in get_args(Activation) if kind == node.op_type), None)
