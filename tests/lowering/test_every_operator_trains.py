"""Every operator that a lowering takes, and every one that trains as it is, through all stages, against finite differences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
import tgdonnx.lowering
from tests.lowering.operators import CASES, PATTERNS, Case
from tests.oracles.float64 import Loss
from tests.support import models
from tests.support.models import Array
from tests.support.training_models import text_model
from tgdonnx.engines import DEFAULT_ENGINE, EngineName
from tgdonnx.finetuning import TrainOptions
from tgdonnx.gradients.rule import RULES
from tgdonnx.lowering.emitting import Lowering

RATE = 0.5


def taken() -> set[str]:
    """The operators that some lowering takes, those included that are lowered first."""
    found: set[str] = set()
    classes = list(Lowering.__subclasses__())
    for each in classes:
        classes.extend(each.__subclasses__())
        found |= set(each.op_types)
    return found


def test_there_is_a_case_for_every_operator_that_is_lowered_or_trains_as_it_is() -> None:
    assert len(taken()) > 10
    assert len(RULES) > 90
    missing = (taken() | {op_type for domain, op_type in RULES if not domain}) - set(CASES)
    # They end in one number, so nothing stands behind them.
    assert missing == {"NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"}


def test_every_case_is_of_its_operator() -> None:
    for op_type, cases in CASES.items():
        for case in cases:
            assert op_type in {node.op_type for node in case.model().graph.node}, (op_type, case.lines)


def stored(model: onnx.ModelProto) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def labelled() -> list[Any]:
    return [
        pytest.param(case, id=f"{op_type}-{place}")
        for op_type, cases in CASES.items()
        for place, case in enumerate(cases)
    ]


@pytest.mark.parametrize("case", labelled())
def test_one_step_is_down_the_slope_of_the_vendors_model_and_check_says_so(case: Case, tmp_path: Path) -> None:
    require_trains(case.model(), tmp_path, straight=case.straight)


@pytest.mark.slow
@pytest.mark.training
@pytest.mark.parametrize("case", labelled())
def test_the_other_engine_makes_the_same_step(case: Case, tmp_path: Path) -> None:
    require_trains(case.model(), tmp_path, straight=case.straight, engine="onnxruntime-training")


@pytest.mark.parametrize("name", PATTERNS)
def test_what_exporters_write_in_words_trains_too(name: str, tmp_path: Path) -> None:
    require_trains(PATTERNS[name].model(), tmp_path)


def require_trains(
    model: onnx.ModelProto, directory: Path, *, straight: bool = False, engine: EngineName = DEFAULT_ENGINE
) -> None:
    """Masks all, checks, builds, makes a step of plain gradient descent, exports, verifies, and compares every gradient."""
    path, masked = models.save(model, directory / "model.onnx"), directory / "masked.onnx"
    tgdonnx.mask(path, masked, tgdonnx.AllLayers())
    for file in (path, masked):
        said = tgdonnx.check(file, engine=engine)
        assert said.trainable, said.findings
        nodes = [finding.node for finding in said.findings if finding.node and finding.code < "TGD100"]
        assert len(set(nodes)) == len(nodes), said.findings
    artifacts, tuned = directory / "artifacts", directory / "tuned.onnx"
    built = tgdonnx.build(masked, artifacts, tgdonnx.BuildOptions(optimizer="sgd", form="thin", engine=engine))
    rng = np.random.default_rng(2)
    shape = [dim.dim_value or None for dim in model.graph.input[0].type.tensor_type.shape.dim]
    x = rng.normal(size=[size or 7 for size in (3, *shape[1:])]).astype(np.float32)
    loss = Loss(model, {"x": x})
    target = loss.aim(rng)
    options = TrainOptions(steps=1, batch=len(x), learning_rate=RATE)
    report = tgdonnx.train(artifacts, {"x": x, "target": target}, options)
    tgdonnx.export(artifacts, tuned)
    assert tgdonnx.verify(path, tuned).ok
    before, after = stored(model), stored(onnx.load(tuned))
    assert report.loss[0] == pytest.approx(loss(before), rel=1e-4)
    if straight:
        loss = loss.straightened(before)
    for name in built.trained:
        moved = (before[name].astype(np.float64) - after[name]) / RATE
        for _ in range(2):
            direction = rng.normal(size=moved.shape)
            expected = loss.slope(before, name, direction)
            scale = np.linalg.norm(moved) * np.linalg.norm(direction) / np.sqrt(moved.size) + 1e-4
            assert abs((moved * direction).sum() - expected) <= 2e-3 * scale, name


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_statistics_in_the_precision_of_a_model_are_computed_in_float32_with_the_rest(
    dtype: Any, tmp_path: Path
) -> None:
    kind = int(onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    name = {np.float16: "float16", np.float64: "double"}[dtype]
    model = text_model(
        f"g ({name}[N, 4, 6] x) => ({name}[N, 3, 6] y) {{ a = Conv(x, w)\n t = Transpose<perm = [0, 2, 1]>(a)\n "
        f"l = LayerNormalization<stash_type = {kind}>(t, s)\n u = Transpose<perm = [0, 2, 1]>(l)\n y = Conv(u, v) }}",
        **{
            n: np.random.default_rng(1).normal(size=z).astype(dtype)
            for n, z in (("w", (5, 4, 1)), ("v", (3, 5, 1)), ("s", 5))
        },
    )
    path = models.save(model, tmp_path / "model.onnx")
    tgdonnx.mask(path, tmp_path / "masked.onnx", tgdonnx.AllLayers())
    assert tgdonnx.check(path).trainable
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts")
