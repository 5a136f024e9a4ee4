"""Outputs of the vendor's and of the tuned model, side by side, for models from images to images.

Of every sample one channel is shown, the middle one, and of a volume its middle slice: which channels are colours, slices or
something else, no file says. Pictures larger than a page needs are reduced by whole factors; a pixel is then the mean of a
square.
"""

from __future__ import annotations

import base64
import importlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import Manifest
from tgdonnx.artifacts.manifest import Head
from tgdonnx.data import Dataset
from tgdonnx.errors import DataError, ModelFileError, TgdonnxError
from tgdonnx.files.model_file import ModelFile
from tgdonnx.graphs.tensor_specs import count_inputs
from tgdonnx.runtime import CPU, Device, open_inference

Array = NDArray[Any]
Runner = Callable[[Sequence[Array]], NDArray[np.float64]]
MOST_SAMPLES = 4
MOST_SIDE = 256  # pixels; 20 pictures of this size take 1.7 MB at worst, as base 64
_PERCENTILES = (0.5, 99.5)
_FLOATS = ("float16", "float32", "float64")


class NoPicturesError(TgdonnxError):
    """There is nothing to show; the message says why, for the page."""


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        title: what it shows.
        url: a PNG, as a data URL.
        low: the value that is black, or in a difference the bluest.
        high: the value that is white, or in a difference the reddest.
    """

    title: str
    url: str
    low: float
    high: float


@dataclass(frozen=True)
class Sample:
    """What the models make of one sample.

    Attributes:
        number: which, counted from 1 in the order of the data.
        what: which part of it is shown, and of which output, where several train.
        pictures: input, outputs, difference, target.
        before: root mean square difference of the vendor's output from the target, over all of the sample.
        after: the same of the tuned model's.
    """

    number: int
    what: str
    pictures: tuple[Picture, ...]
    before: float
    after: float


class Runners:
    """Models as functions of the inputs of a batch, that give the output of `shown_head`; each is opened once, if at all."""

    def __init__(self, manifest: Manifest, device: Device = CPU) -> None:
        """Takes the manifest of the artifacts, which says what the models are fed, and where they run."""
        self.manifest, self._device = manifest, device
        self._opened: dict[tuple[Path, str], Runner] = {}

    def of(self, file: ModelFile) -> Runner:
        """Returns a model, as such a function.

        Raises:
            NoPicturesError: the runtime cannot load it; the function raises it where it cannot be run.
        """
        key = file.path, file.sha256  # two models in memory have one path
        if key not in self._opened:
            self._opened[key] = _runner(file, self.manifest, shown_head(self.manifest).output, self._device)
        return self._opened[key]


def shown_head(manifest: Manifest) -> Head:
    """Returns the output that is shown: the first that trains and is no scores of classes.

    Raises:
        NoPicturesError: all are scores of classes.
    """
    head = next((head for head in manifest.heads if head.formula.targets != "classes"), None)
    if head is None:
        raise NoPicturesError("Outputs are scores of classes, not images.")
    return head


def show_samples(base: ModelFile, tuned: ModelFile, runners: Runners, dataset: Dataset) -> tuple[Sample, ...]:
    """Runs both models on the first samples of a data set.

    Args:
        base: the vendor's model.
        tuned: the tuned model.
        runners: run them.
        dataset: the data.

    Raises:
        NoPicturesError: outputs are no images of the target's size, or the runtime cannot run a model.
    """
    manifest = runners.manifest
    head, count = shown_head(manifest), count_inputs(manifest.inputs)
    several = f"output {head.output}, " if len(manifest.heads) > 1 else ""
    run_base, run_tuned = runners.of(base), runners.of(tuned)
    samples: list[Sample] = []
    for batch in dataset.batches(manifest.fixed_batch or 1):  # one by one: samples may differ in size
        inputs, target = batch[:count], batch[manifest.place_of(head)]
        if target.ndim not in (4, 5):
            raise NoPicturesError(f"Outputs have {target.ndim} axes; images have 4 (samples, channels, height, width).")
        before, after = run_base(inputs), run_tuned(inputs)
        target = _centre(target, before.shape)
        if before.shape != target.shape:
            raise NoPicturesError(f"The output has shape {list(before.shape)}, the target {list(target.shape)}.")
        image = next((array for array in inputs if array.ndim == target.ndim), None)
        for n in range(len(target)):
            shown = None if image is None else image[n]
            sample = _sample(len(samples), shown, before[n], after[n], target[n])
            samples.append(replace(sample, what=f"{several}{sample.what}"))
        if len(samples) >= MOST_SAMPLES:
            break
    return tuple(samples[:MOST_SAMPLES])


def _centre(target: Array, shape: tuple[int, ...]) -> Array:
    """Returns the centre of targets that are larger than outputs, as a run takes it (`crop_target`)."""
    if target.ndim != len(shape) or target.shape[:2] != shape[:2] or any(a < b for a, b in zip(target.shape, shape)):
        return target
    starts = [(a - b) // 2 for a, b in zip(target.shape, shape)]
    return target[tuple(slice(start, start + size) for start, size in zip(starts, shape))]


def _runner(file: ModelFile, manifest: Manifest, output_name: str, device: Device) -> Runner:
    try:
        model = open_inference(file, device=device)
    except ModelFileError as error:
        raise NoPicturesError(f"{error}.") from error
    types = {port.name: port.dtype for port in model.inputs if port.dtype in _FLOATS}

    def run(arrays: Sequence[Array]) -> NDArray[np.float64]:
        given = [(spec.vendor_name or spec.name, array) for spec, array in zip(manifest.inputs, arrays)]
        feeds = {name: array.astype(types.get(name) or array.dtype) for name, array in given}
        try:
            (output,) = model.run(feeds, [output_name])
        except DataError as error:
            raise NoPicturesError(f"{error}.") from error
        result: NDArray[np.float64] = output.astype(np.float64)
        return result

    return run


def _sample(number: int, image: Optional[Array], before: Array, after: Array, target: Array) -> Sample:
    shown, what = _plane(target)
    low, high = _window(shown)
    change = _plane(after)[0] - _plane(before)[0]
    most = float(np.percentile(np.abs(change), _PERCENTILES[1])) or float(np.abs(change).max()) or 1.0
    pictures = [] if image is None else [_grey("input", _plane(image)[0], low, high)]
    pictures += [
        _grey("vendor's output", _plane(before)[0], low, high),
        _grey("tuned output", _plane(after)[0], low, high),
        Picture("tuned − vendor's", _png(change, -most, most, _diverging()), -most, most),
        _grey("target", shown, low, high),
    ]
    factor = _factor(shown.shape)
    if factor > 1:
        what += f", reduced: each pixel is the mean of {factor} × {factor}"
    return Sample(number + 1, what, tuple(pictures), _rms(before - target), _rms(after - target))


def _plane(array: Array) -> tuple[NDArray[np.float64], str]:
    """Returns the middle of an array of shape (channels, [depth,] height, width), and which part that is."""
    channels, *depth = array.shape[:-2]
    parts = [f"channel {channels // 2 + 1} of {channels}"] if channels > 1 else []
    plane = array[channels // 2]
    if depth:
        parts.append(f"slice {depth[0] // 2 + 1} of {depth[0]}")
        plane = plane[depth[0] // 2]
    parts.append(f"{plane.shape[1]} × {plane.shape[0]} pixels")
    return plane.astype(np.float64), ", ".join(parts)


def _window(plane: NDArray[np.float64]) -> tuple[float, float]:
    low, high = (float(value) for value in np.percentile(plane, _PERCENTILES))
    if high <= low:
        low, high = float(plane.min()), float(plane.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _grey(title: str, plane: NDArray[np.float64], low: float, high: float) -> Picture:
    return Picture(title, _png(plane, low, high, None), low, high)


def _png(plane: NDArray[np.float64], low: float, high: float, palette: Optional[list[int]]) -> str:
    factor = _factor(plane.shape)
    height, width = (max(1, side // factor) for side in plane.shape)
    cut = plane[: height * factor, : width * factor]
    means = cut.reshape(height, min(factor, cut.shape[0]), width, min(factor, cut.shape[1])).mean(axis=(1, 3))
    levels = np.round(np.clip((means - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    picture = importlib.import_module("PIL.Image").fromarray(levels)
    if palette is not None:
        picture.putpalette(palette)
    content = io.BytesIO()
    picture.save(content, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _factor(shape: tuple[int, ...]) -> int:
    """Returns by which factor pictures are reduced that may be a little larger, as inputs with a margin are."""
    return max(1, round(max(shape) / MOST_SIDE + 0.4))


def _diverging() -> list[int]:
    """Returns 256 colours from blue over white to vermilion (Okabe and Ito), as red, green, blue in turn."""
    ends = np.array([[0, 114, 178], [255, 255, 255], [213, 94, 0]], np.float64)
    colours = [np.interp(np.linspace(0, 2, 256), (0, 1, 2), ends[:, c]) for c in range(3)]
    return [int(value) for value in np.round(np.stack(colours, 1)).reshape(-1)]


def _rms(difference: Array) -> float:
    return float(np.sqrt(np.mean(np.square(difference))))
