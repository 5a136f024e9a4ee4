"""Names of the vendor's that training needs for itself, in every place, change nothing but names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import tgdonnx
from tests.support import models
from tests.support.models import Array
from tests.support.training_models import text_model
from tgdonnx.artifacts import read_manifest
from tgdonnx.artifacts.names import array_names
from tgdonnx.errors import DataError, MissingArrayError
from tgdonnx.finetuning import TrainOptions

RNG = np.random.default_rng(4)
X, LEVEL = RNG.normal(size=(5, 3, 6, 7)).astype(np.float32), RNG.normal(size=(5, 4, 6, 7)).astype(np.float32)
TARGET = RNG.normal(size=(5, 2, 6, 7)).astype(np.float32)
WEIGHTS = ("w1", "b1", "slope", "w2", "s", "o", "m", "v", "w3")
INNER = ("a", "n", "p", "q", "r")


def network() -> onnx.ModelProto:
    """Two inputs, norm, activation, sum, and a Conv behind: folded, lowered, and as it is."""
    return text_model(
        """g (float[N, 3, H, W] x, float[N, 4, H, W] level) => (float[N, 2, H, W] y) {
            a = Conv(x, w1, b1)
            n = BatchNormalization(a, s, o, m, v)
            p = PRelu(n, slope)
            q = Add(p, level)
            r = Conv<pads = [1, 1, 1, 1]>(q, w2)
            y = Conv(r, w3)
        }""",
        w1=(4, 3, 1, 1),
        b1=(4,),
        s=(4,),
        o=(4,),
        m=(4,),
        v=(4,),
        slope=(4, 1, 1),
        w2=(5, 4, 3, 3),
        w3=(2, 5, 1, 1),
    )


def renamed(model: onnx.ModelProto, names: Mapping[str, str]) -> onnx.ModelProto:
    """The model with other names of values."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for named in (*copy.graph.input, *copy.graph.output, *copy.graph.initializer):
        named.name = names.get(named.name, named.name)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def trained(model: onnx.ModelProto, directory: Path, source: Mapping[str, Array], **options: Any) -> dict[str, Array]:
    """The tensors of the file, in order, after two steps that train half of the filters."""
    directory.mkdir()
    path, masked, tuned = (directory / name for name in ("model.onnx", "masked.onnx", "tuned.onnx"))
    models.save(model, path)
    stored = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    rows = {name: [1, 3] for name, shape in stored.items() if len(shape) == 4 and shape[0] >= 4}
    tgdonnx.mask(path, masked, tgdonnx.Filters(rows))
    assert tgdonnx.check(masked).trainable
    mapped = options.pop("map", None)
    tgdonnx.build(masked, directory / "artifacts", tgdonnx.BuildOptions(**options))
    run = TrainOptions(steps=2, batch=3, learning_rate=0.01)
    tgdonnx.train(
        directory / "artifacts",
        tgdonnx.RunData(source, validation=source, retain=source, reading=tgdonnx.DataOptions(map=mapped or {})),
        run,
    )
    tgdonnx.export(directory / "artifacts", tuned)
    assert tgdonnx.verify(path, tuned).ok
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(tuned).graph.initializer}


# What the network with names of its own is trained to, by options: once in a process.
_PLAIN: dict[tuple[tuple[str, Any], ...], dict[str, Array]] = {}


def expect_same(names: Mapping[str, str], directory: Path, **options: Any) -> None:
    """Requires that a network with these names trains as the one without, bit for bit."""
    model, source = network(), {"x": X, "level": LEVEL, "target": TARGET}
    key = tuple(sorted(options.items()))
    if key not in _PLAIN:
        _PLAIN[key] = trained(model, directory / "plain", source, **options)
    plain = _PLAIN[key]
    moved = {names.get(name, name) if name != "target" else name: array for name, array in source.items()}
    found = trained(renamed(model, names), directory / "renamed", moved, **options)
    assert list(found) == [names.get(name, name) for name in plain]
    for (name, before), after in zip(plain.items(), found.values()):
        assert after.tobytes() == before.tobytes(), name
    assert any((plain[t.name] != numpy_helper.to_array(t)).any() for t in model.graph.initializer)


OURS = [
    "loss",
    "Target",
    "lazy_reset_grad",
    "reset",
    "lr",
    "labels",
    "tgdonnx::loss.1.0",
    "tgdonnx::l2",
    "params",
    "step",
]
ODD = [
    "a/b",
    "a.b",
    "a b",
    "a_b",
    "ä",
    "权重:0",
    "..",
    "../../w",
    "w" * 5000,
    "\\",
    '"',
    "'",
    "[/bold]",
    "%s",
    "{0}",
    "\n",
    "0",
]


