"""The drop test on the workers of a cluster: each call drops the filters of one selection, of which only the masks are sent."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import NDArray

from tgdonnx.cluster import Workers, open_cluster, require_same_files, run_calls
from tgdonnx.data import DataOptions, DataSource
from tgdonnx.files.model_file import ModelFile
from tgdonnx.layers import Network, open_network
from tgdonnx.runtime import CPU_NAME, usable_device
from tgdonnx.selection import RetrainMask
from tgdonnx.sweeping.change import Baseline, OutputChange
from tgdonnx.sweeping.measuring import measure_dropped, measure_vendor
from tgdonnx.sweeping.running import Samples, open_samples


@dataclass(frozen=True)
class Placement:
    """Where the drop test runs.

    Attributes:
        device: where models run; see `tgdonnx.TrainOptions`.
        workers: where selections are dropped, see `tgdonnx.cluster.open_cluster`; one after the other in this process, if None.
    """

    device: str = CPU_NAME
    workers: Optional[Workers] = None

    @classmethod
    def of(cls, place: Union[Placement, str]) -> Placement:
        """Returns where the test runs, where perhaps only the device was given."""
        return place if isinstance(place, Placement) else cls(place)


@dataclass(frozen=True)
class Setting:
    """What is the same for all selections.

    Attributes:
        model: the vendor's file, or its bytes.
        data: what models are run on.
        samples: how many samples at most.
        reading: how the data is read.
        output: the output to look at; None for all.
        device: where models run.
    """

    model: Union[Path, bytes]
    data: DataSource
    samples: int
    reading: DataOptions
    output: Optional[str]
    device: str


@dataclass(frozen=True)
class _Call:
    """A selection: the values of its masks, by the names of their tensors. Calls of one test have one key."""

    key: str
    setting: Setting
    masks: Mapping[str, NDArray[np.float32]]


_opened: dict[str, tuple[Network, Samples, Baseline]] = {}  # of the test at hand: at most one


def _measure(call: _Call) -> tuple[OutputChange, ...]:
    setting = call.setting
    device = usable_device(setting.device)
    if call.key not in _opened:
        _opened.clear()
        network = open_network(setting.model)
        samples = open_samples(setting.data, network, most=setting.samples, options=setting.reading)
        _opened[call.key] = network, samples, measure_vendor(network.file, samples, setting.output, device)
    network, samples, before = _opened[call.key]
    none: NDArray[np.bool_] = np.zeros(0, np.bool_)
    parameters = network.stored_parameters
    masks = [RetrainMask(parameters[name], "", none, none, values, None) for name, values in call.masks.items()]
    return measure_dropped(network.file, masks, samples, before, device)


def measure_on_workers(
    workers: Workers,
    setting: Setting,
    selections: Sequence[Sequence[RetrainMask]],
    on_done: Callable[[int], None],
) -> list[tuple[OutputChange, ...]]:
    """Returns how far the outputs move without the filters of each selection.

    Args:
        workers: where.
        setting: what is the same for all.
        selections: the masks of each.
        on_done: called with how many are done.

    Raises:
        ClusterError: the workers are not there, or not alike, or all that ran a call died.
        TgdonnxError: as in this process.
    """
    found: dict[int, tuple[OutputChange, ...]] = {}
    with open_cluster(workers) as cluster:
        require_same_files(cluster, [setting.model, setting.data])
        key, sent = uuid.uuid4().hex, setting if cluster.local else _anywhere(setting)
        calls = (
            _Call(key, sent, {mask.parameter.name: mask.values for mask in masks if mask.values.any()})
            for masks in selections
        )
        for done in run_calls(cluster, _measure, calls):
            if done.error is not None:
                raise done.error
            assert done.value is not None
            found[done.index] = done.value
            on_done(len(found))
    return [found[index] for index in sorted(found)]


def _anywhere(setting: Setting) -> Setting:
    """Returns a setting whose paths mean the same in any directory."""
    model: Any = setting.model.absolute() if isinstance(setting.model, Path) else setting.model
    data = Path(setting.data).absolute() if isinstance(setting.data, (str, os.PathLike)) else setting.data
    return replace(setting, model=model, data=data)


def model_of(file: ModelFile) -> Union[Path, bytes]:
    """Returns what a worker opens for a model: its file, or what is in memory."""
    return file.data if file.in_memory else file.path
