"""The package itself: every verb is there, and nothing is imported before it is asked for."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import tgdonnx

ROOT = Path(__file__).parents[1]
EVERYTHING = (
    "tgdonnx.pipeline, tgdonnx.comparing, tgdonnx.applying, tgdonnx.reporting.page, tgdonnx.sweeping, tgdonnx.cluster"
)
# Imported where they are used.
HEAVY = {"onnxruntime", "matplotlib", "h5py", "nibabel", "pydicom", "jinja2", "PIL", "yaml", "tensorboardX", "click"}
HEAVY |= {"dask", "distributed"}


@pytest.mark.parametrize("name", tgdonnx.__all__)
def test_every_public_name_is_what_its_module_has(name: str) -> None:
    value = getattr(tgdonnx, name)
    if name != "Strategy":  # a Union has no name of its own
        assert value.__name__ == name
        assert getattr(sys.modules[value.__module__], name) is value


def test_what_type_checkers_see_is_what_there_is() -> None:
    tree = ast.parse((ROOT / "tgdonnx" / "__init__.py").read_text("utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(tgdonnx.__all__)
    assert sorted(seen) == tgdonnx.__all__
    assert set(tgdonnx.__all__) <= set(dir(tgdonnx))


def test_the_version_is_that_of_the_package_that_is_installed() -> None:
    assert tgdonnx.__version__ == metadata.version("tgdonnx")
    assert "__version__" in dir(tgdonnx)


def test_types_are_told_to_whoever_uses_the_package() -> None:
    assert (ROOT / "tgdonnx" / "py.typed").is_file()


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tgdonnx.nonsense
    assert not hasattr(tgdonnx, "nonsense.more")


@pytest.mark.parametrize(
    "code",
    [
        "import tgdonnx, sys; assert not {'numpy', 'onnx', 'click'} & set(sys.modules)",
        "import tgdonnx; assert tgdonnx.errors.DataError",
        "from tgdonnx import *; assert callable(finetune) and callable(verify)",
        "import tgdonnx.masking; import tgdonnx; assert callable(tgdonnx.mask)",
        f"import sys, {EVERYTHING}; assert not {HEAVY} & set(sys.modules), {HEAVY} & set(sys.modules)",
    ],
)
def test_in_a_fresh_process(code: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
