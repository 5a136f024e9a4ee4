"""Functions take what they need by name: few parameters, and no option passed on unseen."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import tgdonnx

PACKAGE = Path(tgdonnx.__file__).parent
MOST = 10

# Where ``**`` is no way for options of ours: attributes of nodes, what click hands to the functions that it calls, and what it
# takes itself. Options become objects in `collecting`, once for all commands.
ATTRIBUTES = {
    "engines/onnxruntime_training/optimizers.py:op",
    "graphs/builder.py:__call__",
    "lowering/arithmetic.py:compute",
    "lowering/arithmetic.py:emit",
    "lowering/old_operators.py:_resized",
}
OF_CLICK = {
    "cli/collecting.py:collecting",
    "cli/guarding.py:guarded",
    "cli/helping.py:__call__",
    "cli/helping.py:__init__",
    "cli/lazy.py:__init__",
    "cli/outermost.py:main",
    "cli/outermost.py:make_context",
}


def functions() -> Iterator[tuple[str, ast.arguments]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{path.relative_to(PACKAGE).as_posix()}:{node.name}", node.args


def test_no_function_takes_more_than_ten_parameters() -> None:
    counts = {name: len(a.posonlyargs) + len(a.args) + len(a.kwonlyargs) for name, a in functions()}
    assert len(counts) > 1000
    assert {name: count for name, count in counts.items() if count > MOST} == {}


def test_no_function_passes_options_on_unseen() -> None:
    assert {name for name, arguments in functions() if arguments.kwarg is not None} == ATTRIBUTES | OF_CLICK
