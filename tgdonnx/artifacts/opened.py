"""An artifacts directory that is open: each of its files is read once, and handed on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tgdonnx.artifacts.consistency import require_masked_of
from tgdonnx.artifacts.manifest import MASKED_MODEL, Manifest, read_manifest
from tgdonnx.engines import Checkpoint
from tgdonnx.errors import ArtifactsError
from tgdonnx.masked_model import MaskedModel, read_masked


@dataclass(frozen=True)
class Artifacts:
    """An artifacts directory that is open.

    Attributes:
        directory: where it is.
        manifest: what it holds.
        masked: the masked model that it was built from.
    """

    directory: Path
    manifest: Manifest
    masked: MaskedModel = field(repr=False)

    @property
    def kept_checkpoint(self) -> str:
        """The checkpoint that counts: that of the best epoch if there is one, else the latest."""
        return kept_checkpoint(self.directory, self.manifest)

    def checkpoint(self, name: str) -> Checkpoint:
        """Reads a checkpoint.

        Raises:
            ArtifactsError: it is not there, or cannot be read.
            RuntimeMissingError: the runtime of the engine, which reads it, is not installed.
        """
        if not (self.directory / name).is_file():
            raise ArtifactsError(f"{self.directory} has no checkpoint {name!r}")
        return self.manifest.runtime.read(self.directory, name)


def kept_checkpoint(directory: Path, manifest: Manifest) -> str:
    """Returns the checkpoint of an artifacts directory that counts: that of the best epoch if there is one, else the latest."""
    engine = manifest.runtime
    return engine.best_checkpoint if (directory / engine.best_checkpoint).is_file() else engine.checkpoint


def open_artifacts(directory: Path) -> Artifacts:
    """Opens an artifacts directory.

    Raises:
        ArtifactsError: it is not usable, or its files do not belong together.
    """
    manifest, masked = read_manifest(directory), read_masked(directory / MASKED_MODEL)
    require_masked_of(manifest, masked, directory)
    return Artifacts(directory, manifest, masked)
