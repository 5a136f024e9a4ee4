"""Moved to `tgdonnx.graphs.builder` and `tgdonnx.lowering.refusing`; here until the last who reads it has moved too."""

from tgdonnx.graphs.builder import PREFIX, AttributeValue, before, constant, fresh_name, replace
from tgdonnx.lowering.refusing import refusal

__all__ = ["PREFIX", "AttributeValue", "before", "constant", "fresh_name", "refusal", "replace"]
