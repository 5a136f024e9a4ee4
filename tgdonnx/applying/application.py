"""A model applied to images, volumes and stacks of images, by tiles where it has a receptive field."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Optional

import numpy as np

from tgdonnx.applying.assembling import Assembly
from tgdonnx.applying.cases import Cases, open_cases
from tgdonnx.applying.collecting import Applied
from tgdonnx.applying.deciding import GateDecision, decide
from tgdonnx.applying.feeding import Case
from tgdonnx.applying.forms import OutputKind, activation_of
from tgdonnx.applying.imagefiles import Made
from tgdonnx.applying.network import ImageNetwork, open_image_network
from tgdonnx.applying.options import ApplyOptions
from tgdonnx.applying.passes import Passes
from tgdonnx.applying.planning import Plan, plans_of
from tgdonnx.applying.preparing import Preparation, preparation_of
from tgdonnx.data.lazy_arrays import Array
from tgdonnx.data.options import DataOptions
from tgdonnx.errors import DataError
from tgdonnx.files.model_file import ModelFile, StrPath
from tgdonnx.gated_model.record import GateRecord, is_gated, record_of
from tgdonnx.gated_model.settling import settled
from tgdonnx.runtime import Device


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
        return self._passes(self.network, case, plans_of(self.network, case, self.options.tile)).steps

    def case(self, case: Case) -> Computation:
        """Returns how the results of a case are computed; of a gated file, after the detector has decided.

        Raises:
            DataError: the case does not fit the model.
        """
        plans, network, decision = plans_of(self.network, case, self.options.tile), self.network, None
        if self.gate is not None:
            decision = decide(self.file, self.gate, network, case, plans[0].tiles, self.device)
        if decision is not None and not decision.is_new:
            # Both networks have the same layers, so the same receptive field, and tiles.
            network = open_image_network(settled(self.file, 0.0), network.outputs, self.device, several=True)
        passes = self._passes(network, case, plans)
        assemblies = tuple(
            Assembly(self._kind(name), passes, plan.tiles, plan.space) for name, plan in zip(network.outputs, plans)
        )
        return Computation(passes, assemblies, plans, decision)

    @staticmethod
    def _passes(network: ImageNetwork, case: Case, plans: Sequence[Plan]) -> Passes:
        return Passes(network, case, plans[0].tiles, plans[0].whole is not None)

    def _kind(self, name: str) -> OutputKind:
        prepared, measured = self.preparation, self.cases.measured
        scaling = prepared.target_of(name) if prepared.scaling is not None else measured
        if scaling is not None and scaling is measured:
            scaling = replace(scaling, mean=(), std=())
        value = next(value for value in self.network.network.graph.outputs if value.name == name)
        return OutputKind(name, self.options.form, prepared.targets.get(name), activation_of(value), scaling)


@dataclass(frozen=True)
class Computation:
    """How the results of a case are computed.

    Attributes:
        passes: the runs of the model, which give all of them.
        assemblies: one per output.
        plans: of them.
        decision: of a gated model with a detector.
    """

    passes: Passes
    assemblies: tuple[Assembly, ...]
    plans: tuple[Plan, ...]
    decision: Optional[GateDecision]

    @cached_property
    def made(self) -> tuple[Made, ...]:
        """The results, of which the shapes are known, and not all is computed yet."""
        return tuple(
            Made(each.kind.name, each.case.view.stored, each.axes, *each.outline(), each.shaping.form)
            for each in self.assemblies
        )

    def fill(self, arrays: Sequence[Array], step: Callable[[], None]) -> None:
        """Computes the results into arrays of their shapes.

        Args:
            arrays: what to fill.
            step: called after every run of the model.

        Raises:
            DataError: the model cannot be run.
        """
        for found in self.passes.all():
            for assembly, array in zip(self.assemblies, arrays):
                assembly.put(array, found)
            step()

    def computed(self, step: Callable[[], None]) -> tuple[Array, ...]:
        """Returns the results; see `fill`."""
        arrays = tuple(np.empty(each.shape, each.dtype) for each in self.made)
        self.fill(arrays, step)
        return arrays

    def remarks(self, *, tiled: bool) -> Iterator[str]:
        """Yields what is worth knowing of how results are computed, ``tiled`` if tiles were asked for."""
        for assembly in self.assemblies:
            name = f"{assembly.kind.name}: " if len(self.assemblies) > 1 else ""
            yield from (f"{name}{text}" for text in _remarks(assembly))
        if self.plans[0].whole is not None:
            not_tiled = ", not on tiles" if tiled else ""
            yield f"the model ran on whole images{not_tiled}: {self.plans[0].whole}"


def _remarks(assembly: Assembly) -> Iterator[str]:
    shaping, kind = assembly.shaping, assembly.kind
    if assembly.case.view.stack > 1 and assembly.keeps_middle:
        yield "of the result, the slice in the middle of every stack is kept"
    if shaping.undone is not None:
        yield "scaling is undone in the result"
    elif kind.scaling is not None and shaping.form != "image" and kind.form is None:
        yield f"results are {shaping.form}, so no scaling is undone: {shaping.reason}; `form='image'` undoes it"
    if assembly.passes.network.precision is not None:
        yield f"the model computes in {assembly.passes.network.precision}; the result is written in float32"


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
