"""Errors as types: one base, a builtin beside it, attributes, and none is lost on the way from another process."""

from __future__ import annotations

import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

import tgdonnx
from tgdonnx import errors

PUBLIC = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == errors.__name__
]
# Raised and caught inside, as a way to go on.
INTERNAL = {
    *("NotLocal", "UntraceableError", "Interrupted", "_WrongClaimError", "_NothingTrainedError", "NotRegularError"),
    "TooLargeError",
}
MORE = {
    errors.MissingArrayError: ("array",),
    errors.StoppedError: (15,),
    errors.KeptError: (Path("run"), "tgdonnx.train('run')"),
}


def made(kind: type[Any]) -> Any:
    return kind("what is wrong", *MORE.get(kind, ()))


@pytest.mark.parametrize("kind", PUBLIC)
def test_every_error_has_the_base_and_a_builtin_and_says_what_is_wrong(kind: type[Any]) -> None:
    error = made(kind)
    assert isinstance(error, tgdonnx.TgdonnxError)
    assert kind is tgdonnx.TgdonnxError or isinstance(
        error, (ValueError, OSError, ImportError, RuntimeError, ArithmeticError)
    )
    assert (error.problem, error.remedy, error.node, error.op_type) == ("what is wrong", "", "", "")
    assert str(error) == "what is wrong"


@pytest.mark.parametrize("kind", PUBLIC)
def test_an_error_comes_back_whole_from_another_process(kind: type[Any]) -> None:
    error = made(kind)
    error.add("and where")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert (str(back), vars(back)) == ("what is wrong; and where", vars(error))


def test_what_else_was_wrong_with_data_comes_back_too() -> None:
    error = errors.DataError("first", remedy="mend it", options={"batch": 1})
    error.also = (errors.MissingArrayError("second", "x"),)
    back = pickle.loads(pickle.dumps(error))
    assert (back.problem, back.remedy, back.options) == ("first", "mend it", {"batch": 1})
    assert [(type(each), each.array) for each in back.also] == [(errors.MissingArrayError, "x")]


def test_every_other_exception_of_the_package_is_of_that_base_or_never_leaves_it() -> None:
    known = {kind.__name__ for kind in PUBLIC}
    found = set()
    for path in sorted(Path(tgdonnx.__file__).parent.rglob("*.py")):
        for name, bases in re.findall(r"^class (\w+)\(([^)]*)\):", path.read_text("utf-8"), re.MULTILINE):
            kinds = set(bases.split(", "))
            if any(base.endswith(("Error", "Exception")) for base in kinds) and not kinds & known:
                found.add(name)
    assert found - known == INTERNAL
