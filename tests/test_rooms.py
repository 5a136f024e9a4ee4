"""Imports run one way: downward through the list of rooms, never up and never in a circle.

Imports are read off the sources, those inside functions included; what only type checkers see does not count.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import tgdonnx

PACKAGE = Path(tgdonnx.__file__).parent

# From the top to the ground; a room may import those behind it. Packages, and modules that stand alone.
ROOMS = (
    *("__main__", "cli", "starting", "guides"),
    "federated",
    "batching",
    *("pipeline", "checking", "trial", "keeping"),
    *("reporting", "inspection", "comparing", "applying", "gating"),
    *("exporting", "verifying"),
    "evaluating",
    "gated_model",
    *("blending", "sensitivity"),
    *("finetuning", "masking", "regrowing", "sweeping", "data", "artifacts", "engines", "gradients", "lowering"),
    *("records", "masked_model", "overwriting", "adapting", "selection", "scoring", "tracing"),
    "cluster",
    *("layers", "graphs", "runtime", "kse"),
    *("files", "bounds", "errors", "calls", "presenting", "versions"),
)

# What runs upward, or in a circle, today. The lists only get shorter: what is mended has to be taken off them.
UPWARD: set[tuple[str, str]] = set()
CIRCLES: set[frozenset[str]] = set()


def module_name(path: Path) -> str:
    """Returns the name of a module without that of the package; of the package itself, the empty one."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(tree: ast.AST) -> Iterator[str]:
    """Yields the modules of the package that a source imports when it runs."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from imported(ast.Module(node.orelse, []))
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports say where from"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            yield from imported(node)
            continue
        for name in names:
            if name.partition(".")[0] == "tgdonnx":
                inner = name.partition(".")[2]
                yield inner if inner in MODULES else inner.rpartition(".")[0]


def imports_of(module: str) -> set[str]:
    return set(imported(ast.parse(MODULES[module].read_text(encoding="utf-8")))) - {module}


IMPORTS = {module: imports_of(module) for module in MODULES}


def room(module: str) -> str:
    return module.partition(".")[0]


def test_every_module_has_its_room() -> None:
    assert len(set(ROOMS)) == len(ROOMS)
    assert {room(module) for module in MODULES} - {""} == set(ROOMS)


def test_no_import_runs_upward_but_those_that_are_known() -> None:
    found = {
        (module, other)
        for module, others in IMPORTS.items()
        for other in others
        if module and other and ROOMS.index(room(other)) < ROOMS.index(room(module))
    }
    assert found == UPWARD


def test_no_room_imports_the_package_as_a_whole() -> None:
    # But the command line, which says the version.
    assert {
        module for module, others in IMPORTS.items() if "" in others and room(module) not in ("cli", "__main__")
    } == set()


def reachable(module: str) -> set[str]:
    """Returns what a module imports, and what that imports, and so on."""
    found: set[str] = set()
    pending = [module]
    while pending:
        new = IMPORTS[pending.pop()] - found - {""}
        found |= new
        pending += new
    return found


def test_no_imports_run_in_a_circle_but_those_that_are_known() -> None:
    behind = {module: reachable(module) for module in MODULES if module}
    circles = {
        frozenset({module, *(other for other in others if module in behind[other])})
        for module, others in behind.items()
        if module in others
    }
    assert circles == CIRCLES


def test_imports_of_every_form_are_seen() -> None:
    source = """
import tgdonnx.files.wire
from tgdonnx import errors
from tgdonnx.layers import Layer, sizes
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from tgdonnx.cli import options
else:
    from tgdonnx.data import dataset
def f():
    try:
        from tgdonnx.graphs.builder import Builder
    except ImportError:
        import numpy
"""
    expected = {"files.wire", "errors", "layers", "layers.sizes", "data.dataset", "graphs.builder"}
    assert set(imported(ast.parse(source))) == expected
