"""Trained filters, written back into the vendor's file.

``writing_back``: the file, proved before it is written; ``provenance``: the record that is added to it.
"""

from tgdonnx.exporting.provenance import preparation_of
from tgdonnx.exporting.writing_back import (
    ExportReport,
    Tuned,
    export,
    export_artifacts,
    try_export,
    try_export_artifacts,
)

__all__ = [
    "ExportReport",
    "Tuned",
    "export",
    "export_artifacts",
    "preparation_of",
    "try_export",
    "try_export_artifacts",
]
