"""In other environments: tuned files in the onnxruntime that everybody has, training where there is no torch."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import numpy as np
import onnx
import pytest

import tgdonnx
from tests.oracles.independent import assert_only_changed, expected_masks
from tests.support import models
from tests.support.environments import Environment
from tests.support.stock_training import TRAINING
from tests.support.trainer import make_artifacts, open_trainer, relative_error
from tests.support.tuning import NETWORKS, PHI, data_for, options_for, trained
from tgdonnx.runtime.availability import training_remedy

pytestmark = pytest.mark.slow

RUN = """
import numpy as np, onnxruntime
for name in sys.argv[2:]:
    session = onnxruntime.InferenceSession(sys.argv[1] + f"/{name}.onnx", providers=["CPUExecutionProvider"])
    with np.load(sys.argv[1] + "/data.npz") as data:
        output = session.run(None, {"x": data["x"]})[0]
    np.save(sys.argv[1] + f"/{name}.npy", output)
assert tuple(map(int, onnxruntime.__version__.split(".")[:2])) > (1, 19), onnxruntime.__version__
assert not {"onnx", "tgdonnx", "torch"} & set(sys.modules)
for absent in ("onnxruntime.training.api", "tgdonnx", "onnx"):
    try:
        __import__(absent)
    except ImportError:
        print("no", absent)
"""


@pytest.mark.parametrize("mode", ["paper", "readers"])
@pytest.mark.parametrize("network", NETWORKS)
def test_tuned_and_masked_files_run_in_stock_onnxruntime_as_training_evaluated_them(
    network: str, mode: str, tmp_path: Path, stock_environment: Environment
) -> None:
    model = NETWORKS[network](0)
    directory = trained(model, tmp_path, mode=mode)
    tgdonnx.export(directory, tmp_path / "tuned.onnx")
    data = data_for(model)
    np.savez(tmp_path / "data.npz", **data)
    told = stock_environment.run(RUN, tmp_path, "model", "masked", "tuned", cwd=tmp_path)
    assert told.split() == ["no", "onnxruntime.training.api", "no", "tgdonnx", "no", "onnx"]
    vendor, masked, tuned = (np.load(tmp_path / f"{name}.npy") for name in ("model", "masked", "tuned"))
    _, evaluated = open_trainer(directory).evaluate(data["x"], data["target"])
    assert relative_error(tuned, evaluated) < 1e-5
    assert relative_error(tuned, vendor) > 1e-4
    assert np.array_equal(masked, vendor)


FINETUNE = """
import numpy as np, tgdonnx
assert "site-packages" in tgdonnx.__file__, tgdonnx.__file__
where, phi = sys.argv[1], float(sys.argv[2])
with np.load(where + "/data.npz") as data:
    arrays = dict(data)
options = tgdonnx.TrainOptions(epochs=2, batch=3, learning_rate=1e-3)
report = tgdonnx.finetune(where + "/model.onnx", arrays, where + "/tuned.onnx", tgdonnx.Phi(phi), options)
assert report.verify.ok
try:
    import torch
except ImportError as error:
    print(type(error).__name__, error)
print(*report.train.loss)
"""


def test_finetunes_where_torch_is_not_installed(tmp_path: Path, no_torch_environment: Environment) -> None:
    model = models.dncnn(0)
    models.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "data.npz", **data_for(model))
    told = no_torch_environment.run(FINETUNE, tmp_path, PHI, cwd=tmp_path).splitlines()
    assert told[0] == "ModuleNotFoundError No module named 'torch'"
    base, tuned = ((tmp_path / name).read_bytes() for name in ("model.onnx", "tuned.onnx"))
    assert_only_changed(model, base, tuned, expected_masks(model, PHI))
    here = tgdonnx.finetune(
        tmp_path / "model.onnx", data_for(model), tmp_path / "here.onnx", tgdonnx.Phi(PHI), options_for()
    )
    assert [float(loss) for loss in told[1].split()] == pytest.approx(list(here.train.loss), rel=1e-5)


@pytest.mark.training
def test_the_lines_of_the_readme_train_the_artifacts_where_torch_is_not_installed(
    tmp_path: Path, no_torch_environment: Environment
) -> None:
    model = models.dncnn(0)
    x = models.random_feeds(model)["x"]
    directory = make_artifacts(model, tmp_path, tgdonnx.Phi(PHI), engine="onnxruntime-training")
    batch = {"x": x, "target": np.random.default_rng(1).normal(size=(len(x), 3, *x.shape[2:])).astype(np.float32)}
    np.savez(directory / "batch.npz", **batch)
    code = f"{TRAINING}\ntry:\n    import torch\nexcept ImportError as error:\n    print(error)"
    assert no_torch_environment.run(code, directory, cwd=tmp_path) == "No module named 'torch'\n"
    trainer = open_trainer(directory)
    with np.load(directory / "result.npz") as result:
        assert result["losses"].tolist() == pytest.approx(
            [trainer.step(0.01, *batch.values()) for _ in range(3)], rel=1e-5
        )
        assert result["losses"][2] < result["losses"][0]


def test_what_is_installed_is_the_whole_package(no_torch_environment: Environment, tmp_path: Path) -> None:
    code = """
