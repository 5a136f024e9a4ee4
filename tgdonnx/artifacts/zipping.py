"""One file for a page or a device: an artifacts directory, and the vendor's file, which an exporter overwrites.

The zip holds the files of the directory by their names, ``vendor.onnx``, and the vendor's external data where that file says
that it is; of external data no more than tensors need. Nothing is compressed, so that a few lines of any language read it. The
same files give the same bytes.
"""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path

from tgdonnx import bounds
from tgdonnx.artifacts.manifest import LOCK
from tgdonnx.errors import ArtifactsError, OutputError
from tgdonnx.files.model_file import replacing
from tgdonnx.files.outputs import is_of_artifacts
from tgdonnx.files.scratch import scratch_directory
from tgdonnx.masked_model import MaskedModel, write_vendor

VENDOR = "vendor.onnx"
_EARLIEST = (1980, 1, 1, 0, 0, 0)
_REMEDY = "leave `zip` out, and copy the directory"
_MODE = stat.S_IFREG | 0o644


def require_zip_name(path: Path) -> None:
    """Checks that a zip is called one: by another name no page and no device would take it.

    Raises:
        OutputError: it is not.
    """
    if path.suffix.lower() != ".zip":
        raise OutputError(
            f"{path} is to be a zip, and its name does not end in .zip",
            remedy=f"call it {path.with_suffix('.zip').name}",
        )


def write_zip(directory: Path, masked: MaskedModel, path: Path) -> None:
    """Writes an artifacts directory and the vendor's file into one zip.

    Args:
        directory: with artifacts, and nothing else.
        masked: what they were built from.
        path: the zip to write.

    Raises:
        ArtifactsError: it would be too large, or the vendor's external data is called as one of the artifacts is.
        OutputError: it cannot be written.
    """
    with scratch_directory() as room:
        written = write_vendor(masked, room)
        ours = {file.name: file for file in directory.iterdir() if file.name != LOCK}
        theirs = {file.relative_to(room).as_posix(): file for file in room.rglob("*") if file.is_file()}
        # `write_vendor` gives the model another name where its external data has that of the model.
        twice = (
            {VENDOR} if written.name != VENDOR else {name for name in theirs if name in ours or is_of_artifacts(name)}
        )
        if twice:
            raise ArtifactsError(
                f"the vendor's file keeps weights in {min(twice)!r}, which another file in the zip is called, or will be",
                remedy=_REMEDY,
            )
        files = {**ours, **theirs}
        size = sum(file.stat().st_size for file in files.values())
        if size > bounds.ZIP_BYTES:
            raise ArtifactsError(
                f"the artifacts and the vendor's file have {size:,} bytes; expected at most {bounds.ZIP_BYTES:,} for a zip",
                remedy=_REMEDY,
            )
        with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
            for name, file in sorted(files.items()):
                entry = zipfile.ZipInfo(name, _EARLIEST)
                entry.create_system, entry.external_attr = 3, _MODE << 16  # Unix, wherever this runs
                with file.open("rb") as source, archive.open(entry, "w") as target:
                    shutil.copyfileobj(source, target, 2**20)
