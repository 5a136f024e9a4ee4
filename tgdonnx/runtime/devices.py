"""Where a model runs: the CPU, or an accelerator that an execution provider of ONNX Runtime knows.

ONNX Runtime falls back to the CPU without an error where it cannot load a provider, or where that fails. Sessions are opened
here so that this is an error: what was asked for is what runs.
"""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from onnx import TensorProto, helper

from tgdonnx.errors import ArtifactsError, DataError, RuntimeMissingError
from tgdonnx.runtime.error_text import reason_of
from tgdonnx.runtime.importing import load_onnxruntime
from tgdonnx.runtime.options import session_options

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_PACKAGES = {"cuda": "onnxruntime-gpu (pip install 'tgdonnx[gpu]')"}


@dataclass(frozen=True)
class Device:
    """A device.

    Attributes:
        kind: ``cpu`` or ``cuda``.
        index: which of several.
    """

    kind: str = "cpu"
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"

    @property
    def providers(self) -> list[Union[str, tuple[str, dict[str, Any]]]]:
        """What a session is opened with. Results are the same from run to run, in float32 throughout."""
        if self.kind == "cpu":
            return [_PROVIDERS["cpu"]]
        settings = {"device_id": self.index, "use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
        return [(_PROVIDERS[self.kind], settings), _PROVIDERS["cpu"]]


CPU = Device()
CPU_NAME = str(CPU)


def parse_device(text: str) -> Device:
    """Reads a device such as ``cpu``, ``cuda`` or ``cuda:1``.

    >>> parse_device("cuda:1")
    Device(kind='cuda', index=1)

    Raises:
        DataError: there is none of that name.
    """
    match = re.fullmatch(r"([a-z]+)(?::(\d{1,3}))?", text)
    if match is None or match[1] not in _PROVIDERS or (match[1] == "cpu" and match[2]):
        raise DataError(f"expected a device such as {', '.join(_PROVIDERS)} or cuda:1; got {text!r}")
    return Device(match[1], int(match[2] or 0))


def usable_device(text: str) -> Device:
    """Reads a device, and checks that a model runs on it; to be called before anything is written.

    Args:
        text: as of `parse_device`.

    Raises:
        DataError: there is none of that name.
        RuntimeMissingError: the runtime that is installed cannot use it.
    """
    device = parse_device(text)
    require_device(device)
    return device


def require_device(device: Device) -> None:
    """Checks that the runtime that is installed can use a device, by running a model of one node there.

    Raises:
        RuntimeMissingError: it cannot.
    """
    runtime = load_onnxruntime()
    if device.kind == "cpu":
        return
    available = runtime.get_available_providers()
    if _PROVIDERS[device.kind] not in available:
        raise RuntimeMissingError(
            f"the onnxruntime {runtime.__version__} that is installed cannot use {device}: it has {', '.join(available)}",
            remedy=f"install {_PACKAGES[device.kind]} in its place, or use the device cpu",
        )
    _load_libraries(runtime)
    try:
        open_session(_one_node(), device).run(None, {"x": [1.0]})
    except RuntimeMissingError:
        raise
    except Exception as error:  # the runtime raises its own types, which share no base
        raise _unusable(runtime, device, reason_of(error)) from error


def open_session(model: Union[str, bytes], device: Device, options: Any = None) -> Any:
    """Opens a model on a device, and sees to it that it runs there and nowhere else.

    Args:
        model: the path of a file, or its content.
        device: the device. Single nodes that its provider has no kernel for run on the CPU.
        options: of the session; those of `session_options` if None.

    Raises:
        RuntimeMissingError: the runtime does not take the device.
        Exception: it cannot load the model; its own types share no base.
    """
    runtime, options = load_onnxruntime(), options or session_options()
    if device.kind != "cpu":
        options.use_deterministic_compute = True
    session = runtime.InferenceSession(model, options, providers=device.providers, enable_fallback=0)
    session.disable_fallback()
    taken = session.get_providers()
    if _PROVIDERS[device.kind] not in taken:
        raise _unusable(runtime, device, f"it would run models by {', '.join(taken)}")
    return session


def open_on(path: Path, device: Device) -> Any:
    """Opens a model file of our own making on a device, to run it with bound inputs and outputs.

    Raises:
        ArtifactsError: the runtime cannot load it.
        RuntimeMissingError: it does not take the device.
    """
    try:
        return open_session(str(path), device)
    except RuntimeMissingError:
        raise
    except Exception as error:  # the runtime raises its own types, which share no base
        raise ArtifactsError(
            f"ONNX Runtime {load_onnxruntime().__version__} cannot load {path}: {reason_of(error)}; build the artifacts again"
        ) from error


def _load_libraries(runtime: Any) -> None:
    """Loads the libraries of CUDA and cuDNN that lie in Python's packages; what is missing is said by who misses it."""
    if hasattr(runtime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            runtime.preload_dlls()


def _unusable(runtime: Any, device: Device, reason: str) -> RuntimeMissingError:
    return RuntimeMissingError(
        f"the onnxruntime {runtime.__version__} that is installed cannot use {device}: {reason}",
        remedy="see that there is such a device, with its driver and the libraries of CUDA and cuDNN that onnxruntime-gpu was "
        "built for, or use the device cpu",
    )


def _one_node() -> bytes:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "probe", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
