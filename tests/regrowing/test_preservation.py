"""The start computes what the dropped model computes, and differs from the vendor's file within the masks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models import MODELS
from tests.regrowing.starts import assert_preserves, assert_within_masks, reborn_in
from tgdonnx.selection import Phi


@pytest.mark.parametrize("kind", ["he", "clone"])
@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("shared")])
def test_the_start_is_the_drop_test(name: str, kind: str, isolate: bool, tmp_path: Path) -> None:
    case = reborn_in(MODELS[name](0), tmp_path, Phi(0.3), kind, isolate=isolate)
    assert case.reborn
    assert_preserves(case)
    assert_within_masks(case)
