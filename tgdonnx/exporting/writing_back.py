"""Write trained filters back into the vendor's file: its bytes, with new values where the masks let something train.

The tensors are overwritten where they lie in the file. What was reinitialised or set before training has those values, also if
it did not train. The only thing added is a record at the end of the file, the metadata ``tgdonnx.provenance.N`` (N counts the
rounds): JSON with the hash of the file that was tuned, the selection, the training options, the blend where it is not 1, the
names of classes where the data had some, how data was prepared, the rounds and sites of federated training, and for every
trained tensor its filters and maps. In mode ``adapter`` side paths are added, unless they are merged or the blend is 0, at
which they would add nothing. From that record, or from the masked model, `tgdonnx.verifying` proves that nothing else changed;
a file that does not pass is not written.

A model with external data gets a file of its own for it, see `tgdonnx.files.relocation`; the record says its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.adapting import Adapted
from tgdonnx.adapting import merge as merge_path
from tgdonnx.artifacts import Artifacts, open_artifacts, read_manifest
from tgdonnx.artifacts.locking import locked
from tgdonnx.blending.endpoints import read_endpoints
from tgdonnx.blending.formula import require_blend
from tgdonnx.errors import ArtifactsError
from tgdonnx.exporting.provenance import provenance_of, reinitialized_parts, trained_parts, whole_mask
from tgdonnx.files.model_file import ModelFile, Pieces, StrPath
from tgdonnx.files.model_writing import require_data_writable, write_model
from tgdonnx.files.outputs import Kind, Output, require_outputs
from tgdonnx.files.relocation import layout_of
from tgdonnx.finetuning.federation import federation_of
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.layers import Network, Parameter
from tgdonnx.masked_model import MaskedModel, metadata_bytes
from tgdonnx.overwriting import differing, overwrite_values
from tgdonnx.presenting import Presented
from tgdonnx.records import (
    earlier_rounds,
    record_key,
)
from tgdonnx.verifying.allowed_changes import Allowed
from tgdonnx.verifying.comparison import Changed, compare

Array = NDArray[Any]


@dataclass(frozen=True, repr=False)
class ExportReport(Presented):
    """What was written.

    Attributes:
        output: the tuned file; None where it was deleted since, as that of an earlier round.
        checkpoint: the checkpoint in the artifacts directory that its values are from.
        changed: which filters of which tensors differ from the vendor's file.
        blend: how far it goes from what training started from (0) to what it came to (1).
    """

    output: Optional[str]
    checkpoint: str
    changed: tuple[Changed, ...]
    blend: float = 1.0


def export(
    directory: StrPath,
    output: StrPath,
    *,
    checkpoint: Optional[str] = None,
    blend: float = 1.0,
    merge: bool = False,
    overwrite: bool = False,
) -> ExportReport:
    """Writes the vendor's model with the trained filters, after proving that nothing else differs.

    Args:
        directory: a trained artifacts directory.
        output: the tuned model to write.
        checkpoint: the checkpoint file in the directory; that of the best epoch if there is one, else the latest.
        blend: how far to go from what training started from (0) to what it came to (1); see `tgdonnx.blending`. In mode
            ``regrow`` it scales what reads reinitialised maps: 0 is the network without these filters. In mode ``adapter`` it
            scales what side paths add: 0 is the vendor's file.
        merge: of mode ``adapter``, whether side paths become changes of the weights beside them, so that nothing is added.
            In real numbers that is the same network; the outputs are equal to rounding.
        overwrite: whether ``output`` may exist.

    Raises:
        ArtifactsError: the directory is not usable, or its checkpoint has moved a frozen filter; or a side path cannot be
            merged.
        DataError: the blend is not from 0 to 1.
        OutputError: ``output`` cannot be written.
        RuntimeMissingError: onnxruntime-training, which reads the checkpoint, is not installed.
    """
    output, directory = Path(output), Path(directory)
    require_blend(blend)
    require_outputs([Output(output, Kind.MODEL)], [directory], overwrite=overwrite)
    read_manifest(directory)  # no lock is put into what is no artifacts directory
    with locked(directory, reading=True):
        artifacts = open_artifacts(directory)
        require_data_writable(output, artifacts.masked.start, overwrite=overwrite)
        return export_artifacts(artifacts, checkpoint, blend, merge=merge).write(output)


def try_export(directory: StrPath) -> int:
    """Makes, before training, what `export` would write of the values that training starts from, proves it, and forgets it.

    Returns:
        How many bytes the tuned model will take, with its external data.

    Raises:
        ArtifactsError: the directory is not usable, or what trains in it could not be written back.
        RuntimeMissingError: onnxruntime-training, which reads the checkpoint, is not installed.
    """
    directory = Path(directory)
    read_manifest(directory)  # no lock is put into what is no artifacts directory
    with locked(directory, reading=True):
        return try_export_artifacts(open_artifacts(directory))


def try_export_artifacts(artifacts: Artifacts) -> int:
    """Does what `try_export` does with artifacts that are open.

    Raises:
        TgdonnxError: as `try_export`.
    """
    return export_artifacts(artifacts, artifacts.manifest.runtime.checkpoint).size


@dataclass(frozen=True)
class Tuned:
    """A tuned model that is not written yet, and where it comes from. It is proved that nothing but what trained differs.

    Attributes:
        start: what its bytes are made of: the file that training started from, or the vendor's.
        to: gives the bytes of the tuned one for the name of the file for its external data, None if it has none.
        external: what differs in the external data, at places in that of the masked model.
        changed: which filters differ from the vendor's file.
        checkpoint: the checkpoint that its values are from.
        blend: how far it goes from what training started from (0) to what it came to (1).
        run: the state of the run that wrote that, as JSON; None if none did.
    """

    start: ModelFile = field(repr=False)
    to: Callable[[Optional[str]], bytes] = field(repr=False)
    external: Pieces = field(repr=False)
    changed: tuple[Changed, ...]
    checkpoint: str
    blend: float
    run: Optional[str] = field(repr=False)

    @property
    def size(self) -> int:
        """How many bytes it takes, with its external data."""
        outside = self.start.outside
        return len(self.to("tuned.onnx.data" if outside else None)) + layout_of(outside).size

    def write(self, output: Path) -> ExportReport:
        """Writes it; whether that is possible, `require_data_writable` has said.

        Raises:
            OutputError: it cannot be written.
        """
        write_model(self.start, output, self.to, changes=self.external)
        return ExportReport(str(output), self.checkpoint, self.changed, self.blend)


def export_artifacts(
    artifacts: Artifacts, checkpoint: Optional[str] = None, blend: float = 1.0, *, merge: bool = False
) -> Tuned:
    """Puts the values of a checkpoint, at a blend, into the vendor's file, and proves that nothing else differs.

    Args:
        artifacts: of the training.
        checkpoint: the checkpoint; that of the best epoch if there is one, else the latest.
        blend: how far to go from what training started from (0) to what it came to (1).
        merge: of mode ``adapter``, whether side paths are merged into the weights beside them.

    Raises:
        ArtifactsError: there is no such checkpoint, or it has moved a frozen filter; or a side path cannot be merged.
        RuntimeMissingError: the runtime of the engine, which reads it, is not installed.
    """
    checkpoint = checkpoint or artifacts.kept_checkpoint
    manifest, masked, adapted = artifacts.manifest, artifacts.masked, artifacts.masked.adapted
    if merge and adapted is None:
        raise ArtifactsError(
            f"there is nothing to merge: {artifacts.directory} is of mode {masked.selection.get('mode')}, and only adapter "
            "has side paths",
            remedy="leave merging out",
        )
    ends = read_endpoints(artifacts, checkpoint)
    new = ends.stored(blend)
    # What is written over: in mode adapter the vendor's file where no side path stays.
    network = masked.network if adapted is None or (blend and not merge) else adapted.before
    if adapted is not None and network is adapted.before:
        new = _merged(adapted, new) if blend else {}
    written = overwrite_values(network.file, new)
    run = read_record(artifacts.directory)
    record = {
        **provenance_of(manifest, checkpoint, blend, None if run is None else run.data, federation_of(ends.run)),
        "trained": trained_parts(manifest, new, network),
        **({"merged": True} if merge and blend else {}),
        **reinitialized_parts(masked, manifest),
    }
    number = 1 + earlier_rounds(masked.base.proto)
    # Reading the masked model has proved that its start differs from the vendor's file within the masks alone.
    trains = Allowed({p.name: masked.masks[p.name] if network is masked.network else whole_mask(p) for p in new}, {})
    external = [(file, place, each) for file, at in written.external.items() for place, each in at.items()]
    comparison = compare(network, written.data, trains, external)
    assert comparison.ok, f"write-back changed what it should not: {comparison.violations}"

    def tuned(name: Optional[str]) -> bytes:
        named = {} if name is None else {"external_data": name}
        body = network.file.with_external_data(name, written.data)
        return body + metadata_bytes({record_key(number): json.dumps({**record, **named})})

    changed = _changed(masked, network, {p.name: values for p, values in new.items()})
    return Tuned(network.file, tuned, written.external, changed, checkpoint, float(blend), ends.run)


def _merged(adapted: Adapted, new: Mapping[Parameter, Array]) -> dict[Parameter, Array]:
    """Returns the weights of the vendor's file with side paths merged into them.

    Args:
        adapted: the side paths.
        new: their weights; what does not lead to the output that trained is as it was.
    """
    values = {parameter.name: array for parameter, array in new.items()}
    return dict(
        merge_path(path, values[path.down], values[path.up], adapted.before)
        for path in adapted.paths
        if path.up in values and path.down in values
    )


def _changed(masked: MaskedModel, network: Network, new: Mapping[str, NDArray[np.generic]]) -> tuple[Changed, ...]:
    """Returns the rows that differ from the vendor's file, tensor by tensor; of side paths from what they start with."""
    stored = network.stored_parameters
    changed = []
    for name in dict.fromkeys((*new, *masked.vendor_values)):
        start = stored[name].numpy()
        moved = differing(new.get(name, start), masked.vendor_values.get(name, start))
        rows = np.unique(np.broadcast_to(network.filter_index(name), moved.shape)[moved])
        if len(rows):
            changed.append(Changed(name, tuple(int(m) for m in rows)))
    return tuple(changed)
