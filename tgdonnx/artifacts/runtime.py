"""The door to onnxruntime-training: the only module that imports it.

``import onnxruntime.training`` imports torch, for ORTModule, which we do not use and which users of tgdonnx need not
have. Its submodules ``api`` and so on do not. So a bare module object stands in for the package, before they are
imported; it has the package's path, so that they are found.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from typing import Any

from tgdonnx.errors import RuntimeMissingError

_PACKAGE = "onnxruntime.training"


def load_training_api() -> Any:
    """Returns the module ``onnxruntime.training.api`` (Module, Optimizer, CheckpointState).

    Raises:
        RuntimeMissingError: onnxruntime-training is not installed.
    """
    _require_training()
    return importlib.import_module(f"{_PACKAGE}.api")


def load_builder() -> Any:
    """Returns the compiled module with the gradient graph builder and the writer of checkpoints.

    Raises:
        RuntimeMissingError: onnxruntime-training is not installed.
    """
    _require_training()
    return importlib.import_module("onnxruntime.capi._pybind_state")


def load_onnxruntime() -> Any:
    """Returns the module ``onnxruntime``, of either package, for running models.

    Raises:
        RuntimeMissingError: neither is installed.
    """
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise RuntimeMissingError(f"onnxruntime cannot be imported ({error}); pip install 'tgdonnx[train]'") from error
    runtime.set_default_logger_severity(3)
    return runtime


def _require_training() -> None:
    if _PACKAGE in sys.modules:
        return
    if importlib.util.find_spec("onnxruntime") is not None:
        load_onnxruntime()
        spec = importlib.util.find_spec(_PACKAGE)
        if spec is not None and spec.submodule_search_locations:
            package = types.ModuleType(_PACKAGE)
            package.__path__ = list(spec.submodule_search_locations)
            package.__spec__ = spec
            sys.modules[_PACKAGE] = package
            if importlib.util.find_spec(f"{_PACKAGE}.api") is not None:
                return
            del sys.modules[_PACKAGE]  # plain onnxruntime has remains of the package, without the interface
    raise RuntimeMissingError(
        "onnxruntime-training is not installed; pip install 'tgdonnx[train]' (Python 3.9 to 3.12), in an "
        "environment without plain onnxruntime: both install the package `onnxruntime`"
    )
