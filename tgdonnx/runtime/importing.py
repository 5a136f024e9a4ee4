"""The door to onnxruntime, of either package, for running models.

``import onnxruntime.training`` imports torch, for ORTModule, which we do not use and which users of tgdonnx need not have;
where torch is installed, even ``import onnxruntime`` of the training wheel does, through its self-check. The submodules
``api`` and so on do not. So before anything of the runtime is imported a bare module object stands in for the package; it has
the package's path, so that its submodules are found, and lacks ORTModule.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tgdonnx.errors import RuntimeMissingError
from tgdonnx.runtime.availability import inference_remedy

TRAINING = "onnxruntime.training"


def load_onnxruntime() -> Any:
    """Returns the module ``onnxruntime``, of either package, for running models.

    Raises:
        RuntimeMissingError: neither is installed.
    """
    _keep_torch_out()
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise RuntimeMissingError(f"onnxruntime cannot be imported ({error}); {inference_remedy()}") from error
    runtime.set_default_logger_severity(3)
    return runtime


def _keep_torch_out() -> None:
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or "onnxruntime" in sys.modules or TRAINING in sys.modules:
        return
    if stand_in(spec.submodule_search_locations or ()):
        blocked = f"{TRAINING}.ortmodule"
        sys.modules[blocked] = None  # type: ignore[assignment]  # importing it fails as if it were not there
        try:
            importlib.import_module("onnxruntime")
        finally:
            del sys.modules[blocked]


def stand_in(locations: Iterable[str]) -> bool:
    """Puts a bare module in the place of the training package, if there is one under these locations."""
    places = [str(Path(location, "training")) for location in locations]
    places = [place for place in places if Path(place, "api").is_dir()]  # plain onnxruntime has remains of the package
    if places:
        package = types.ModuleType(TRAINING)
        package.__path__ = places
        package.__spec__ = importlib.machinery.ModuleSpec(TRAINING, None, is_package=True)
        sys.modules[TRAINING] = package
    return bool(places)
