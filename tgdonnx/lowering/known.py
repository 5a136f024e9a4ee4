"""Moved to `tgdonnx.graphs.constants`; here until the last who reads it has moved too."""

from tgdonnx.graphs.constants import known_array

__all__ = ["known_array"]
