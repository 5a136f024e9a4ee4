"""Which of the two networks in a gated file a case goes to: one decision for the whole image, volume or stack.

The detector sees every sample of the case whole, or tile by tile where the model takes one size only. The case is new if more
than half of these are; a tie, and whatever the detector cannot judge, goes to the vendor's side. Pictures that are classified
are cases of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import numpy as np

from tgdonnx.applying.feeding import Case
from tgdonnx.applying.network import ImageNetwork
from tgdonnx.applying.tiles import Tile
from tgdonnx.data.layouts import SPACE
from tgdonnx.data.lazy_arrays import Array
from tgdonnx.files.model_file import ModelFile
from tgdonnx.gated_model.record import GateRecord
from tgdonnx.gated_model.settling import judging
from tgdonnx.runtime import Device, open_inference


@dataclass(frozen=True)
class GateDecision:
    """What the detector of a gated file says of a case.

    Attributes:
        is_new: whether the tuned network answers.
        new: how many of its samples, or tiles of them, are new.
        judged: how many there are.
        threshold: a sample is new if its residual is below.
        layer: the layer in front of which the detector looks.
        residuals: of every sample, in order.
    """

    is_new: bool
    new: int
    judged: int
    threshold: float
    layer: str
    residuals: tuple[float, ...] = field(repr=False)


def decision_file(output: Path) -> Path:
    """Returns where the decision is written that a result was made by."""
    return output.with_name(f"{output.name}.gate.json")


def residual_by(file: ModelFile, network: ImageNetwork, device: Device) -> Callable[[Mapping[str, Array]], float]:
    """Returns what gives the detector's residual for a sample: for a batch of it, repeated where the model takes more than one.

    Args:
        file: the gated file, with a detector.
        network: the tuned network in it.
        device: where it runs.

    Raises:
        ModelFileError: the file is not as gate writes it.
    """
    model, output = judging(file)
    opened = open_inference(model, device=device)
    dtypes = {port.name: np.dtype(port.dtype or "float32") for port in opened.inputs}

    def residual(feeds: Mapping[str, Array]) -> float:
        fed = {name: network.fed(name, feeds[name]).astype(dtype, copy=False) for name, dtype in dtypes.items()}
        (found,) = opened.run(fed, [output])
        return float(found.reshape(-1)[0])

    return residual


def decide(
    file: ModelFile,
    record: GateRecord,
    network: ImageNetwork,
    case: Case,
    plan: Sequence[Sequence[Tile]],
    device: Device,
) -> Optional[GateDecision]:
    """Returns what the detector says; None if the file has none.

    Args:
        file: the gated file.
        record: its record.
        network: the tuned network in it.
        case: the data.
        plan: per axis of space the tiles, for models that take one size.
        device: where it runs.

    Raises:
        DataError: the model cannot be run on the case.
        ModelFileError: the file is not as gate writes it.
    """
    if record.detector is None:
        return None
    residual, view = residual_by(file, network, device), case.view
    letters = [letter for letter in view.axes if letter in SPACE]
    sizes = network.image.shape or ()
    fixed = any(size is not None for letter, size in zip(f"N{view.axes}", sizes) if letter in SPACE)
    windows = [
        {letter: slice(tile.start, tile.stop) for letter, tile in zip(letters, tiles)}
        for tiles in (itertools.product(*plan) if fixed else [()])
    ]
    residuals = [
        residual(case.feeds([sample], window or None))
        for sample, window in itertools.product(range(view.count), windows)
    ]
    threshold = record.detector.threshold
    new = sum(residual < threshold for residual in residuals)
    return GateDecision(
        2 * new > len(residuals), new, len(residuals), threshold, record.detector.layer, tuple(residuals)
    )
