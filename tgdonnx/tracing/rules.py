"""The rules of all operators in one table: given the origins of a node's inputs, those of its outputs.

To trace one more operator, write its rule in the module of its family and it is found here.
"""

from __future__ import annotations

from tgdonnx.tracing import concat, elementwise, pad, pooling
from tgdonnx.tracing.rule import Rule

RULES: dict[str, Rule] = {**elementwise.RULES, **concat.RULES, **pooling.RULES, **pad.RULES}
