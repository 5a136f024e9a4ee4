"""Libraries that are seldom used are loaded when they are, in processes of our own only."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tgdonnx.starting import leaving_on_interrupt

ROOT = Path(__file__).parents[1]


def fresh(code: str, directory: Path = ROOT) -> str:
    environment = {**os.environ, "PYTHONPATH": f"{directory}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_onnx_ir_computes_with_symbolic_dimensions_though_sympy_comes_later() -> None:
    out = fresh(
        "from tgdonnx.starting import postpone_imports; postpone_imports()\n"
        "import sys, onnx_ir\n"
        "print('sympy.core' in sys.modules)\n"
        "print((onnx_ir.SymbolicDim('max(a, b) + 1') + 2).value, 'sympy.core' in sys.modules)\n"
        "import sympy; print(sympy.sympify('x + x'), type(sympy).__name__)\n"
    )
    assert out.splitlines() == ["False", "Max(a, b) + 3 True", "2*x module"]


@pytest.mark.parametrize(
    "use",
    [
        "import sympy; print(sympy.ONE)",
        "from sympy import ONE; print(ONE)",
        "import sympy.inner; print(sympy.ONE)",
        "from sympy.inner import TWO; import sympy; print(sympy.ONE)",
    ],
)
def test_a_postponed_package_is_whole_however_it_is_used(use: str, tmp_path: Path) -> None:
    package = tmp_path / "sympy"
    package.mkdir()
    (package / "__init__.py").write_text("print('loaded')\nfrom sympy.inner import TWO\nONE = TWO - 1\n")
    (package / "inner.py").write_text("TWO = 2\n")
    start = "from tgdonnx.starting import postpone_imports; postpone_imports()\nimport sympy; print('imported')\n"
    assert fresh(start + use, tmp_path).split() == ["imported", "loaded", "1"]


def test_a_missing_attribute_of_a_postponed_module_is_an_attribute_error(tmp_path: Path) -> None:
    (tmp_path / "sympy.py").write_text("ONE = 1\n")
    code = (
        "from tgdonnx.starting import postpone_imports; postpone_imports()\n"
        "import sympy\nprint(hasattr(sympy, 'nonsense'), hasattr(sympy, 'ONE'))"
    )
    assert fresh(code, tmp_path).split() == ["False", "True"]


def test_importing_tgdonnx_changes_nothing_about_how_others_are_imported() -> None:
    code = "import sys; before = list(sys.meta_path); import tgdonnx, tgdonnx.kse; print(sys.meta_path == before)"
    assert fresh(code).split() == ["True"]


def test_the_kse_alone_brings_numpy_and_nothing_of_the_command_line() -> None:
    out = fresh(
        "import sys, tgdonnx.kse\n"
        "print(sorted({'click', 'rich', 'onnx', 'onnx_ir', 'onnxruntime', 'sympy', 'msgspec'} & set(sys.modules)))\n"
        "print(sorted(name for name in sys.modules if name.startswith('tgdonnx')))\n"
    )
    assert out.splitlines() == ["[]", "['tgdonnx', 'tgdonnx.errors', 'tgdonnx.kse']"]


def test_ctrl_c_is_as_it_was_after_an_import_that_failed() -> None:
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with leaving_on_interrupt():
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with pytest.raises(ImportError), leaving_on_interrupt():
            raise ImportError
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with leaving_on_interrupt():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_no_handler_is_set() -> None:
    seen = []

    def work() -> None:
        with leaving_on_interrupt():
            seen.append(signal.getsignal(signal.SIGINT))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
