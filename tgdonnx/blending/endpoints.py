"""Both ends of every tensor that trained, and what is written between them.

Read from a checkpoint and a masked model. What the tensors hold at a blend is what `tgdonnx.exporting` writes and what
`tgdonnx.blending.curve` evaluates: rounded to the stored type, integers on their grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import Artifacts, Manifest
from tgdonnx.artifacts.manifest import AxisPart
from tgdonnx.blending.formula import interpolated, require_blend, scaled
from tgdonnx.errors import ArtifactsError
from tgdonnx.layers import Parameter
from tgdonnx.masked_model import MaskedModel
from tgdonnx.regrowing.readers import reading_kernels
from tgdonnx.selection.recorded import read_selection, reinitialization_of
from tgdonnx.tracing import trace_network

Array = NDArray[Any]


@dataclass(frozen=True)
class Endpoint:
    """A tensor that trained.

    Attributes:
        parameter: the tensor, with the values that training started from.
        trains: bool of the stored shape: what trained.
        trained: float32 of the stored shape: the numbers that it came to, on a grid no farther than it reaches.
        checkpoint: where these are from.
    """

    parameter: Parameter
    trains: NDArray[np.bool_] = field(repr=False)
    trained: NDArray[np.float32] = field(repr=False)
    checkpoint: str

    def interpolated(self, blend: float) -> Array:
        """Returns the tensor as it is stored at a blend, between what it started from and what it came to."""
        return self._stored(interpolated(real_numbers(self.parameter), self.trained, blend))

    def scaled(self, blend: float, where: NDArray[np.bool_]) -> Array:
        """Returns the tensor as it is stored with some of its numbers scaled by a blend, and the others as they came to be."""
        return self._stored(np.where(where & self.trains, scaled(self.trained, blend), self.trained))

    def _stored(self, numbers: NDArray[np.floating[Any]]) -> Array:
        stored, old = self.parameter.numpy(), real_numbers(self.parameter)
        if self.parameter.quantization is not None:
            # What did not move keeps its integer: of 32 bits, float32 does not tell all apart.
            real = numbers.astype(np.float32)
            return np.where(self.trains & (real != old), self.parameter.quantized(real), stored)
        rounded = numbers.astype(old.dtype)
        if not np.isfinite(rounded.astype(np.float32)).all():
            raise ArtifactsError(
                f"the checkpoint {self.checkpoint!r} holds values in {self.parameter.name!r} that do not fit the vendor's "
                f"{old.dtype}",
                remedy="train with a smaller learning rate",
            )
        return np.where(self.trains, rounded, old)


@dataclass(frozen=True)
class Endpoints:
    """All tensors that trained.

    Attributes:
        masked: the masked model that they are of.
        manifest: of the artifacts.
        tensors: the tensors.
        run: the state of the run that wrote the checkpoint, as JSON; None if none did.
    """

    masked: MaskedModel
    manifest: Manifest
    tensors: tuple[Endpoint, ...]
    run: Optional[str] = field(repr=False)

    @cached_property
    def scaled(self) -> Optional[Mapping[str, NDArray[np.bool_]]]:
        """For names of weights which of their numbers a blend scales; None where it interpolates.

        In mode ``regrow`` those that read reinitialised maps, in mode ``adapter`` the second weight of every side path.
        """
        if self.masked.adapted is not None:
            return {path.up: np.ones((), bool) for path in self.masked.adapted.paths}
        told = reinitialization_of(read_selection(self.masked.selection))
        return None if told is None else reading_kernels(trace_network(self.masked.network), told.rows)

    def stored(self, blend: float) -> dict[Parameter, Array]:
        """Returns the tensors as they are stored at a blend.

        In mode ``regrow`` what reads reinitialised maps is scaled, in mode ``adapter`` what side paths add; in other modes
        everything that trained is interpolated. At 1 it is what the checkpoint holds, at 0 what training started from, or the
        network without its reinitialised filters, or with side paths that add 0.

        Raises:
            DataError: the blend is not from 0 to 1.
            ArtifactsError: a number does not fit the stored type.
        """
        require_blend(blend)
        if blend == 1 or self.scaled is None:  # to find readers takes a trace
            return {each.parameter: each.interpolated(blend) for each in self.tensors}
        nowhere = np.zeros((), bool)
        return {
            each.parameter: each.scaled(blend, self.scaled.get(each.parameter.name, nowhere)) for each in self.tensors
        }

    def parameters(self, blend: float) -> dict[str, NDArray[np.float32]]:
        """Returns the same as the artifacts' parameters, by name: the numbers that the stored tensors stand for.

        Raises:
            DataError: the blend is not from 0 to 1.
            ArtifactsError: a number does not fit the stored type.
        """
        numbers = {
            parameter.name: (values if parameter.quantization is None else parameter.dequantized(values)).astype(
                np.float32
            )
            for parameter, values in self.stored(blend).items()
        }
        found = {}
        dequantized = self.masked.network.dequantized
        for tensor in self.manifest.trained:
            (parameter, *_) = dequantized.get(
                tensor.vendor_name, (self.masked.network.stored_parameters[tensor.vendor_name],)
            )
            whole, mask = numbers[parameter.name], self.masked.masks[parameter.name]
            found[tensor.name] = (
                whole if tensor.part is None else np.ascontiguousarray(whole[held_places(tensor.part, whole, mask)])
            )
        return found


def read_endpoints(artifacts: Artifacts, checkpoint: str) -> Endpoints:
    """Reads both ends from an artifacts directory.

    Args:
        artifacts: the artifacts.
        checkpoint: the file in their directory.

    Raises:
        ArtifactsError: the checkpoint is not there, has moved what is frozen, or is not finite.
        RuntimeMissingError: the runtime of the engine, which reads the checkpoint, is not installed.
    """
    manifest, masked = artifacts.manifest, artifacts.masked
    stored, dequantized = masked.network.stored_parameters, masked.network.dequantized
    found = artifacts.checkpoint(checkpoint)
    trained = found.parameters
    for tensor in manifest.trained:
        if tensor.name not in trained:
            raise ArtifactsError(
                f"the checkpoint {checkpoint!r} has no parameter {tensor.name!r}", remedy="build the artifacts again"
            )
    tensors = []
    for name in dict.fromkeys(tensor.vendor_name for tensor in manifest.trained):
        (parameter, *_) = dequantized.get(name, (stored[name],))
        mask = masked.masks[parameter.name]
        pieces = [(tensor.part, trained[tensor.name]) for tensor in manifest.trained if tensor.vendor_name == name]
        tensors.append(_endpoint(parameter, mask, _whole(pieces, parameter, mask), checkpoint))
    return Endpoints(masked, manifest, tuple(tensors), found.run)


def real_numbers(parameter: Parameter) -> NDArray[np.floating[Any]]:
    """Returns the numbers that a tensor holds, or that its integers stand for."""
    return parameter.numpy() if parameter.quantization is None else parameter.dequantized()


def _endpoint(
    parameter: Parameter, mask: NDArray[np.float32], trained: NDArray[np.float32], checkpoint: str
) -> Endpoint:
    """Returns a tensor that trained, after a look at its numbers."""
    old = real_numbers(parameter)
    if trained.shape != old.shape:
        raise ArtifactsError(
            f"the checkpoint {checkpoint!r} has {parameter.name!r} with shape {list(trained.shape)}, expected {list(old.shape)}"
        )
    trains = np.broadcast_to(mask == 1, old.shape)
    if not np.array_equal(trained[~trains], old[~trains].astype(np.float32)):
        raise ArtifactsError(
            f"the checkpoint {checkpoint!r} has moved frozen values of {parameter.name!r}, so the network that was trained "
            "is not the one that would be written",
            remedy="train with the optimizer model of these artifacts",
        )
    if not np.isfinite(trained).all():
        raise ArtifactsError(
            f"the checkpoint {checkpoint!r} holds NaN or infinity in {parameter.name!r}; training diverged"
        )
    if parameter.quantization is not None:  # what is beyond the ends of the grid counts as these
        dtype, limits = parameter.numpy().dtype, parameter.quantization.limits
        low, high = (parameter.dequantized(np.full(parameter.shape, limit, dtype)) for limit in limits)
        trained = np.where(trains, np.clip(trained, low, high), trained)
    return Endpoint(parameter, trains, trained, checkpoint)


def _whole(
    pieces: Sequence[tuple[Optional[tuple[AxisPart, ...]], NDArray[np.float32]]],
    parameter: Parameter,
    mask: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Returns a parameter with all its filters: where the pieces hold only what trains, the rest is the vendor's."""
    whole = real_numbers(parameter).astype(np.float32)
    for part, values in pieces:
        if part is None:
            return values
        held = held_places(part, whole, mask)
        if values.shape != tuple(index.size for index in held):
            return values
        whole[held] = values
    return whole


def held_places(part: tuple[AxisPart, ...], whole: Array, mask: NDArray[np.float32]) -> tuple[NDArray[np.intp], ...]:
    """Returns where in a whole tensor a piece of it is, as an index."""
    held: list[NDArray[np.intp]] = [np.arange(size) for size in whole.shape]
    for along in part:
        held[along.axis] = np.flatnonzero(mask) if along.indices is None else np.array(along.indices, np.intp)
    return np.ix_(*held)
