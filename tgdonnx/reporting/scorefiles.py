"""Scores as files: JSON (a report), CSV (a row per map), NPZ (arrays ``<node>/kse`` and so on)."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tgdonnx.errors import OutputError
from tgdonnx.files.model_file import StrPath, write_bytes
from tgdonnx.files.outputs import Output, require_outputs
from tgdonnx.scoring import ScoreReport

_ARRAYS = ("sparsity", "entropy", "kse")


def save_scores(report: ScoreReport, path: StrPath, *, overwrite: bool = False) -> None:
    """Writes scores in the format that the file's suffix names.

    Raises:
        OutputError: the suffix is unknown, or the file cannot be written.
    """
    path = Path(path)
    writers = {".json": _json, ".csv": _csv, ".npz": _npz}
    if path.suffix not in writers:
        raise OutputError(f"expected a file name that ends in {', '.join(writers)}; got {path.name!r}")
    require_outputs([Output(path)], [report.model], overwrite=overwrite)
    write_bytes(path, writers[path.suffix](report))


def _json(report: ScoreReport) -> bytes:
    document = asdict(report)
    for layer in document["layers"]:
        layer.update({name: layer[name].tolist() for name in _ARRAYS})
    return json.dumps(document, indent=1).encode()


def _csv(report: ScoreReport) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["node", "weight", "map", *_ARRAYS])
    for layer in report.layers:
        for index, values in enumerate(zip(layer.sparsity, layer.entropy, layer.kse)):
            writer.writerow([layer.node, layer.weight, index, *(repr(float(value)) for value in values)])
    return text.getvalue().encode()


def _npz(report: ScoreReport) -> bytes:
    arrays = {f"{layer.node}/{name}": getattr(layer, name) for layer in report.layers for name in _ARRAYS}
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()