@pytest.mark.parametrize("options", [{"form": "thin"}, {"form": "masked"}, {"gradient": "gate", "form": "masked"}])
@pytest.mark.parametrize("kind", ["weights", "inner", "ends"])
def test_the_names_that_we_use_may_be_the_vendors(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    places = {"weights": WEIGHTS, "inner": INNER, "ends": ("x", "level", "y")}[kind]
    for number, words in enumerate((OURS, [f"{name}_grad" for name in (*WEIGHTS, *INNER)])):
        (tmp_path / str(number)).mkdir()
        expect_same(dict(zip(places, words)), tmp_path / str(number), l2=0.01, l2_sp=0.01, **options)


@pytest.mark.parametrize("start", [0, 8])
def test_names_that_no_identifier_has_stay(start: int, tmp_path: Path) -> None:
    expect_same(dict(zip((*WEIGHTS[:6], *INNER[:3]), ODD[start : start + 9])), tmp_path)


@pytest.mark.parametrize(
    ("file", "form", "engine"),
    [
        pytest.param("training_model.onnx", "thin", "onnxruntime-training", marks=pytest.mark.training),
        ("step.onnx", "masked", "onnxruntime"),
    ],
)
def test_every_name_that_a_model_that_trains_adds_may_be_the_vendors(
    file: str, form: str, engine: str, tmp_path: Path
) -> None:
    model = network()
    options = {"form": form, "engine": engine, "l2": 0.01, "l2_sp": 0.01, "optimizer": "sgd"}
    tgdonnx.mask(
        models.save(model, tmp_path / "m.onnx"), tmp_path / "k.onnx", tgdonnx.Filters({"w1": [1, 3], "w2": [1, 3]})
    )
    tgdonnx.build(tmp_path / "k.onnx", tmp_path / "a", tgdonnx.BuildOptions(**options))
    graph = onnx.load(tmp_path / "a" / file).graph
    added = {name for node in graph.node for name in (*node.input, *node.output, node.name) if name}
    added |= {named.name for named in (*graph.input, *graph.output, *graph.initializer)}
    added -= {name for node in model.graph.node for name in (*node.input, *node.output)} | {"target"}
    assert len(added) > 30
    places = (*WEIGHTS, *INNER, "y")
    words = sorted(added)
    for start in range(0, len(words), len(places)):
        names = dict(zip(places, words[start:]))
        (tmp_path / str(start)).mkdir()
        expect_same(names, tmp_path / str(start), **options)


def test_an_input_called_target_is_fed_by_its_own_array_or_by_a_mapped_one(tmp_path: Path) -> None:
    model = network()
    plain = trained(model, tmp_path / "plain", {"x": X, "level": LEVEL, "target": TARGET})
    named = renamed(model, {"level": "target"})
    sources: list[tuple[dict[str, Array], dict[str, str]]] = [
        ({"x": X, "target_input": LEVEL, "target": TARGET}, {}),
        ({"x": X, "image": LEVEL, "target": TARGET}, {"image": "target"}),
        ({"x": X, "target": LEVEL, "clean": TARGET}, {"target": "target_input", "clean": "target"}),
    ]
    for number, (source, mapped) in enumerate(sources):
        found = trained(named, tmp_path / str(number), source, map=mapped)
        assert all(found[name].tobytes() == array.tobytes() for name, array in plain.items())
    _, level, target = read_manifest(tmp_path / "0" / "artifacts").inputs
    assert (level.name, level.vendor_name, target.name, target.vendor_name) == (
        "target_input",
        "target",
        "target",
        "y",
    )
    with pytest.raises(
        DataError, match=r"'target_input' is for the model's input 'target' .`map={'ARRAY': 'target'}`."
    ) as caught:
        trained(named, tmp_path / "missing", {"x": X, "target": TARGET})
    assert isinstance(caught.value, MissingArrayError)


def test_data_to_retain_without_targets_is_mapped_to_an_input_called_target_too(tmp_path: Path) -> None:
    path = models.save(renamed(network(), {"level": "target"}), tmp_path / "model.onnx")
    tgdonnx.mask(path, tmp_path / "masked.onnx", tgdonnx.AllLayers())
    tgdonnx.build(tmp_path / "masked.onnx", tmp_path / "artifacts")
    source = {"x": X, "image": LEVEL, "target": TARGET}
    old = {"x": X, "image": LEVEL}
    run = TrainOptions(steps=1, batch=3)
    report = tgdonnx.train(
        tmp_path / "artifacts",
        tgdonnx.RunData(source, retain=old, agree=old, reading=tgdonnx.DataOptions(map={"image": "target"})),
        run,
    )
    assert report.steps == 1
    swept = tgdonnx.sweep(path, source, phis=[0.5], reading=tgdonnx.DataOptions(map={"image": "target"}))
    assert swept.samples == 5


def test_names_of_arrays_never_meet() -> None:
    assert array_names(["x", "target", "target_input"]) == ("x", "target_input_", "target_input")
    assert array_names(["loss", "x"]) == ("loss", "x")
