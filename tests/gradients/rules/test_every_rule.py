"""Every rule of the table against finite differences; `tests.pytorch` holds the same cases against PyTorch."""

from __future__ import annotations

import pytest

from tests.gradients.checking import check_gradients
from tests.gradients.rule_cases import CASES, Case, labelled
from tgdonnx.gradients.rule import RULES
from tgdonnx.lowering.fake_quantize import DOMAIN, FAKE_QUANTIZE


def test_every_rule_has_a_case() -> None:
    # Rounding has no slope: its straight-through gradient is the business of test_quantized.
    assert set(RULES) - {(DOMAIN, FAKE_QUANTIZE)} == {("", op_type) for op_type in CASES}


def test_every_case_is_of_its_operator() -> None:
    assert all(case.op_type == op_type for op_type, cases in CASES.items() for case in cases)


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in labelled()])
def test_a_rule_gives_the_slopes_of_its_operator(case: Case) -> None:
    check_gradients(
        [case.node],
        case.feeds,
        case.stored,
        outputs=case.summed,
        opset=case.opset,
        kinds=case.kinds,
        held=case.held,
    )
