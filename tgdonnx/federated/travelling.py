"""The numbers that travel: of every parameter those that train, in row-major order, as float32.

What does not train is the same at all sites, which hashes tell: of the vendor's file, of the masks with what training starts
from besides, and of the options of the build.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import Artifacts
from tgdonnx.artifacts.manifest import TrainedTensor
from tgdonnx.blending.endpoints import held_places
from tgdonnx.errors import ArtifactsError
from tgdonnx.files.relocation import layout_of
from tgdonnx.files.typed import encode

Numbers = Mapping[str, NDArray[np.float32]]
"""By the name of a parameter its numbers that train: float32 of shape (count,)."""


@dataclass(frozen=True)
class Fingerprint:
    """What has to be the same at all sites, as SHA-256 in hex.

    Attributes:
        base: of the vendor's file.
        masks: of what trains, and of values that training starts from and are not the vendor's.
        options: of the options of the build.
    """

    base: str
    masks: str
    options: str

    def difference(self, other: Fingerprint) -> str:
        """Says what of another is not the same; empty where all is."""
        words = {"base": "another base model", "masks": "other masks", "options": "other build options"}
        mine, theirs = asdict(self), asdict(other)
        return " and ".join(word for name, word in words.items() if mine[name] != theirs[name])


@dataclass(frozen=True)
class Travelling:
    """Which numbers of parameters travel.

    Attributes:
        trains: by the name of a parameter, bool of its shape.
        whole_bytes: of the vendor's model with its external data.
    """

    trains: Mapping[str, NDArray[np.bool_]] = field(repr=False)
    whole_bytes: int

    @property
    def sizes(self) -> dict[str, int]:
        """How many numbers of every parameter travel."""
        return {name: int(np.count_nonzero(where)) for name, where in self.trains.items()}

    @property
    def bytes(self) -> int:
        """What the numbers take, in one direction."""
        return 4 * sum(self.sizes.values())

    def taken(self, parameters: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Returns the numbers that travel out of parameters."""
        return {name: np.ascontiguousarray(parameters[name][where]) for name, where in self.trains.items()}

    def put(self, numbers: Numbers, parameters: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Returns copies of parameters with other numbers in place of those that travel; they fit, see `problem`."""
        found = {}
        for name, where in self.trains.items():
            found[name] = np.array(parameters[name])
            found[name][where] = numbers[name]
        return found

    def problem(self, numbers: Mapping[str, NDArray[Any]]) -> str:
        """Says why arrays are not the numbers that travel; empty where they are."""
        sizes = self.sizes
        if numbers.keys() != sizes.keys():
            other = sorted(numbers.keys() ^ sizes.keys())[0]
            return f"{'nothing of' if other in sizes else 'something of'} {other[:200]!r}, expected {len(sizes)} arrays"
        for name, array in numbers.items():
            if array.shape != (sizes[name],) or array.dtype.kind != "f":
                return (
                    f"{name!r} as {array.dtype} of shape {list(array.shape)}, expected floating-point numbers of shape "
                    f"[{sizes[name]}]"
                )
            with np.errstate(over="ignore"):
                finite = np.isfinite(array.astype(np.float32))
            if not finite.all():
                return f"NaN, infinity or what float32 does not hold in {name!r}, {np.count_nonzero(~finite)} times"
        return ""


def travelling(artifacts: Artifacts) -> Travelling:
    """Returns which numbers of artifacts travel."""
    masked, manifest = artifacts.masked, artifacts.manifest
    outside = layout_of(masked.start.outside).size
    return Travelling({t.name: _trains(artifacts, t) for t in manifest.trained}, len(masked.base.data) + outside)


def fingerprint(artifacts: Artifacts) -> Fingerprint:
    """Returns what has to be the same at all sites.

    Raises:
        ArtifactsError: the artifacts are of another engine than onnxruntime.
    """
    manifest, masked = artifacts.manifest, artifacts.masked
    if manifest.engine != "onnxruntime":
        raise ArtifactsError(
            f"{artifacts.directory} is of the engine {manifest.engine}; federated training has onnxruntime alone",
            remedy="build it with `engine='onnxruntime'`",
        )
    masks = hashlib.sha256()
    for name, where in sorted((t.name, _trains(artifacts, t)) for t in manifest.trained):
        masks.update(encode([name, list(where.shape)]) + np.packbits(where).tobytes())
    stored = masked.network.stored_parameters
    for name in sorted(masked.vendor_values):
        masks.update(encode([name]) + np.ascontiguousarray(stored[name].numpy()).tobytes())
    options = encode([manifest.options.as_dict(), [asdict(head) for head in manifest.heads]])
    return Fingerprint(manifest.base_sha256, masks.hexdigest(), hashlib.sha256(options).hexdigest())


def _trains(artifacts: Artifacts, tensor: TrainedTensor) -> NDArray[np.bool_]:
    """Returns which elements of a parameter train, of its shape."""
    network = artifacts.masked.network
    stored = network.stored_parameters[tensor.vendor_name]
    (parameter, *_) = network.dequantized.get(tensor.vendor_name, (stored,))
    mask = artifacts.masked.masks[parameter.name]
    whole = np.broadcast_to(mask == 1, parameter.shape)
    return whole if tensor.part is None else whole[held_places(tensor.part, whole, mask)]
