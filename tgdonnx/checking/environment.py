"""Whether what trains is installed, and can use the device."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

from tgdonnx.checking.codes import CODES
from tgdonnx.checking.findings import Finding, blocked
from tgdonnx.engines import Engine
from tgdonnx.errors import (
    RuntimeMissingError,
)
from tgdonnx.runtime import CPU, Device
from tgdonnx.runtime.availability import inference_remedy, training_remedy, why_not_available
from tgdonnx.runtime.devices import require_device

_TRAINING = ("onnxruntime-training-cpu", "onnxruntime-training")


_INFERENCE = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")


_MEASURED = "1.19.2"


def environment_findings(engine: Engine) -> Iterable[Finding]:
    """Yields what is wrong with the packages that are installed."""
    versions = {}
    for name in (*_TRAINING, *_INFERENCE):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    training = [name for name in _TRAINING if name in versions]
    if engine.name == "onnxruntime-training" and not training:
        yield Finding("TGD101", "error", "", "", "onnxruntime-training is not installed", training_remedy())
    if not versions:
        yield Finding("TGD101", "error", "", "", "no onnxruntime is installed", inference_remedy())
    if len(versions) > 1:
        message = f"{' and '.join(versions)} install the same files: one of them is broken"
        yield Finding("TGD102", "error", "", "", message, why_not_available() or CODES["TGD102"].remedy)
    for name in training:
        if versions[name] != _MEASURED:
            message = f"{name} is of version {versions[name]}; {_MEASURED} is the one that was measured"
            yield Finding("TGD103", "warning", "", "", message, f"pip install {name}=={_MEASURED}")


def device_findings(engine: Engine, device: Device) -> list[Finding]:
    """Returns why an engine cannot train on a device; nothing if it can."""
    if device == CPU:  # that there is a runtime, the other findings tell
        return []
    try:
        engine.require_device(device)
        require_device(device)
    except RuntimeMissingError as error:
        return [blocked("TGD106", error)]
    return []
