"""The table of codes is that of what a check can find."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tgdonnx.checking
from tgdonnx.checking import CODES, Finding


def test_every_code_that_a_check_can_give_is_in_the_table_and_no_other() -> None:
    room = Path(tgdonnx.checking.__file__).parent
    sources = [path.read_text("utf-8") for path in room.glob("*.py") if path.name != "codes.py"]
    assert set(re.findall(r'"(TGD\d{3})"', "\n".join(sources))) == set(CODES)


def test_codes_are_listed_in_order_and_only_what_is_no_fault_has_no_remedy() -> None:
    assert list(CODES) == sorted(CODES)
    for each in CODES.values():
        assert each.meaning.endswith(".")
        assert not each.remedy.endswith(".")
        assert bool(each.remedy) == (each.severities != ("info",))


def test_a_finding_has_a_code_of_the_table_and_a_severity_of_its_own() -> None:
    assert Finding("TGD003", "warning", "", "", "", "").severity == "warning"
    with pytest.raises(AssertionError):
        Finding("TGD005", "info", "", "", "", "")
    with pytest.raises(KeyError):
        Finding("TGD999", "error", "", "", "", "")
