"""What is printed of results."""

from __future__ import annotations

import pytest

from tgdonnx.applying.reports import ApplyReport, Result
from tgdonnx.cli.results import applied_lines


@pytest.mark.parametrize(("error", "said"), [(0.5, "o.png: 4x5 whole numbers"), (0.0, "o.png: 4x5 float32")])
def test_of_a_result_it_is_said_what_its_file_holds(error: float, said: str) -> None:
    written = Result("i.png", "o.png", "y", (4, 5), "float32", 0.0, 9.0, error=error)
    assert applied_lines(ApplyReport("o.png", (4, 5), "float32", 1, (), None, (), results=(written,))) == [said]
