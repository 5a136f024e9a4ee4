"""What the last record says of the data: how it is prepared, what classes are called, and at which sites it lies.

`tgdonnx.applying` goes by it. No byte of the network depends on it, so nothing proves it; but names must be as many as the
output has classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

import onnx

from tgdonnx.artifacts.losses import class_axis, parse_criterion
from tgdonnx.data.class_names import check_classes, shown
from tgdonnx.errors import ArtifactsError, DataError
from tgdonnx.files.model_file import ModelFile
from tgdonnx.layers import Network
from tgdonnx.layers.inference import InferShapes
from tgdonnx.lowering.conv_transpose_pads import ExplicitConvTransposePads
from tgdonnx.records import FederationPart, PreparationPart, Training, earlier_rounds, last_training


def told_of_data(base: onnx.ModelProto, tuned: onnx.ModelProto) -> tuple[str, ...]:
    """Returns what the last record since a base says of the data, in sentences; nothing where it does not say."""
    training = _last(base, tuned)
    if training is None:
        return ()
    found = []
    if training.preparation is not None:
        found.append(f"data is prepared as {'; '.join(_preparation(training.preparation))}")
    if training.classes:
        found.append(f"classes are called {shown([*map(repr, training.classes)])}")
    told = [f"{told}: that is the record's own word, by which the file is applied" for told in found]
    if training.federation is not None:
        told.append(f"{_federation(training.federation)}: that is the record's own word")
    return tuple(told)


def wrong_names(network: Network, tuned: ModelFile) -> tuple[str, ...]:
    """Says where the last record since a base names more or fewer classes than the output has, where that is known.

    Args:
        network: the base.
        tuned: the tuned file, whose records can be read.
    """
    training = _last(network.file.proto, tuned.proto)
    if training is None or not training.classes:
        return ()
    try:
        check_classes(training.classes)
    except DataError as error:
        return (f"the record in the tuned file: {error}",)
    count = _classes(network, training)
    if count is None or count == len(training.classes):
        return ()
    named = "1 class" if len(training.classes) == 1 else f"{len(training.classes)} classes"
    return (f"the record in the tuned file names {named} ({shown(training.classes)}), the model has {count}",)


def _last(base: onnx.ModelProto, tuned: onnx.ModelProto) -> Optional[Training]:
    return last_training(tuned) if earlier_rounds(tuned) > earlier_rounds(base) else None


def _classes(network: Network, training: Training) -> Optional[int]:
    """Returns how many classes the one output tells apart that was compared with labels; None where that is not known."""
    try:
        parts = parse_criterion(training.loss or "").parts
    except ArtifactsError:
        return None
    parts = tuple(part for part in parts if part.loss.targets == "classes")
    if len(parts) != 1:
        return None
    model = network.clone().model  # inference and spelling change it
    ExplicitConvTransposePads()(model)
    InferShapes()(model)  # what a file declares is wrong in many
    outputs = {str(value.name): value for value in model.graph.outputs}
    name = parts[0].output or training.output or (next(iter(outputs)) if len(outputs) == 1 else "")
    shape = outputs[name].shape if name in outputs else None
    if shape is None:
        return None
    axis = class_axis(outputs[name], parts[0].loss.axis).axis
    size = shape[axis] if 1 <= axis < len(shape) else None
    return size if isinstance(size, int) else None


def _preparation(part: PreparationPart) -> Iterator[str]:
    for name, each in part.scaling.items():
        then = f", less {each.mean}, by {each.std}" if each.mean else ""
        yield f"{name!r} less {each.offset:g}, by {each.divisor:g}{then}"
    if part.resize:
        yield f"pictures of {_size(part.resize)} ({part.resample!r})"
    if part.crop:
        yield f"their middle of {_size(part.crop)}"
    if part.colour is not None:
        yield f"colours {part.colour!r}"


def _federation(part: FederationPart) -> str:
    if not part.rounds:
        return "no round of federated training did better than the start"
    sites = "; ".join(
        f"{site.name!r} ({site.samples:,} sample{'' if site.samples == 1 else 's'}, {site.rounds} of the rounds)"
        for site in part.sites
    )
    rounds, at = ("round" if part.rounds == 1 else "rounds"), ("site" if len(part.sites) == 1 else "sites")
    return f"trained in {part.rounds} {rounds} at {len(part.sites)} {at}: {sites}"


def _size(sizes: list[int]) -> str:
    return "x".join(map(str, sizes))
