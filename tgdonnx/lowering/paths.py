"""Moved to `tgdonnx.graphs.paths`; here until the last who reads it has moved too."""

from tgdonnx.graphs.paths import depending, gradient_path

__all__ = ["depending", "gradient_path"]
