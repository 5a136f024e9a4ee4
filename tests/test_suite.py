"""What every test module keeps to."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parent


def test_no_test_module_is_imported() -> None:
    """Else a test depends on what another one happens to need, and fixtures and markers run twice."""
    found = [
        f"{path.relative_to(TESTS)}: {name}"
        for path in sorted(TESTS.rglob("*.py"))
        for name in imported(ast.parse(path.read_text("utf-8")))
        if any(part.startswith("test_") for part in name.split("."))
    ]
    assert not found


def test_helpers_are_imported_from_where_they_are() -> None:
    """Also by programs that a test starts, which would say so only when it runs."""
    found = [
        f"{path.relative_to(TESTS)}: {name}"
        for path in sorted(TESTS.rglob("*.py"))
        for name in imported(ast.parse(path.read_text("utf-8")))
        if name.startswith("tests.") and not is_there(name)
    ]
    assert not found


def is_there(name: str) -> bool:
    """Whether a name stands for a module of the tests, or for something in one."""
    place = TESTS.joinpath(*name.split(".")[1:])
    return place.with_suffix(".py").exists() or place.is_dir() or place.parent.with_suffix(".py").exists()


def imported(module: ast.Module) -> list[str]:
    """Every module, or what may be one, that is imported, also in programs that a test runs from a string."""
    names = []
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "import" in node.value:
            names.extend(imported(program(node.value)))
    return names


def program(text: str) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError):
        return ast.Module([], [])


def test_what_is_imported_is_found_in_programs_too() -> None:
    inner, program_text = "test_c", "import os, d." + "test_e"
    code = f"import a\ndef f():\n    from tests import {inner}\nRUN = {program_text!r}"
    assert sorted(imported(ast.parse(code))) == ["a", "d.test_e", "os", "tests.test_c"]
