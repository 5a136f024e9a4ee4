"""Models with external data."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto

from tests.support import models


def externalise(model: onnx.ModelProto, directory: Path) -> onnx.ModelProto:
    data = b""
    for tensor in model.graph.initializer:
        raw = tensor.raw_data
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", len(data)), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))
        data += raw
    (directory / "weights.bin").write_bytes(data)
    return model


def external_model(directory: Path, name: str = "model.onnx", location: str = "w.bin") -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / location).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(models.chain(0), directory / name, save_as_external_data=True, location=location, size_threshold=0)
    return directory / name
