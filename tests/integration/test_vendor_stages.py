"""Every stage on third-party models, each with its own outside view: stock inference, bits in the file, the loss itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tgdonnx.engines import EngineName
from tgdonnx.engines.onnxruntime.state import STATE
from tgdonnx.finetuning.session import Session, read_parameters
from tgdonnx.finetuning.state import RunState

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from vendor_stages import (  # a script, no part of the package
    CASES,
    ENGINE,
    Case,
    go_through,
    output_of,
    prepare,
    quiet_session,
    random_feeds,
    refusal,
)

# What the check says of those that cannot be trained: the code, why, and what to do.
REFUSED = {
    "silero-vad-sequence": ("TGD004: ", "whose length is open", "export the model with a fixed length"),
    "silero-vad": ("TGD006: ", "(LSTM) lies between", "ask for a model without it"),
    "silero-vad-half": ("TGD004: ", "whose length is open", "export the model with a fixed length"),
    "ppocr-v6-rec": ("TGD003: ", "is computed by node", "ask for the model with its weights stored as floating-point"),
    "ddddocr-int8": ("TGD007: ", "21 ConvInteger", "ask for the model as it was before quantisation"),
}
TRAINED = [case for case in CASES if case.title not in REFUSED]
# Both engines train the same gradient graph; of these the other one makes its files too.
OLD: EngineName = "onnxruntime-training"
BY_OLD = ("ppocr-cls", "blazeface", "spindle-eeg, float16", "centerface", "malviz-resnet18", "fsmn-vad")
# A float16 model rounds after every node; it is trained as if it did not.
TOLERANCE = {False: 1e-5, True: 5e-3}

pytestmark = pytest.mark.slow


def titled(case: Case) -> str:
    return case.title


def with_engines() -> list[Any]:
    old = [case for case in TRAINED if case.title in BY_OLD]
    assert len(old) == len(BY_OLD)
    return [
        *(pytest.param(case, "onnxruntime", id=f"{case.title}, onnxruntime") for case in TRAINED),
        *(pytest.param(case, OLD, id=f"{case.title}, {OLD}", marks=pytest.mark.training) for case in old),
    ]


@pytest.mark.parametrize(("case", "engine"), with_engines())
def test_a_model_that_the_check_passes_goes_through_every_stage(case: Case, engine: EngineName, tmp_path: Path) -> None:
    path = prepare(case, tmp_path)
    assert refusal(case, path, tmp_path, engine) == ""
    outcome = go_through(case, path, tmp_path, engine)
    assert outcome.difference < TOLERANCE[case.half]
    assert outcome.after < outcome.before
    assert outcome.verified
    assert outcome.same_nodes


@pytest.mark.parametrize("case", [case for case in CASES if case.title in REFUSED], ids=titled)
def test_a_model_that_cannot_be_trained_is_told_so_with_the_reason_and_the_remedy(case: Case, tmp_path: Path) -> None:
    code, reason, remedy = REFUSED[case.title]
    said = refusal(case, prepare(case, tmp_path), tmp_path)
    assert said.startswith(code)
    assert reason in said
    assert remedy in said


@pytest.mark.parametrize("case", [case for case in TRAINED if not case.half], ids=titled)
def test_the_loss_of_the_exported_model_falls_by_what_the_gradient_promises(case: Case, tmp_path: Path) -> None:
    # A step of SGD is -rate * gradient, so to first order the loss falls by rate * |gradient|^2, which a wrong gradient
    # does not do. The loss is that of the files, before and after, by stock inference.
    path, output = prepare(case, tmp_path), output_of(case, prepare(case, tmp_path))
    tgdonnx.mask(path, tmp_path / "masked.onnx", case.strategy)
    built = tgdonnx.build(
        tmp_path / "masked.onnx",
        tmp_path / "artifacts",
        tgdonnx.BuildOptions(output=output, optimizer="sgd", engine=ENGINE),
    )
    feeds = random_feeds(case, path)
    (y,) = quiet_session(path).run([output], feeds)
    target = y / 2
    batch = [*(feeds[spec.name] for spec in built.inputs[:-1]), target]
    loss = float(np.mean((y.astype(np.float64) - target) ** 2))
    start = read_parameters(tmp_path / "artifacts", STATE)
    # A large step, so that rounding the weights does not blur the gradient.
    gradient = {name: change / -1e6 for name, change in step(tmp_path / "artifacts", batch, 1e6, start).items()}
    steepness = sum(float((g**2).sum()) for g in gradient.values())
    changes = step(tmp_path / "artifacts", batch, 1e-3 * loss / steepness, start)
    promised = -sum(float((gradient[name] * change).sum()) for name, change in changes.items())
    (tmp_path / "out").mkdir()
    tgdonnx.export(tmp_path / "artifacts", tmp_path / "out" / "tuned.onnx")
    (tuned,) = quiet_session(tmp_path / "out" / "tuned.onnx").run([output], feeds)
    fallen = float(np.mean((y.astype(np.float64) - target) ** 2 - (tuned.astype(np.float64) - target) ** 2))
    assert promised > 0
    assert fallen == pytest.approx(promised, rel=0.05)


def step(directory: Path, batch: list[np.ndarray], rate: float, start: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Takes one step from the checkpoint "first", or from the start; returns how far the parameters moved."""
    first = "first" if (directory / "first").exists() else STATE
    if first == STATE:
        (directory / "first").write_bytes((directory / STATE).read_bytes())
    session = Session(directory, checkpoint=first)
    session.step([batch], rate)
    session.save(STATE, RunState(0, 1, {}))
    after = read_parameters(directory, STATE)
    return {name: after[name].astype(np.float64) - start[name] for name in start}


@pytest.mark.parametrize("case", [case for case in TRAINED if case.half], ids=titled)
def test_of_a_float16_model_no_bit_changes_outside_the_rows_that_train(case: Case, tmp_path: Path) -> None:
    path = prepare(case, tmp_path)
    go_through(case, path, tmp_path)
    base, tuned = (tensors(file) for file in (path, tmp_path / "out" / "tuned.onnx"))
    masks = {name: mask for name, mask in tensors(tmp_path / "masked.onnx").items() if name.endswith(".retrain_mask")}
    assert base.keys() == tuned.keys()
    changed = {name: base[name].view(np.uint16) != tuned[name].view(np.uint16) for name in base if base[name].ndim}
    moved = {name for name, differs in changed.items() if differs.any()}
    assert moved <= {name[: -len(".retrain_mask")] for name in masks}
    assert {base[name].dtype for name in moved} == {np.dtype(np.float16)}
    for name in moved:
        frozen = np.broadcast_to(masks[f"{name}.retrain_mask"], base[name].shape) == 0
        assert not (changed[name] & frozen).any(), name
    assert any((masks[f"{name}.retrain_mask"] == 0).any() for name in moved)


def tensors(path: Path) -> dict[str, np.ndarray]:
    """The stored tensors of a file by name: initializers and Constant nodes."""
    graph = onnx.load(path).graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    stored.update(
        {n.output[0]: n.attribute[0].t for n in graph.node if n.op_type == "Constant" and n.attribute[0].HasField("t")}
    )
    return {name: numpy_helper.to_array(tensor) for name, tensor in stored.items()}
