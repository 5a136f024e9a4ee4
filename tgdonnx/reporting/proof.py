"""The files that a run is about, and what `tgdonnx.verifying.verification` says of them, found anew for the report.

The vendor's file is taken out of the masked model, whose record says its hash. The tuned model is exported again from the
checkpoint, so a tuned file that somebody hands in can be compared with it byte by byte as well.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from tgdonnx.artifacts import Artifacts, Manifest, open_artifacts
from tgdonnx.artifacts.manifest import MASKED_MODEL
from tgdonnx.errors import ArtifactsError
from tgdonnx.exporting import Tuned, export_artifacts
from tgdonnx.files.model_file import ModelFile, ModelSource, load_model, require_external_data
from tgdonnx.gated_model.reading import take_apart
from tgdonnx.gated_model.record import is_gated
from tgdonnx.layers import open_network
from tgdonnx.masked_model import MaskedModel, write_vendor
from tgdonnx.records import last_export
from tgdonnx.reporting.history import step_of
from tgdonnx.verifying.verification import VerifyReport, verify_gated

_BLOCK = 2**20


@dataclass(frozen=True)
class FileFacts:
    """A file.

    Attributes:
        role: what it is here.
        name: its name; empty if nobody said.
        size: in bytes; None if it is not known.
        sha256: in hex; None if it was not computed.
    """

    role: str
    name: str
    size: Optional[int]
    sha256: Optional[str]


@dataclass(frozen=True)
class Proof:
    """What was checked.

    Attributes:
        manifest: of the artifacts.
        masked: the masked model.
        base: the vendor's file: the one handed in, or a copy of it.
        tuned: the tuned file: the one handed in, or an export.
        checkpoint: the checkpoint that is exported.
        step: after which step it was written; None if no run wrote it.
        files: the models, with their hashes.
        handed_in: whether the tuned file was handed in.
        as_exported: whether the tuned file is, byte by byte, what the checkpoint gives at its blend.
        blend: how far it goes from what training started from (0) to what it came to (1).
        verify: what verification says.
    """

    manifest: Manifest
    masked: MaskedModel
    base: ModelFile
    tuned: ModelFile
    checkpoint: str
    step: Optional[int]
    files: tuple[FileFacts, ...]
    handed_in: bool
    as_exported: bool
    blend: float
    verify: VerifyReport


def prove(
    directory: Path,
    work: Path,
    *,
    model: Optional[ModelSource] = None,
    tuned: Optional[ModelSource] = None,
    blend: float = 1.0,
) -> Proof:
    """Verifies the tuned model of an artifacts directory.

    Args:
        directory: the artifacts directory.
        work: an empty directory, for copies.
        model: the vendor's file.
        tuned: the tuned file; the one that the checkpoint gives, if None.
        blend: at which the checkpoint gives it; of a tuned file what its record says.

    Raises:
        ArtifactsError: the directory is not usable; ``model`` is another file than the artifacts were built from.
        ModelFileError: a file is no model.
        MaskedModelError: the masked model is damaged.
        RuntimeMissingError: onnxruntime-training, which reads checkpoints, is not installed.
    """
    artifacts = open_artifacts(directory)
    masked = artifacts.masked
    before = _base(masked, work) if model is None else _require_base(model, artifacts.manifest)
    after = None if tuned is None else load_model(tuned)
    (work / "export").mkdir()
    name = _name_of(after)
    blend, merged = (blend, False) if after is None else last_export(_ungated(before, after).proto)
    merged = merged and artifacts.masked.adapted is not None  # whatever the file says
    exported = export_artifacts(artifacts, blend=blend, merge=merged)
    exported.write(work / "export" / name)
    fresh = load_model(work / "export" / name)
    require_external_data(before)
    found = verify_gated(open_network(before), after or fresh, masked)
    names = ("" if model is None else before.path.name, "" if after is None else after.path.name)
    as_exported = after is None or _contents(_ungated(before, after)) == _contents(fresh)
    return proof_of(artifacts, exported, before, after or fresh, found, names=names, as_exported=as_exported)


def proof_of(
    artifacts: Artifacts,
    exported: Tuned,
    before: ModelFile,
    after: ModelFile,
    found: VerifyReport,
    *,
    names: tuple[str, str],
    as_exported: bool,
) -> Proof:
    """Returns what was checked of files that are open.

    Args:
        artifacts: of the training.
        exported: what its checkpoint gives.
        before: the vendor's file.
        after: the tuned file.
        found: what verification says of them.
        names: what the user calls these two; empty for copies of ours.
        as_exported: whether the tuned file is, byte by byte, what the checkpoint gives.
    """
    masked = artifacts.masked
    files = [
        FileFacts("vendor's model", names[0], len(before.data), before.sha256),
        *_externals(before, "its external data"),
        FileFacts("masked model", MASKED_MODEL, len(masked.file.data), masked.file.sha256),
        FileFacts("tuned model", names[1], len(after.data), after.sha256),
        *_externals(after, "its external data"),
    ]
    return Proof(
        artifacts.manifest,
        masked,
        before,
        after,
        exported.checkpoint,
        step_of(exported.run, artifacts.directory / exported.checkpoint),
        tuple(files),
        bool(names[1]),
        as_exported,
        exported.blend,
        found,
    )


def hash_of(path: Path) -> str:
    """Returns the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def _base(masked: MaskedModel, work: Path) -> ModelFile:
    (work / "vendor").mkdir()
    return load_model(write_vendor(masked, work / "vendor"))


def _require_base(model: ModelSource, manifest: Manifest) -> ModelFile:
    file = load_model(model)
    if file.sha256 != manifest.base_sha256:
        raise ArtifactsError(
            f"{file.path} is not the file that the artifacts were built from: expected SHA-256 {manifest.base_sha256}, "
            f"found {file.sha256}",
            remedy="name the vendor's file",
        )
    return file


def _name_of(tuned: Optional[ModelFile]) -> str:
    """Returns the name under which a model was exported, of which that of its external data is made."""
    if tuned is None:
        return "tuned.onnx"
    names = [
        name[: -len(".data")] for name in tuned.external_files if name.endswith(".data") and Path(name).name == name
    ]
    return names[0] if names and names[0] else tuned.path.name


def _externals(file: ModelFile, role: str) -> list[FileFacts]:
    found = []
    for location, path in require_external_data(file).items():
        found.append(FileFacts(role, location, path.stat().st_size, hash_of(path)))
    return found


def _ungated(before: ModelFile, after: ModelFile) -> ModelFile:
    """Returns the tuned file, of a gated one that in it."""
    if not is_gated(after.proto):
        return after
    try:
        return take_apart(before, after).tuned
    except ValueError:  # verification says why
        return after


def _contents(file: ModelFile) -> list[Optional[str]]:
    return [file.sha256, *(facts.sha256 for facts in _externals(file, ""))]
