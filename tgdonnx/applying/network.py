"""A model as a function of an image: what it takes, what it gives, and how the runtime runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from tgdonnx.applying.reach import ReceptiveField
from tgdonnx.applying.receptive_field import receptive_field
from tgdonnx.data.layouts import SPACE
from tgdonnx.errors import DataError
from tgdonnx.files.model_file import ModelSource
from tgdonnx.graphs.tensor_specs import TensorSpec
from tgdonnx.layers import Network, open_network
from tgdonnx.runtime import CPU, Device, open_inference

Array = NDArray[Any]


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


def open_image_network(model: ModelSource, output: Optional[str] = None, device: Device = CPU) -> ImageNetwork:
    """Opens a model for images.

    Args:
        model: an ONNX file, a model in memory, or a file that was read.
        output: the output to take; there may be only one, if None.
        device: where to run it.

    Raises:
        ModelFileError: the model cannot be used or run.
        DataError: it has several inputs, or several outputs and none is named.
        RuntimeMissingError: no onnxruntime is installed.
    """
    network = open_network(model)
    model = network.file.path
    opened = open_inference(network.file, device=device)
    taken, given = opened.inputs, opened.output_names
    if len(taken) != 1:
        names = ", ".join(value.name for value in taken)
        raise DataError(f"{model} takes {len(taken)} inputs ({names}); expected a model of one image")
    if output is None and len(given) > 1:
        raise DataError(f"{model} has several outputs ({', '.join(given)})", remedy="choose one with `output_name`")
    if output is not None and output not in given:
        raise DataError(f"{model} has no output {output!r}; expected one of {', '.join(given)}")
    port = taken[0]
    if port.dtype is None:
        raise DataError(
            f"{model} takes {port.kind} as {port.name!r}, which no image can be; expected a tensor of numbers"
        )
    dtype = np.dtype(port.dtype)
    # Floating-point models of any precision take float32 images, as they do in training.
    spec = TensorSpec(port.name, "float32" if dtype.kind == "f" else port.dtype, port.shape)
    chosen = output or given[0]

    def run(batch: Array) -> Array:
        (found,) = opened.run({port.name: batch.astype(dtype, copy=False)}, [chosen])
        result: Array = found.astype(np.float32) if found.dtype.kind == "f" else found
        return result

    precision = str(dtype) if str(dtype) != spec.dtype else None
    return ImageNetwork(spec, chosen, precision, run, network)
