"""The contract that the guide ``step`` states is that of what is built: inputs and outputs by name, type, shape and place."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from safetensors import safe_open

import tgdonnx
from tests.support.models import Array, chain, save
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tgdonnx.artifacts import Manifest, read_manifest

GUIDE = (Path(tgdonnx.__file__).parent / "guides" / "step.md").read_text("utf-8")
(TABLE,) = re.findall(r"<!-- contract -->\n(.*?)<!-- /contract -->", GUIDE, re.DOTALL)
TWO_HEADS = """g (float[N, 2, H, W] target, float[2, 1, 1] level) => (float[N, 1, H, W] boxes, float[N, 3, H, W] scores) {
    x = Add(target, level)
    r = Conv<pads=[1, 1, 1, 1]>(x, v, c)
    loss = Relu(r)
    boxes = Conv(loss, w)
    scores = Conv(loss, u)
}"""
SEVERAL = {"loss": "boxes: mse(weight=valid), scores: 2*ce"}


class Row(NamedTuple):
    file: str
    goes: str
    name: str
    type: str
    shape: str
    only_with: str


class Tensor(NamedTuple):
    """A place for a name that the guide leaves open is numbered."""

    name: str
    type: str
    shape: tuple[Any, ...] | None


ROWS = [
    Row(*(cell.strip().strip("`") for cell in line.split("|")[1:7]))
    for line in TABLE.splitlines()[2:]
    if line.startswith("|")
]


def two_heads() -> onnx.ModelProto:
    return text_model(TWO_HEADS, v=(6, 2, 3, 3), c=(6,), w=(1, 6, 1, 1), u=(3, 6, 1, 1))


def built(model: onnx.ModelProto, options: dict[str, Any], directory: Path) -> Path:
    save(model, directory / "model.onnx")
    tgdonnx.mask(directory / "model.onnx", directory / "masked.onnx", tgdonnx.LastLayers(2))
    tgdonnx.build(directory / "masked.onnx", directory / "run", tgdonnx.BuildOptions(**options))
    return directory / "run"


def held(condition: str, manifest: Manifest) -> bool:
    options = manifest.options
    facts = {
        "": True,
        "adamw": options.optimizer == "adamw",
        "adamw, momentum": options.optimizer == "adamw" or options.momentum > 0,
        "several heads": len(manifest.heads) > 1,
    }
    return facts[condition]


def promised(file: str, goes: str, run: Path) -> Iterator[Tensor]:
    manifest = read_manifest(run)
    with safe_open(run / "state.safetensors", framework="numpy") as state:
        shapes = {name: tuple(state.get_slice(name).get_shape()) for name in state.keys()}  # noqa: SIM118  # no mapping
    for row in (row for row in ROWS if (row.file, row.goes) == (file, goes) and held(row.only_with, manifest)):
        if row.name == "*arrays*":
            yield from (Tensor(f"{place}", spec.dtype, spec.shape) for place, spec in enumerate(manifest.inputs))
        elif row.name == "*outputs*":
            own = {value.name: value for value in onnx.load(run / "masked.onnx").graph.output}
            yield from (tensor_of(own[head.output])._replace(name=f"{1 + k}") for k, head in enumerate(manifest.heads))
        elif row.name == "*losses*":
            before = 1 if file != "eval" else 1 + len(manifest.heads)
            yield from (Tensor(f"{before + place}", row.type, ()) for place, _ in enumerate(manifest.heads))
        elif re.search(r"\bP\b", row.name):
            assert row.shape == "of P"
            for tensor in manifest.trained:
                name = re.sub(r"\bP\b", lambda _, tensor=tensor: tensor.name, row.name)
                yield Tensor(name, row.type, shapes[tensor.name])
        else:
            assert row.shape == "[]"
            yield Tensor(row.name, row.type, ())


def tensor_of(value: onnx.ValueInfoProto) -> Tensor:
    found = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in found.shape.dim)
    dtype = helper.tensor_dtype_to_np_dtype(found.elem_type)
    return Tensor(value.name, str(dtype), shape if found.HasField("shape") else None)


BUILDS = {
    "adamw, thin": (chain, {"form": "thin"}),
    "adamw, whole, clipped": (chain, {"form": "masked", "clip_norm": 1.0}),
    "sgd": (chain, {"optimizer": "sgd", "l2": 0.1}),
    "sgd with momentum": (chain, {"optimizer": "sgd", "momentum": 0.9, "form": "thin"}),
    "two heads, weights, clashing names": (two_heads, {**SEVERAL, "form": "thin"}),
    "two heads, sgd": (two_heads, {**SEVERAL, "optimizer": "sgd"}),
}


@pytest.fixture(scope="module", params=BUILDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    make, options = BUILDS[request.param]
    return built(make(), options, tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("goes", ["in", "out"])
@pytest.mark.parametrize("file", ["step", "eval", "gradients", "update"])
def test_a_file_has_the_inputs_and_outputs_of_the_guide_and_no_others(file: str, goes: str, run: Path) -> None:
    graph = onnx.load(run / f"{file}.onnx").graph
    found = [tensor_of(value) for value in (graph.input if goes == "in" else graph.output)]
    expected = list(promised(file, goes, run))
    by_place = {tensor.name for tensor in expected if tensor.name.isdecimal()}
    found = [each._replace(name=f"{k}") if f"{k}" in by_place else each for k, each in enumerate(found)]
    assert len(found) == len(expected)
    assert set(found) == set(expected)
    if goes == "out" and file != "update":
        assert found[0].name == "loss"


def test_whatever_step_asks_for_besides_is_a_tensor_of_the_state(run: Path) -> None:
    asked = [value.name for value in onnx.load(run / "step.onnx").graph.input][len(read_manifest(run).inputs) :]
    with safe_open(run / "state.safetensors", framework="numpy") as state:
        assert set(asked) - {"tgdonnx::learning_rate", "tgdonnx::step"} == set(state.keys())
        assert {state.get_tensor(name).dtype for name in state.keys()} == {np.dtype(np.float32)}  # noqa: SIM118
        assert set(state.metadata()) == {"tgdonnx.format", "tgdonnx.updates", "tgdonnx.sha256"}


def test_the_files_have_operators_of_onnx_alone_and_adamw(run: Path) -> None:
    for file in ("step", "eval", "gradients", "update"):
        model = onnx.load(run / f"{file}.onnx")
        assert model.ir_version <= 10
        assert {entry.domain: entry.version <= 21 for entry in model.opset_import}[""]
        functions = {(function.domain, function.name) for function in model.functions}
        others = {(node.domain, node.op_type) for node in model.graph.node if node.domain not in ("", "ai.onnx")}
        assert others == functions
        assert functions <= {("tgdonnx", "AdamW")}


# The state, by the words of the guide: nothing of ours, and nothing of safetensors.


def parts_of(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    numbers = {
        name: data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]]
        for name, entry in header.items()
        if name != "__metadata__"
    }
    return header, numbers


def digest_of(header: dict[str, Any], numbers: dict[str, bytes]) -> str:
    others = {key: value for key, value in header["__metadata__"].items() if key != "tgdonnx.sha256"}
    digest = hashlib.sha256(json.dumps(others, sort_keys=True).encode("ascii"))
    for name in sorted(numbers):
        digest.update(json.dumps([name, "<f4", header[name]["shape"]]).encode("ascii"))
        digest.update(numbers[name])
    return digest.hexdigest()


def test_the_hash_of_a_state_is_what_the_guide_says_before_and_after_training(tmp_path: Path) -> None:
    model = chain()
    run = built(model, {"form": "thin"}, tmp_path)
    for steps in (0, 3):
        if steps:
            x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
            (y,) = open_session(model).run(None, {"x": x})
            tgdonnx.train(run, {"x": x, "target": y + 1}, tgdonnx.TrainOptions(steps=steps, batch=2))
        header, numbers = parts_of(run / "state.safetensors")
        assert header["__metadata__"]["tgdonnx.sha256"] == digest_of(header, numbers)
        assert header["__metadata__"]["tgdonnx.updates"] == str(steps)
        assert ("tgdonnx.run" in header["__metadata__"]) == bool(steps)


Runs = Callable[[dict[str, Array]], Sequence[Array]]


def pairs() -> tuple[onnx.ModelProto, Array, Array]:
    model, rng = chain(), np.random.default_rng(0)
    x = rng.normal(size=(10, 3, 8, 8)).astype(np.float32)
    (y,) = open_session(model).run(None, {"x": x})
    return model, x, (y + rng.normal(size=y.shape)).astype(np.float32)


def loop(run: Path, step: Runs, batches: Iterable[tuple[Array, Array]]) -> tuple[list[float], dict[str, Array]]:
    """Trains by the words of the guide, and returns the losses and the state."""
    header, numbers = parts_of(run / "state.safetensors")
    state = {name: np.frombuffer(data, "<f4").reshape(header[name]["shape"]) for name, data in numbers.items()}
    outputs, losses = [value.name for value in onnx.load(run / "step.onnx").graph.output], []
    for x, target in batches:
        fed = {"x": x, "target": target, "tgdonnx::step": np.array(len(losses) + 1, np.int64)}
        found = step({**state, **fed, "tgdonnx::learning_rate": np.array(1e-3, np.float32)})
        losses.append(float(found[0]))
        state = {name[: -len(".after")]: array for name, array in zip(outputs[1:], found[1:])}
    return losses, state


def test_a_loop_by_the_words_of_the_guide_goes_the_way_of_train(tmp_path: Path) -> None:
    model, x, target = pairs()
    run = built(model, {"form": "thin"}, tmp_path)
    orders = [np.random.default_rng([7, epoch]).permutation(10) for epoch in (1, 2)]
    chosen = [np.sort(order[begin : begin + 4]) for order in orders for begin in (0, 4, 8)]
    session = open_session((run / "step.onnx").read_bytes())
    losses, state = loop(run, lambda fed: session.run(None, fed), [(x[each], target[each]) for each in chosen])
    report = tgdonnx.train(
        run, {"x": x, "target": target}, tgdonnx.TrainOptions(epochs=2, batch=4, seed=7, learning_rate=1e-3)
    )
    assert losses == list(report.loss)
    _, after = parts_of(run / "state.safetensors")
    assert {name: array.tobytes() for name, array in state.items()} == after


def test_the_reference_evaluator_of_onnx_goes_the_same_way(tmp_path: Path) -> None:
    model, x, target = pairs()
    run = built(model, {"form": "thin"}, tmp_path)
    session, reference = (
        open_session((run / "step.onnx").read_bytes()),
        ReferenceEvaluator(onnx.load(run / "step.onnx")),
    )
    batches = [(x[:4], target[:4])] * 20
    expected, _ = loop(run, lambda fed: session.run(None, fed), batches)
    found, state = loop(run, lambda fed: reference.run(None, fed), batches)
    assert found == pytest.approx(expected, rel=1e-5)
    assert expected[-1] < 0.98 * expected[0]
    assert {array.dtype for array in state.values()} == {np.dtype(np.float32)}
