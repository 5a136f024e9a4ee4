"""Outputs of the vendor's and of the tuned model, side by side: images, regions of classes, or the classes of pictures.

Of every sample one channel is shown, the middle one, and of a volume its middle slice: which channels are colours, slices or
something else, no file says. Only the pictures of a classifier that have three channels are shown in colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import Manifest
from tgdonnx.artifacts.manifest import Head
from tgdonnx.data import Dataset
from tgdonnx.evaluating.found import as_probabilities
from tgdonnx.evaluating.running import NotShownError, Runner, centre
from tgdonnx.finetuning.measures import Reader, class_names, readers_in
from tgdonnx.finetuning.metrics import is_plain
from tgdonnx.graphs.tensor_specs import count_inputs
from tgdonnx.reporting.png import Picture, colours, difference, factor, grey, labels, plane_of, window

Array = NDArray[Any]
MOST_SAMPLES, MOST_ANSWERS = 4, 12


@dataclass(frozen=True)
class Sample:
    """What the models make of one sample.

    Attributes:
        number: which, counted from 1 in the order of the data.
        name: what it is called.
        what: which part of it is shown, and of which output, where several train.
        pictures: input, outputs, difference, target.
        before: root mean square difference of the vendor's output from the target over all of the sample, or the share of its
            labels that are right.
        after: the same of the tuned model's.
        regions: whether outputs are labels.
    """

    number: int
    name: str
    what: str
    pictures: tuple[Picture, ...]
    before: float
    after: float
    regions: bool


@dataclass(frozen=True)
class Answer:
    """What the models say a picture is.

    Attributes:
        name: of the picture.
        picture: the input; None if it is no picture.
        wanted: its class.
        before: that of the vendor's model.
        before_probability: of this.
        after: that of the tuned model.
        after_probability: of this.
    """

    name: str
    picture: Optional[Picture]
    wanted: str
    before: str
    before_probability: float
    after: str
    after_probability: float


def shown_head(manifest: Manifest) -> Head:
    """Returns the output that is shown: the first that trains and is no scores of classes, or else the first."""
    return next((head for head in manifest.heads if head.formula.targets != "classes"), manifest.heads[0])


def show_samples(
    directory: Path, manifest: Manifest, runs: Sequence[Runner], dataset: Dataset
) -> tuple[Union[tuple[Sample, ...], tuple[Answer, ...]], tuple[str, ...]]:
    """Runs both models on the first samples of a data set, a classifier on some from all over it.

    Args:
        directory: the artifacts directory.
        manifest: of the artifacts.
        runs: the vendor's model and the tuned one; see `tgdonnx.evaluating.running`.
        dataset: the data.

    Returns:
        Samples, or of a classifier answers; and the names of labels from 0 on.

    Raises:
        NotShownError: outputs are neither images of the target's size nor classes, or the runtime cannot run a model.
    """
    head = shown_head(manifest)
    place, count = manifest.heads.index(head), count_inputs(manifest.inputs)
    reader = readers_in(directory, manifest)[place]
    several = f"output {head.output}, " if len(manifest.heads) > 1 else ""
    samples: list[Sample] = []
    answers: list[Answer] = []
    names: tuple[str, ...] = ()
    places, size = dataset.case_places(), manifest.fixed_batch or 1  # one by one: samples may differ in size
    several_per_sample = dataset.batch(size, 0)[manifest.place_of(head)].ndim > 1
    for number in _batches(-(-len(places) // size), spread=head.class_axis is not None and not several_per_sample):
        batch, done = dataset.batch(size, number), number * size
        inputs, target = batch[:count], batch[manifest.place_of(head)]
        before, after = (run(inputs)[place] for run in runs)
        plain, names = is_plain(reader.task, before.shape), _label_names(head, before.shape, dataset.options.classes)
        image = next((array for array in inputs if array.ndim > 2), None)
        for n in range(len(target)):
            name = dataset.cases[places[done]].name
            done += 1
            shown = None if image is None else image[n]
            if plain:
                answers.append(_answer(name, shown, target[n], before[n], after[n], names))
            else:
                samples.append(_sample(head, reader, (done, name, several), shown, (before, after, target), n))
        if len(samples) >= MOST_SAMPLES or len(answers) >= MOST_ANSWERS:
            break
    return tuple(samples[:MOST_SAMPLES]) or tuple(answers[:MOST_ANSWERS]), names


def _batches(count: int, *, spread: bool) -> list[int]:
    """Returns the batches to look at: the first ones, or ``spread``, of a classifier, whose data may be sorted by class."""
    if not spread or count <= MOST_ANSWERS:
        return list(range(count))
    return [int(number) for number in np.linspace(0, count - 1, MOST_ANSWERS).round()]


def _label_names(head: Head, shape: tuple[int, ...], known: Sequence[str]) -> tuple[str, ...]:
    """Returns how labels are called: of masks there are two in every channel."""
    names = class_names(head, shape, known)
    return names if head.class_axis is not None or not names else ("background", "object")


def _sample(
    head: Head,
    reader: Reader,
    called: tuple[int, str, str],
    image: Optional[Array],
    batch: tuple[Array, Array, Array],
    n: int,
) -> Sample:
    before, after, target = batch
    expected = head.target_shape(before.shape)
    target = centre(target, expected)
    axes = target.ndim + (reader.task == "classes")
    if axes not in (4, 5):
        raise NotShownError(f"Outputs have {axes} axes; images have 4 (samples, channels, height, width).")
    if target.shape != expected:
        raise NotShownError(f"The output has shape {list(before.shape)}, the target {list(target.shape)}.")
    image = None if image is None or image.ndim != axes - 1 else image
    number, name, several = called
    if reader.task == "values":
        pictures, what, numbers = _values(image, before[n], after[n], target[n])
    else:
        ignored = target[n] == reader.ignore if reader.ignore is not None else np.zeros(target[n].shape, bool)
        wanted = np.where(ignored, -1, reader.target(target)[n].astype(np.int64))
        found = [reader(output)[n].astype(np.int64) for output in (before, after)]
        if reader.task == "classes":  # masks have an axis of channels already
            found, wanted = [each[np.newaxis] for each in found], wanted[np.newaxis]
        pictures, what, numbers = _regions(image, found[0], found[1], wanted)
    return Sample(number, name, several + what, pictures, *numbers, regions=reader.task != "values")


def _values(
    image: Optional[Array], before: Array, after: Array, target: Array
) -> tuple[tuple[Picture, ...], str, tuple[float, float]]:
    shown, what = plane_of(target)
    low, high = window(shown)
    before, after = before.astype(np.float64), after.astype(np.float64)
    pictures = [] if image is None else [grey("input", plane_of(image)[0], low, high)]
    pictures += [
        grey("vendor's output", plane_of(before)[0], low, high),
        grey("tuned output", plane_of(after)[0], low, high),
        difference("tuned − vendor's", plane_of(after)[0] - plane_of(before)[0]),
        grey("target", shown, low, high),
    ]
    step = factor(shown.shape)
    if step > 1:
        what += f", reduced: each pixel is the mean of {step} × {step}"
    return tuple(pictures), what, (_rms(before - target), _rms(after - target))


def _regions(
    image: Optional[Array], before: Array, after: Array, wanted: Array
) -> tuple[tuple[Picture, ...], str, tuple[float, float]]:
    (target, what), (old, _), (new, _) = (plane_of(each) for each in (wanted, before, after))
    pictures = []
    if image is not None:
        shown = plane_of(image)[0]
        pictures.append(grey("input", shown, *window(shown)))
    pictures += [labels("vendor's output", old), labels("tuned output", new), labels("target", target)]
    counted = wanted >= 0
    right = [float(np.mean(found[counted] == wanted[counted])) if counted.any() else 0.0 for found in (before, after)]
    return tuple(pictures), what, (right[0], right[1])


def _answer(
    name: str, image: Optional[Array], target: Array, before: Array, after: Array, names: Sequence[str]
) -> Answer:
    picture = None
    if image is not None and image.ndim in (3, 4):
        if image.ndim == 3 and len(image) == 3:
            picture = colours("input", image)
        else:
            plane = plane_of(image)[0]
            picture = grey("input", plane, *window(plane))
    old, new = (as_probabilities(scores[np.newaxis])[0] for scores in (before, after))
    wanted = int(target)
    return Answer(
        name,
        picture,
        names[wanted] if 0 <= wanted < len(names) else "not labelled",
        names[int(old.argmax())],
        float(old.max()),
        names[int(new.argmax())],
        float(new.max()),
    )


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
