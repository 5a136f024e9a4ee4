"""Tuned files made without training: other values where masks let something train, and a record; and ways to forge them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
from onnx import numpy_helper

import tgdonnx
from tests.oracles.independent import tensors_of
from tests.support.models import Array
from tgdonnx.errors import TgdonnxError
from tgdonnx.masked_model import metadata_bytes, read_masked
from tgdonnx.overwriting import overwrite_values
from tgdonnx.records import earlier_rounds, encode_mask

Record = dict[str, Any]


def tune_by_hand(masked: Path, output: Path, seed: int = 0) -> Record:
    """Writes what export would write after training; returns the record."""
    read, rng = read_masked(masked), np.random.default_rng(seed)
    network, new, trained = read.network, {}, {}
    for name, mask in read.masks.items():
        if mask.any():
            parameter = network.stored_parameters[name]
            old = parameter.numpy()
            new[parameter] = np.where(mask == 1, old + rng.uniform(0.1, 1, old.shape), old).astype(old.dtype)
            retrain, kernels = encode_mask(mask, network, name)
            trained[name] = {"retrain": list(retrain), "kernels": kernels}
    record = {
        "format": 1,
        "tgdonnx": "0.1.0",
        "base_sha256": read.base.sha256,
        "selection": dict(read.selection),
        "options": {"loss": "mse"},
        "checkpoint": "checkpoint",
        "trained": trained,
    }
    body = overwrite_values(read.start, new).data
    output.write_bytes(body + entry(1 + earlier_rounds(read.base.proto), record))
    return record


def entry(number: int, record: Any) -> bytes:
    """A record as it stands in a file."""
    return metadata_bytes({f"tgdonnx.provenance.{number}": record if isinstance(record, str) else json.dumps(record)})


def body_of(tuned: bytes, record: Record, number: int = 1) -> bytes:
    """A tuned file without its record."""
    tail = entry(number, record)
    assert tuned.endswith(tail)
    return tuned[: -len(tail)]


def nudged(data: bytes, tensor: str, row: int, axis: int = 0) -> bytes:
    """A model with other values in one row of a tensor, the rest as it was."""
    model = onnx.ModelProto.FromString(data)
    found = tensors_of(model)[tensor]
    values = numpy_helper.to_array(found).copy()
    np.moveaxis(values, axis, 0)[row] += 1
    old = found.raw_data
    assert data.count(old) == 1
    return data.replace(old, values.tobytes())


def mask_edited(masked: Path, edit: Callable[[Array], Any], name: str) -> None:
    """Edits a retrain mask of a masked file in place, and nothing else of it."""
    model = onnx.load(masked)
    (tensor,) = (t for t in model.graph.initializer if t.name == f"{name}.retrain_mask")
    values = numpy_helper.to_array(tensor).copy()
    edit(values)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    masked.write_bytes(model.SerializeToString())


def selection_edited(masked: Path, **changes: Any) -> None:
    """Edits the selection in a masked file in place."""
    model = onnx.load(masked)
    (found,) = (e for e in model.metadata_props if e.key == "tgdonnx.selection")
    found.value = json.dumps({**json.loads(found.value), **changes})
    masked.write_bytes(model.SerializeToString())


def refused(
    base: Path, tuned: Path, masked: Optional[Path] = None, filters: Optional[Mapping[str, list[int]]] = None
) -> list[str]:
    """What `verify` says of a forgery; empty if it fell for it. Every error is a sentence of ours."""
    try:
        report = tgdonnx.verify(base, tuned, masked, filters)
    except TgdonnxError as error:
        return [str(error)]
    assert report.ok == (not report.violations)
    assert all("Traceback" not in violation and violation.strip() for violation in report.violations)
    return list(report.violations)
