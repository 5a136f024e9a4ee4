"""The node tests of the ONNX standard, of some operators."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Iterable
from typing import Any

PACKAGE = "onnx.backend.test.case.node"


def cases_of(op_types: Iterable[str]) -> list[Any]:
    """Returns the cases, ``onnx.backend.test.case.test_case.TestCase``, of one node each.

    A module has the cases of one operator, and works out what they expect while it is imported, that of pooling in three
    dimensions for seconds: no other module is.
    """
    op_types = set(op_types)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some overflow while they are written
        package = importlib.import_module(PACKAGE)
        for op_type in sorted(op_types):
            if importlib.util.find_spec(f"{PACKAGE}.{op_type.lower()}") is not None:
                importlib.import_module(f"{PACKAGE}.{op_type.lower()}")
    cases = [case for case in package._NodeTestCases if case.model is not None and len(case.model.graph.node) == 1]
    return [case for case in cases if case.model.graph.node[0].op_type in op_types]
