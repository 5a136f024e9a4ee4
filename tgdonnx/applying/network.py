"""A model as a function of an image: what it takes, what it gives, and how the runtime runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from tgdonnx.applying.reach import ReceptiveField
from tgdonnx.applying.receptive_field import receptive_field
from tgdonnx.artifacts.manifest import TensorSpec
from tgdonnx.artifacts.runtime import load_onnxruntime
from tgdonnx.data.layouts import SPACE
from tgdonnx.errors import DataError, ModelFileError
from tgdonnx.layers import Network, open_network
from tgdonnx.modelfile import StrPath, require_external_data

Array = NDArray[Any]
# Floating-point models of any precision take float32 images, as they do in training.
_FLOATS = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(double)": np.float64}


@dataclass(frozen=True)
class ImageNetwork:
    """A model with one input, an image, and the output that is wanted of it.

    Attributes:
        input: what it takes; float32 where the model takes floating-point numbers of any precision.
        output: the name of the output.
        precision: the numpy dtype that the model computes in, where that is not the input's.
        run: gives the output for a batch, float32 where it is of floating-point numbers. Raises `DataError`.
        network: the model, opened for analysis.
    """

    input: TensorSpec
    output: str
    precision: Optional[str]
    run: Callable[[Array], Array] = field(repr=False)
    network: Network = field(repr=False)

    def receptive_field(self, layout: str) -> Union[ReceptiveField, str]:
        """Returns the receptive field of the output, or why it has none; ``layout`` is the input's, such as ``NCHW``."""
        output = next(value for value in self.network.graph.outputs if value.name == self.output)
        space = {axis: axis for axis, letter in enumerate(layout) if letter in SPACE}
        if not space:
            return "the input has no axes of space"
        return receptive_field(self.network, space, output)


def open_image_network(model: StrPath, output: Optional[str] = None) -> ImageNetwork:
    """Opens a model for images.

    Args:
        model: an ONNX file.
        output: the output to take; there may be only one, if None.

    Raises:
        ModelFileError: the model cannot be used or run.
        DataError: it has several inputs, or several outputs and none is named.
        RuntimeMissingError: no onnxruntime is installed.
    """
    network = open_network(model)
    require_external_data(network.file)
    runtime = load_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = runtime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises its own types, which share no base
        raise ModelFileError(f"ONNX Runtime cannot run {model}: {_first_line(error)}") from error
    taken, given = session.get_inputs(), [value.name for value in session.get_outputs()]
    if len(taken) != 1:
        names = ", ".join(value.name for value in taken)
        raise DataError(f"{model} takes {len(taken)} inputs ({names}); expected a model of one image")
    if output is None and len(given) > 1:
        raise DataError(f"{model} has several outputs ({', '.join(given)}); choose one with --output")
    if output is not None and output not in given:
        raise DataError(f"{model} has no output {output!r}; expected one of {', '.join(given)}")
    name, kind = taken[0].name, taken[0].type
    shape = tuple(d if isinstance(d, int) and d > 0 else None for d in taken[0].shape) or None
    dtype = np.dtype(_FLOATS.get(kind) or kind[7:-1])
    spec = TensorSpec(name, "float32" if kind in _FLOATS else str(dtype), shape)
    chosen = output or given[0]

    def run(batch: Array) -> Array:
        try:
            (found,) = session.run([chosen], {name: batch.astype(dtype, copy=False)})
        except Exception as error:
            raise DataError(
                f"the model does not run on an image of shape {list(batch.shape)}: {_first_line(error)}"
            ) from error
        result: Array = found.astype(np.float32) if found.dtype.kind == "f" else found
        return result

    precision = str(dtype) if str(dtype) != spec.dtype else None
    return ImageNetwork(spec, chosen, precision, run, network)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
