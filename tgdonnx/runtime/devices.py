"""Where a model runs: the CPU, or an accelerator that an execution provider of ONNX Runtime knows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

from tgdonnx.errors import ArtifactsError, RuntimeMissingError
from tgdonnx.runtime.error_text import reason_of
from tgdonnx.runtime.importing import load_onnxruntime
from tgdonnx.runtime.options import session_options

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


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


def parse_device(text: str) -> Device:
    """Reads a device such as ``cpu``, ``cuda`` or ``cuda:1``.

    >>> parse_device("cuda:1")
    Device(kind='cuda', index=1)

    Raises:
        RuntimeMissingError: there is none of that name, or the runtime that is installed cannot use it.
    """
    match = re.fullmatch(r"([a-z]+)(?::(\d{1,3}))?", text)
    if match is None or match[1] not in _PROVIDERS or (match[1] == "cpu" and match[2]):
        raise RuntimeMissingError(f"expected a device such as {', '.join(_PROVIDERS)} or cuda:1; got {text!r}")
    return Device(match[1], int(match[2] or 0))


def open_on(path: Path, device: Device) -> Any:
    """Opens a model file of our own making on a device, to run it with bound inputs and outputs.

    Raises:
        ArtifactsError: the runtime cannot load it.
    """
    runtime = load_onnxruntime()
    try:
        return runtime.InferenceSession(str(path), session_options(), providers=device.providers)
    except Exception as error:  # the runtime raises its own types, which share no base
        raise ArtifactsError(
            f"ONNX Runtime {runtime.__version__} cannot load {path}: {reason_of(error)}; build the artifacts again"
        ) from error


def require_device(device: Device) -> None:
    """Checks that the runtime that is installed can use a device.

    Raises:
        RuntimeMissingError: it cannot.
    """
    runtime = load_onnxruntime()
    available = runtime.get_available_providers()
    if _PROVIDERS[device.kind] not in available:
        raise RuntimeMissingError(
            f"the onnxruntime {runtime.__version__} that is installed cannot use {device}: it has {', '.join(available)}; "
            "install onnxruntime-gpu in its place, or use the device cpu"
        )
