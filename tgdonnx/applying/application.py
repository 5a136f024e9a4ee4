"""A model applied to images, volumes and stacks of images, by tiles where it has a receptive field."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Optional, Union

from tgdonnx.applying.assembling import Assembly
from tgdonnx.applying.cases import Cases, open_cases, require_sizes
from tgdonnx.applying.collecting import Applied
from tgdonnx.applying.deciding import GateDecision, decide
from tgdonnx.applying.feeding import Case
from tgdonnx.applying.forms import OutputKind, activation_of
from tgdonnx.applying.imagefiles import Made
from tgdonnx.applying.network import ImageNetwork, open_image_network
from tgdonnx.applying.options import ApplyOptions
from tgdonnx.applying.preparing import Preparation, preparation_of
from tgdonnx.applying.reach import ReceptiveField
from tgdonnx.applying.tiles import Tile, cut
from tgdonnx.data.layouts import SPACE
from tgdonnx.data.options import DataOptions
from tgdonnx.errors import DataError
from tgdonnx.files.model_file import ModelFile, StrPath
from tgdonnx.gated_model.record import GateRecord, is_gated, record_of
from tgdonnx.gated_model.settling import settled
from tgdonnx.runtime import Device

# Pixels of a tile along each axis, by the number of axes: what the runtime holds of it stays below a few GB.
_TILE = {1: 65536, 2: 512, 3: 96}


@dataclass(frozen=True)
class Application:
    """A model that is ready to be applied.

    Attributes:
        file: the model.
        network: it, or of a gated file the tuned network in it.
        preparation: how data is prepared.
        cases: what it is applied to.
        options: how.
        device: where it runs.
        gate: the record of a gated file; None of others.
    """

    file: ModelFile
    network: ImageNetwork
    preparation: Preparation
    cases: Cases
    options: ApplyOptions
    device: Device
    gate: Optional[GateRecord]

    def steps(self, case: Case) -> int:
        """Returns how often the model runs for a case.

        Raises:
            DataError: the case does not fit the model.
        """
        plans = [self._plan(name, case) for name in self.network.outputs]
        return -(-case.view.count // case.batch) * sum(math.prod(map(len, plan.tiles)) for plan in plans)

    def case(self, case: Case) -> Computation:
        """Returns how the results of a case are computed; of a gated file, after the detector has decided.

        Raises:
            DataError: the case does not fit the model.
        """
        plans = tuple(self._plan(name, case) for name in self.network.outputs)
        if self.gate is None:
            return Computation(self._assemblies(self.network, case, plans), plans, None)
        decision = decide(self.file, self.gate, self.network, case, plans[0].tiles, self.device)
        network = self.network
        if decision is not None and not decision.is_new:
            # Both networks have the same layers, so the same receptive field, and tiles.
            network = open_image_network(settled(self.file, 0.0), self.network.outputs, self.device, several=True)
        return Computation(self._assemblies(network, case, plans), plans, decision)

    def _assemblies(self, network: ImageNetwork, case: Case, plans: Sequence[Plan]) -> tuple[Assembly, ...]:
        return tuple(
            Assembly(network, self._kind(name), case, plan.tiles, plan.space)
            for name, plan in zip(network.outputs, plans)
        )

    def _kind(self, name: str) -> OutputKind:
        prepared, measured = self.preparation, self.cases.measured
        scaling = prepared.target_of(name) if prepared.scaling is not None else measured
        if scaling is not None and scaling is measured:
            scaling = replace(scaling, mean=(), std=())
        value = next(value for value in self.network.network.graph.outputs if value.name == name)
        return OutputKind(name, self.options.form, prepared.targets.get(name), activation_of(value), scaling)

    def _plan(self, name: str, case: Case) -> Plan:
        view, network = case.view, self.network
        found = network.receptive_field(name, view.layout)
        sizes = {tuple(each.space.items()) for each in case.views if each.layout == view.layout}
        if not isinstance(found, str) and len(sizes) > 1:
            found = "its images differ in size"
        if isinstance(found, str):
            require_sizes(case, network, found)
        return _plan(network, case, found, self.options.tile)


@dataclass(frozen=True)
class Plan:
    """How an output is computed of a case.

    Attributes:
        tiles: per axis of space.
        space: for axes of the image the axes of the output that are these; empty where that is not known.
        whole: why the model runs on whole images only; None if it need not.
    """

    tiles: tuple[tuple[Tile, ...], ...]
    space: dict[int, int]
    whole: Optional[str]

    @property
    def overlap(self) -> tuple[int, ...]:
        """The overlap of neighbouring tiles, by axis of space; empty where there is one tile."""
        if math.prod(map(len, self.tiles)) == 1:
            return ()
        return tuple(max((a.stop - b.start for a, b in zip(each, each[1:])), default=0) for each in self.tiles)


@dataclass(frozen=True)
class Computation:
    """How the results of a case are computed.

    Attributes:
        assemblies: one per output.
        plans: of them.
        decision: of a gated model with a detector.
    """

    assemblies: tuple[Assembly, ...]
    plans: tuple[Plan, ...]
    decision: Optional[GateDecision]

    def made(self, step: Callable[[], None]) -> tuple[Made, ...]:
        """Returns the results, of which the shapes are known, and nothing more is computed yet.

        Args:
            step: called after every run of the model.
        """
        return tuple(self._made(each, step) for each in self.assemblies)

    @staticmethod
    def _made(assembly: Assembly, step: Callable[[], None]) -> Made:
        shape, dtype = assembly.outline()
        stored = assembly.case.view.stored
        form = assembly.shaping.form
        return Made(
            assembly.kind.name, stored, assembly.axes, shape, dtype, form, lambda array: assembly.fill(array, step)
        )

    def remarks(self, *, tiled: bool) -> Iterator[str]:
        """Yields what is worth knowing of how results are computed, ``tiled`` if tiles were asked for."""
        for assembly, plan in zip(self.assemblies, self.plans):
            name = f"{assembly.kind.name}: " if len(self.assemblies) > 1 else ""
            yield from (f"{name}{text}" for text in _remarks(assembly, plan, tiled=tiled))


def _remarks(assembly: Assembly, plan: Plan, *, tiled: bool) -> Iterator[str]:
    shaping, kind = assembly.shaping, assembly.kind
    if assembly.case.view.stack > 1 and assembly.keeps_middle:
        yield "of the result, the slice in the middle of every stack is kept"
    if shaping.undone is not None:
        yield "scaling is undone in the result"
    elif kind.scaling is not None and shaping.form != "image" and kind.form is None:
        yield f"results are {shaping.form}, so no scaling is undone: {shaping.reason}; `form='image'` undoes it"
    if assembly.network.precision is not None:
        yield f"the model computes in {assembly.network.precision}; the result is written in float32"
    if plan.whole is not None:
        yield f"the model ran on whole images{', not on tiles' if tiled else ''}: {plan.whole}"


def prepare(
    file: ModelFile,
    data: Applied,
    reading: DataOptions,
    artifacts: Optional[StrPath],
    options: ApplyOptions,
    device: Device,
    *,
    several: bool,
) -> Application:
    """Opens a model and what it is applied to.

    Args:
        file: the model.
        data: what it is applied to.
        reading: how that is read.
        artifacts: the directory of the run that says how data is prepared; None for none.
        options: how it is applied.
        device: where it runs.
        several: whether there may be several outputs.

    Raises:
        ModelFileError: the model cannot be used or run.
        DataError: the data does not fit the model.
        RuntimeMissingError: no onnxruntime, or not the library for a format, is installed.
    """
    gate = record_of(file) if is_gated(file.proto) else None
    opened = file if gate is None else settled(file, 1.0)
    network = open_image_network(opened, options.outputs, device, several=several)
    preparation = preparation_of(network.network.file, network.inputs, reading, artifacts)
    try:
        cases = open_cases(data, network, preparation)
    except DataError as error:
        if preparation.unused:
            error.add(preparation.unused)
        raise
    return Application(file, network, preparation, cases, options, device, gate)


def _plan(network: ImageNetwork, case: Case, found: Union[ReceptiveField, str], tile: Optional[Sequence[int]]) -> Plan:
    view, sizes = case.view, network.image.shape
    space = [(axis, size) for axis, (x, size) in enumerate(zip(view.axes, view.shape), 1) if x in SPACE]
    if tile is not None and len(tile) != len(space):
        raise DataError(f"expected a tile of {len(space)} sizes, got {'x'.join(map(str, tile))}")
    if isinstance(found, str):
        return Plan(tuple((Tile(0, size, 0, None, 0),) for _, size in space), {}, found)
    tiles = []
    for position, (axis, size) in enumerate(space):
        reach, step = found.reaches[axis], found.steps[axis]
        fixed = sizes[axis] if sizes is not None and len(sizes) > axis else None
        # By default so long that most of a tile is no overlap.
        length = tile[position] if tile is not None else max(_TILE[len(space)], 4 * math.ceil(reach.high - reach.low))
        tiles.append(cut(size, fixed or length, reach, step, fixed=fixed is not None))
    order = [found.axes[axis] for axis, _ in space]
    if order != sorted(order):
        raise DataError(f"the output has its axes in another order than {view.layout}; expected the same")
    return Plan(tuple(tiles), dict(found.axes), None)
