"""Where ``l2_sp`` pulls to, moved: to the values that a round of federated training starts with, as FedProx wants it.

The models hold it as an initializer for every parameter (`tgdonnx.engines.gradient_graph.start_name`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from tgdonnx.engines.gradient_graph import start_name
from tgdonnx.engines.onnxruntime.session import STEP_MODEL, UPDATE_MODEL
from tgdonnx.errors import ArtifactsError
from tgdonnx.files.model_file import load_model, write_bytes


def pull_to(directory: Path, values: Mapping[str, NDArray[np.float32]]) -> None:
    """Rewrites the models of an artifacts directory that move parameters, so that ``l2_sp`` pulls to other values.

    Args:
        directory: the artifacts directory; nobody has its models open.
        values: for every parameter, of its shape.

    Raises:
        ArtifactsError: the models do not pull at all, or were built by a version that did not name where to.
        OutputError: they cannot be written.
    """
    for name in (STEP_MODEL, UPDATE_MODEL):
        proto = load_model(directory / name).proto
        initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
        for parameter, array in values.items():
            tensor = initializers.get(start_name(parameter))
            if tensor is None:
                raise ArtifactsError(
                    f"{directory / name} has nothing that pulls {parameter!r} anywhere",
                    remedy="build the artifacts with `l2_sp`, by this version",
                )
            tensor.ClearField("external_data")
            tensor.data_location = TensorProto.DEFAULT
            tensor.raw_data = np.ascontiguousarray(array, "<f4").tobytes()
        write_bytes(directory / name, proto.SerializeToString())
