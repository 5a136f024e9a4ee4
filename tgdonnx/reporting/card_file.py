"""The record of a tuned model as a file: by its name JSON of ours, or a CycloneDX document (``.cdx.json``)."""

from __future__ import annotations

from pathlib import Path

from tgdonnx.errors import OutputError
from tgdonnx.files.model_file import StrPath, require_writable, write_bytes
from tgdonnx.files.typed import encode
from tgdonnx.reporting.bom import bom_of, require_cyclonedx
from tgdonnx.reporting.card import Card

_BOM_SUFFIX = ".cdx.json"


def require_card(path: StrPath, *, overwrite: bool = False) -> Path:
    """Checks that a record can be made and written, before any work is done for it.

    Raises:
        OutputError: it cannot be written, or its name does not end in ``.json``.
        RuntimeMissingError: the library for CycloneDX is not installed.
    """
    if not Path(path).name.lower().endswith(".json"):
        raise OutputError(f"{path}: a record for machines is JSON; expected a name that ends in .json or {_BOM_SUFFIX}")
    if _is_bom(path):
        require_cyclonedx()
    return require_writable(path, overwrite=overwrite)


def write_card(path: StrPath, card: Card) -> None:
    """Writes a record.

    Raises:
        OutputError: it cannot be written.
    """
    write_bytes(Path(path), bom_of(card) if _is_bom(path) else encode(card, indent=1))


def _is_bom(path: StrPath) -> bool:
    return Path(path).name.lower().endswith(_BOM_SUFFIX)
