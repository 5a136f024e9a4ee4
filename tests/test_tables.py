"""What the guide on contributing says of formats, losses and selections: a row in a table, which nothing else repeats."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tgdonnx
from tgdonnx.artifacts.losses import FUNCTIONS
from tgdonnx.data.formats import FORMATS
from tgdonnx.guides import text_of
from tgdonnx.selection import STRATEGIES

PACKAGE = Path(tgdonnx.__file__).parent
TABLES = re.findall(r"Put the (?:row|class) into `(\w+)`\s+in\s+`tgdonnx/([\w/]+)\.py`", text_of("contributing"))


def words(room: str) -> Iterator[tuple[str, str]]:
    """Yields every text in the code of a room that is no sentence, with the module that it stands in."""
    for path in sorted((PACKAGE / room).rglob("*.py")):
        module = path.relative_to(PACKAGE).with_suffix("").as_posix()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value, module


def test_the_tables_are_where_the_guide_says() -> None:
    found = {name: getattr(importlib.import_module(f"tgdonnx.{path.replace('/', '.')}"), name) for name, path in TABLES}
    assert found == {"FUNCTIONS": FUNCTIONS, "FORMATS": FORMATS, "STRATEGIES": STRATEGIES}


@pytest.mark.parametrize(
    ("rooms", "names", "owners"),
    [
        (("data", "cli"), {s for each in FORMATS for s in each.suffixes}, "data/(arrays|dicom|hdf5|images|nifti)"),
        # Those that are no metrics, too, and no default.
        (
            ("",),
            {each.name for each in FUNCTIONS} - {"ssim", "mse", "dice"},
            "artifacts/losses/(pointwise|ssim|overlap|cross_entropy)",
        ),
        # Other names of selections are ordinary words.
        (("cli", "regrowing", "reporting", "verifying"), {"percentile", "first"}, "none"),
    ],
    ids=["formats", "losses", "selections"],
)
def test_what_a_table_lists_stands_nowhere_else(rooms: tuple[str, ...], names: set[str], owners: str) -> None:
    elsewhere = {
        (word, module)
        for room in rooms
        for word, module in words(room)
        if word in names and not re.fullmatch(owners, module)
    }
    assert elsewhere == set()
