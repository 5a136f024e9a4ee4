"""Where the runtimes can be had, and what to say where one is missing: the one place that says it.

Any onnxruntime trains, by the engine of that name. onnxruntime-training-cpu 1.19.2 has wheels for CPython 3.9 to 3.12, on Linux
and Windows for x86-64, and on macOS. On anything else ``pip install 'tgdonnx[train]'`` installs nothing that trains, or fails.
"""

from __future__ import annotations

import platform
import sys
from typing import Optional

_NEWEST = (3, 12)
_X86_64 = ("x86_64", "AMD64", "amd64")
_SYSTEMS = {"linux": "Linux", "win32": "Windows", "darwin": "macOS"}


def why_not_available() -> Optional[str]:
    """Returns why the training runtime cannot be installed beside this Python; None where it can."""
    version = sys.version_info[:2]
    if version > _NEWEST:
        return f"there is no wheel of it for Python {version[0]}.{version[1]}: use Python 3.9 to 3.12"
    system = _SYSTEMS.get(sys.platform)
    if system is None or (system != "macOS" and platform.machine() not in _X86_64):
        return (
            f"there is no wheel of it for {system or sys.platform} on {platform.machine()}, only for Linux and Windows on "
            "x86-64, and for macOS"
        )
    return None


def training_remedy() -> str:
    """Returns how to train where onnxruntime-training is asked for and is not there."""
    other = "train by the engine onnxruntime (`engine='onnxruntime'`), which needs no more than 'tgdonnx[ort]'"
    reason = why_not_available()
    if reason is not None:
        return f"{reason}; {other}"
    return f"pip install 'tgdonnx[train]', in an environment without plain onnxruntime, or {other}"


def inference_remedy() -> str:
    """Returns how to get a runtime that runs and trains models."""
    return "pip install 'tgdonnx[ort]'"
