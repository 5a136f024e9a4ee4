"""The rules of all operators in one table.

To trace one more operator, write its rule in the module of its family; it is found here.
"""

from __future__ import annotations

from tgdonnx.tracing import elementwise, indexing, mixing, rearranging
from tgdonnx.tracing.rule import Rule

RULES: dict[str, Rule] = {**elementwise.RULES, **mixing.RULES, **rearranging.RULES, **indexing.RULES}
