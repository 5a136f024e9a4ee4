"""How messages name what to call, and with what: as Python does, in backticks.

A field is named as it is (`output`), with values as in a call (`batch=4, accumulate=2`), a function by its whole name
(`tgdonnx.build`). The command line says the same in its own words, see `tgdonnx.cli.spelling`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType

_NOTHING: Mapping[str, object] = MappingProxyType({})


def call(function: str, *arguments: object, options: Mapping[str, object] = _NOTHING) -> str:
    """Returns a call of a function of tgdonnx.

    >>> call("export", "art", options={"output": "tuned.onnx", "overwrite": True})
    "tgdonnx.export('art', output='tuned.onnx', overwrite=True)"

    Args:
        function: its name.
        arguments: those that go without a name; paths as text.
        options: the others, by name.
    """
    words = [*map(_written, arguments), *(f"{name}={_written(value)}" for name, value in options.items())]
    return f"tgdonnx.{function}({', '.join(words)})"


def _written(value: object) -> str:
    return repr(os.fspath(value) if isinstance(value, os.PathLike) else value)
