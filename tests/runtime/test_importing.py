"""The door to onnxruntime-training: torch stays out, and what is missing is said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import models
from tgdonnx.runtime import availability, training

ROOT = Path(__file__).parents[2]

PIPELINE = """
import sys
import numpy as np
import tgdonnx
from tgdonnx.runtime import load_onnxruntime, load_training_api

x = np.random.default_rng(0).normal(size=(4, 3, 9, 8)).astype(np.float32)
tgdonnx.finetune(
    sys.argv[1] + "/model.onnx", {"x": x, "target": x}, sys.argv[1] + "/tuned.onnx", tgdonnx.Phi(0.3),
    tgdonnx.TrainOptions(epochs=1, batch=2),
)
assert load_training_api().Module and load_onnxruntime().InferenceSession
print(sorted(name for name in sys.modules if name.split(".")[0] == "torch"))
"""


def python(code: str, *arguments: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Runs code where ``path`` comes before everything that is installed."""
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(path)!r}, {str(ROOT)!r}]\n{code}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=path)


def fake_package(path: Path, name: str, files: dict[str, str]) -> None:
    for file, text in files.items():
        target = path / name / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


@pytest.mark.training
def test_the_whole_pipeline_never_imports_torch_although_it_could(tmp_path: Path) -> None:
    fake_package(tmp_path, "torch", {"__init__.py": "raise SystemExit('torch was imported')"})
    models.save(models.dncnn(0), tmp_path / "model.onnx")
    done = python(PIPELINE, str(tmp_path), path=tmp_path)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert done.stderr == "", "the runtime is quiet"
    tempted = python("import onnxruntime.training.ortmodule", path=tmp_path)
    assert "torch was imported" in tempted.stderr, "so the check above can fail"


MESSAGE = """
from tgdonnx.runtime import training
from tgdonnx.errors import RuntimeMissingError, TgdonnxError
try:
    training.load_training_api()
except RuntimeMissingError as error:
    assert isinstance(error, (TgdonnxError, ImportError))
    print(error)
import sys
print("onnxruntime.training" in sys.modules)
"""


@pytest.mark.parametrize(
    "remains", [{}, {"training/__init__.py": "", "training/utils.py": ""}, {"training/data.txt": ""}]
)
def test_plain_onnxruntime_is_told_from_the_training_wheel(remains: dict[str, str], tmp_path: Path) -> None:
    plain = {"__init__.py": "def set_default_logger_severity(level): pass", "capi/__init__.py": "", **remains}
    fake_package(tmp_path, "onnxruntime", plain)
    done = python(MESSAGE, path=tmp_path)
    lines = done.stdout.splitlines()
    assert len(lines) == 2, done.stderr
    assert lines[0] == f"onnxruntime-training is not installed; {availability.training_remedy()}"
    assert lines[1] == "False", "nothing half-made is left behind for others to import"


def test_no_onnxruntime_at_all_is_told_with_the_remedy(tmp_path: Path) -> None:
    fake_package(tmp_path, "onnxruntime", {"__init__.py": "raise ModuleNotFoundError('No module named onnxruntime')"})
    code = "from tgdonnx.runtime import importing\ntry: importing.load_onnxruntime()\nexcept ImportError as e: print(e)"
    done = python(code, path=tmp_path)
    assert "onnxruntime cannot be imported" in done.stdout, done.stderr
    assert availability.inference_remedy() in done.stdout


@pytest.mark.training
def test_without_onnxruntime_the_training_interface_is_missing_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)

    class Absent:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name.split(".")[0] == "onnxruntime":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(sys, "meta_path", [Absent, *sys.meta_path])
    with pytest.raises(ImportError, match="onnxruntime"):
        training.load_training_api()
    monkeypatch.setattr(training.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(training.RuntimeMissingError, match=r"pip install 'tgdonnx\[train\]'"):
        training.load_training_api()


def test_importing_tgdonnx_imports_no_runtime(tmp_path: Path) -> None:
    code = "import tgdonnx\nprint(sorted({name.split('.')[0] for name in sys.modules} & {'onnxruntime', 'torch'}))"
    assert python(code, path=tmp_path).stdout == "[]\n"


def test_what_needs_no_runtime_works_without_one(tmp_path: Path) -> None:
    fake_package(tmp_path, "onnxruntime", {"__init__.py": "raise SystemExit('onnxruntime was imported')"})
    models.save(models.dncnn(0), tmp_path / "model.onnx")
    code = """
import tgdonnx
m = sys.argv[1] + "/model.onnx"
tgdonnx.inspect(m), tgdonnx.score(m), tgdonnx.trace(m)
tgdonnx.mask(m, sys.argv[1] + "/masked.onnx", tgdonnx.Phi(0.3))
print(tgdonnx.verify(m, m).ok)
"""
    done = python(code, str(tmp_path), path=tmp_path)
    assert done.stdout == "True\n", done.stderr
