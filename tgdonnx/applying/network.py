"""A model as a function of images: what it takes, what it gives, and how the runtime runs it.

Images are handled as ``NCHW``, with as many axes of space as they have, also where the model takes them without an axis of
samples or channels; see `tgdonnx.applying.orienting`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from tgdonnx.applying.orienting import Orientation, orientation_of, taken_to
from tgdonnx.applying.reach import ReceptiveField
from tgdonnx.applying.receptive_field import receptive_field
from tgdonnx.data.layouts import SPACE, model_layout
from tgdonnx.errors import DataError
from tgdonnx.files.model_file import ModelSource
from tgdonnx.graphs.tensor_specs import TensorSpec
from tgdonnx.layers import Network, open_network
from tgdonnx.runtime import CPU, Device, InferenceModel, open_inference

Array = NDArray[Any]


@dataclass(frozen=True)
class ImageNetwork:
    """A model, and the outputs that are wanted of it.

    Attributes:
        inputs: what it takes, images as they are handled; float32 where the model takes floating-point numbers of any
            precision.
        outputs: the names of the outputs.
        precision: the numpy dtype that the model computes in, where that is not that of its image.
        network: the model, opened for analysis.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    precision: Optional[str]
    network: Network = field(repr=False)
    _opened: InferenceModel = field(repr=False)
    _orientations: Mapping[str, Orientation] = field(repr=False)
    _fields: dict[tuple[str, str], Union[ReceptiveField, str]] = field(default_factory=dict, repr=False)

    @property
    def image(self) -> TensorSpec:
        """The input whose axes the result has: the image with the most axes; the first input where none is an image."""
        return max(self.inputs, key=lambda spec: (is_image(spec), len(spec.shape or ())))

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Runs the model once on a batch.

        Args:
            feeds: an array for the name of each input, images as they are handled.
            outputs: the names of those that are wanted.

        Returns:
            These, as the model gives them, but float32 where they are of floating-point numbers.

        Raises:
            DataError: the model cannot be run on the data.
        """
        dtypes = {port.name: port.dtype for port in self._opened.inputs}
        fed = {name: self.fed(name, array).astype(dtypes[name], copy=False) for name, array in feeds.items()}
        found = zip(outputs, self._opened.run(fed, list(outputs)))
        return {name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in found}

    def fed(self, name: str, array: Array) -> Array:
        """Returns what an input is fed as the model takes it."""
        orientation = self._orientations.get(name)
        return array if orientation is None else orientation.to_model(array)

    def receptive_field(self, output: str, layout: str) -> Union[ReceptiveField, str]:
        """Returns the receptive field of an output, or why it has none.

        Args:
            output: its name.
            layout: of the image as it is handled, such as ``NCHW``; other images with as many axes have it too.

        Returns:
            Axes are those of the image as it is handled, and of the output as the model gives it.
        """
        if (output, layout) not in self._fields:
            self._fields[output, layout] = self._receptive_field(output, layout)
        return self._fields[output, layout]

    def _receptive_field(self, output: str, layout: str) -> Union[ReceptiveField, str]:
        if not any(letter in SPACE for letter in layout):
            return "the input has no axes of space"
        values = {str(value.name): value for value in self.network.graph.inputs}
        images = {}
        for spec in self.inputs:
            if spec.name == self.image.name or (is_image(spec) and len(spec.shape or ()) == len(layout)):
                letters = self.letters(spec.name, layout)
                space = {place: layout.index(x) for place, x in enumerate(letters) if x in SPACE}
                images[values[spec.name]] = space
        wanted = next(value for value in self.network.graph.outputs if value.name == output)
        return receptive_field(self.network, images, wanted)

    def letters(self, name: str, layout: str) -> str:
        """Returns the axes of an image in the model, by its layout as it is handled."""
        orientation = self._orientations.get(name)
        return layout if orientation is None else orientation.model


def is_image(spec: TensorSpec) -> bool:
    """Whether an input has axes of space."""
    return spec.shape is None or model_layout(spec, None) is not None


def restored(found: Array, letters: str, handled: str, space: Mapping[int, int], fed: Array) -> Optional[Array]:
    """Returns an output with the axes of the image as it is handled; None if it is no image.

    Args:
        found: the output.
        letters: the axes of the image in the model.
        handled: the layout of the image.
        space: for axes of the image the axes of the output that are these; empty where that is not known.
        fed: the image that the model was fed, as it is handled.
    """
    known = {place: handled[axis] for axis, place in space.items()}
    if known:
        rest = [place for place in range(found.ndim) if place not in known]
        names = {2: "NC", 1: "N" if "N" in letters else "C", 0: ""}.get(len(rest))
        if names is None:
            return None
        known.update(zip(rest, names))
        return taken_to(found, "".join(known[place] for place in range(found.ndim)), handled)
    if found.ndim == len(letters) and {"N", "C"} <= {*letters}:
        return taken_to(found, letters, handled)
    for source in (letters, handled, handled.replace("C", ""), handled.replace("N", "")):
        if found.ndim == len(source) and _same_space(dict(zip(source, found.shape)), handled, fed):
            return taken_to(found, source, handled)
    return None


def _same_space(sizes: Mapping[str, int], handled: str, fed: Array) -> bool:
    return all(sizes.get(letter) == size for letter, size in zip(handled, fed.shape) if letter in SPACE)


def open_image_network(
    model: ModelSource, outputs: Sequence[str] = (), device: Device = CPU, *, several: bool = False
) -> ImageNetwork:
    """Opens a model for images.

    Args:
        model: an ONNX file, a model in memory, or a file that was read.
        outputs: those that are wanted; all if none is named.
        device: where to run it.
        several: whether there may be several.

    Raises:
        ModelFileError: the model cannot be used or run.
        DataError: it takes what no image can be, has no such output, or several outputs are wanted and may not be.
        RuntimeMissingError: no onnxruntime is installed.
    """
    network = open_network(model)
    path = network.file.path
    opened = open_inference(network.file, device=device)
    given = opened.output_names
    for name in outputs:
        if name not in given:
            raise DataError(f"{path} has no output {name!r}; expected one of {', '.join(given)}")
    wanted = tuple(dict.fromkeys(outputs)) or given
    if len(wanted) > 1 and not several:
        raise DataError(
            f"{path} has several outputs ({', '.join(given)})",
            remedy="choose one with `outputs`, or write all of them as .npz",
        )
    values = {str(value.name): value for value in network.graph.inputs}
    specs, orientations = [], {}
    for port in opened.inputs:
        if port.dtype is None:
            raise DataError(
                f"{path} takes {port.kind} as {port.name!r}, which no image can be; expected a tensor of numbers"
            )
        # Floating-point models of any precision take float32 images, as they do in training.
        shape = port.shape
        if shape is None and values[port.name].shape is not None and not len(values[port.name].shape or ()):
            shape = ()  # the runtime does not tell a single number from an open rank
        orientation = orientation_of(network, values[port.name]) if shape else None
        if orientation is not None and shape is not None:
            orientations[port.name] = orientation
            shape = orientation.shape(shape)
        spec = TensorSpec(port.name, "float32" if np.dtype(port.dtype).kind == "f" else port.dtype, shape)
        specs.append(spec)
    found = ImageNetwork(tuple(specs), wanted, None, network, opened, orientations)
    dtype = next(port.dtype for port in opened.inputs if port.name == found.image.name)
    return replace(found, precision=dtype if dtype != found.image.dtype else None)