import importlib.metadata, pathlib, tgdonnx
root = pathlib.Path(tgdonnx.__file__).parent
files = (path for path in root.rglob("*") if path.suffix in (".py", ".typed", ".j2", ".css", ".md"))
print(sorted(str(path.relative_to(root).as_posix()) for path in files))
print(sorted(point.name for point in importlib.metadata.entry_points().select(group="console_scripts", name="tgdonnx")))
"""
    files, scripts = no_torch_environment.run(code, cwd=tmp_path).splitlines()
    root = Path(tgdonnx.__file__).parent
    here = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix in (".py", ".typed", ".j2", ".css", ".md")
    )
    assert files == str(here)
    assert scripts == "['tgdonnx']"


WITHOUT_TRAINING = """
import tgdonnx
from tgdonnx.errors import RuntimeMissingError
where = sys.argv[1]
print(len(tgdonnx.score(where + "/model.onnx").layers), len(tgdonnx.trace(where + "/model.onnx").layers))
tgdonnx.mask(where + "/model.onnx", where + "/masked_here.onnx", tgdonnx.Phi(float(sys.argv[2])))
print(tgdonnx.verify(where + "/model.onnx", where + "/tuned.onnx").ok)
print(*(point.change for point in tgdonnx.sweep(where + "/model.onnx", where + "/data.npz").points))
tgdonnx.build(where + "/masked_here.onnx", where + "/built", tgdonnx.BuildOptions(engine="onnxruntime-training"))
try:
    tgdonnx.export(where + "/artifacts", where + "/never.onnx")
except RuntimeMissingError as error:
    print(error)
"""


@pytest.mark.training
def test_with_plain_onnxruntime_artifacts_of_the_training_runtime_are_built_but_not_opened_and_what_to_install_is_said(
    tmp_path: Path, stock_environment: Environment
) -> None:
    model = models.dncnn(0)
    directory = trained(model, tmp_path, engine="onnxruntime-training")
    tgdonnx.export(directory, tmp_path / "tuned.onnx")
    np.savez(tmp_path / "data.npz", **data_for(model))
    # Behind its own packages, ours and those that we need: its onnxruntime comes first.
    path = [str(Path(tgdonnx.__file__).parents[1]), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    lines = stock_environment.run(WITHOUT_TRAINING, tmp_path, PHI, cwd=tmp_path, path=path).splitlines()
    assert lines[:2] == ["4 4", "True"]
    here = [point.change for point in tgdonnx.sweep(tmp_path / "model.onnx", data_for(model)).points]
    assert [float(change) for change in lines[2].split()] == pytest.approx(here, rel=1e-4)
    assert lines[3:] == [f"onnxruntime-training is not installed; {training_remedy()}"]
    assert (tmp_path / "built" / "checkpoint").exists()
    for name in ("training_model.onnx", "eval_model.onnx", "optimizer_model.onnx"):
        assert (tmp_path / "built" / name).read_bytes() == (directory / name).read_bytes()
    assert not (tmp_path / "never.onnx").exists()
    assert onnx.load(tmp_path / "masked_here.onnx") == onnx.load(tmp_path / "masked.onnx")
