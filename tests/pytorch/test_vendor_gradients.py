"""Third-party models: gradients of all that trains, as artifacts of the engine onnxruntime compute them, against PyTorch.

PyTorch runs the vendor's file as it was published, with the tensors that train as leaves, in float64.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import AttributeProto, numpy_helper

import tgdonnx
from tests.engines.onnxruntime.artifact_gradients import feeds_of, gradients_in, gradients_of, part_of
from tests.pytorch.interpreter import in_float32
from tests.pytorch.operators import gradients, run, tensor_of
from tgdonnx.artifacts.manifest import TrainedTensor

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
from vendor_stages import CASES, ENGINE, Case, output_of, prepare, quiet_session, random_feeds  # a script

pytestmark = [pytest.mark.torch, pytest.mark.slow]

Array = NDArray[Any]
TOLERANCE = 1e-5
# What is left of float32 after 50 layers and more; where it is more than the tolerance, the same graph in float64 is within it.
ROUNDING = 5e-5
# Where it is more than that, PyTorch's own float32 is off as well. Rounding decides on which side of a kink a number falls, so
# single inputs can be off by more, for one of the two: three inputs are tried, and the better of ours is held against the
# worst of PyTorch's. What is computed in a bad order is off for all three.
INPUTS = 3
FACTOR = 10
# Shorter tensors are scales of Resize and the like, which change shapes.
SMALLEST_MOVED = 8

REFUSED = ("silero-vad-sequence", "silero-vad", "silero-vad-half", "ppocr-v6-rec", "ddddocr-int8")
"""What `check` refuses; tests/integration/test_vendor_stages.py says with what reasons."""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_gradients_of_a_model_that_the_check_passes_are_those_of_pytorch(case: Case, tmp_path: Path) -> None:
    path, output = prepare(case, tmp_path), output_of(case, prepare(case, tmp_path))
    last = isinstance(case.strategy, tgdonnx.LastLayers)
    strategies = [case.strategy] if last else [tgdonnx.AllLayers(), case.strategy]
    model = only_output(onnx.load(path), output)
    expected: dict[str, Array] = {}
    compared = 0
    for place, strategy in enumerate(strategies):
        masked = tmp_path / f"masked{place}.onnx"
        if not trains(path, masked, strategy, output):
            continue
        for form in ("masked", "thin"):
            directory = tmp_path / f"{form}{place}"
            options = tgdonnx.BuildOptions(output=output, engine=ENGINE, form=form)
            built = tgdonnx.build(masked, directory, options)
            feeds = random_feeds(case, path)
            (y,) = quiet_session(path).run([output], feeds)
            target = (y / 2).astype(np.float32)
            batch = [*(feeds[spec.name].astype(spec.dtype) for spec in built.inputs[:-1]), target]
            missing = set(built.trained) - set(expected)
            if missing:
                expected.update(by_pytorch(model, feeds, target, missing))
            found = gradients_of(directory, batch)
            assert {tensor.vendor_name for tensor, _ in found} == set(built.trained)
            errors = {tensor.name: error(tensor, gradient, expected) for tensor, gradient in found}
            if max(errors.values()) > TOLERANCE:
                exact = in_float64(directory, batch, expected)
                if max(exact.values()) > TOLERANCE:
                    require_rounding_of_constants(exact, found, model, feeds, target, expected)
            if max(errors.values()) > ROUNDING:
                taken = {spec.name: feed for spec, feed in zip(built.inputs, batch[:-1])}
                require_no_worse_than_pytorch(directory, model, taken, target, set(built.trained))
            compared += len(errors)
    assert compared or case.title in REFUSED


def trains(path: Path, masked: Path, strategy: tgdonnx.Strategy, output: str) -> bool:
    try:
        tgdonnx.mask(path, masked, strategy)
    except tgdonnx.errors.TgdonnxError:
        assert not tgdonnx.check(path, output=output, engine=ENGINE).trainable
        return False
    return tgdonnx.check(masked, output=output, engine=ENGINE).trainable


def only_output(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    for value in [value for value in model.graph.output if value.name != name]:
        model.graph.output.remove(value)
    return model


def by_pytorch(model: onnx.ModelProto, feeds: dict[str, Array], target: Array, names: set[str]) -> dict[str, Array]:
    stored = tensors_of(model.graph)
    wide = tensor_of(target)
    starts = {name: stored[name] for name in sorted(names)}
    return gradients(model, feeds, list(starts), lambda outputs: ((outputs[0] - wide) ** 2).mean(), starts)[1]


def tensors_of(graph: onnx.GraphProto) -> dict[str, Array]:
    """The stored tensors of a graph and of those inside it, by name."""
    return {name: numpy_helper.to_array(tensor) for name, tensor in named_protos(graph)}


def named_protos(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from named_protos(attribute.g)
            elif node.op_type == "Constant" and attribute.type == AttributeProto.TENSOR:
                yield node.output[0], attribute.t


def error(tensor: TrainedTensor, gradient: Array, expected: dict[str, Array]) -> float:
    """In units of the largest element of the gradient of the whole tensor."""
    whole = expected[tensor.vendor_name]
    part = part_of(whole, tensor)
    assert gradient.shape == part.shape, tensor.name
    largest = float(np.abs(whole).max())
    return float(np.abs(gradient - part).max()) / largest if largest else float(np.abs(gradient).max())


def in_float64(directory: Path, batch: list[Array], expected: dict[str, Array]) -> dict[str, float]:
    """The errors that the graph of the artifacts has where it is computed in float64."""
    graph = onnx.load(directory / "gradients.onnx")
    with torch.no_grad():
        outputs = [output.numpy() for output in run(graph, feeds_of(directory, batch))]
    named = dict(zip([value.name for value in graph.graph.output], outputs))
    return {tensor.name: error(tensor, gradient, expected) for tensor, gradient in gradients_in(directory, named)}


def require_rounding_of_constants(
    exact: dict[str, float],
    found: list[tuple[TrainedTensor, Array]],
    model: onnx.ModelProto,
    feeds: dict[str, Array],
    target: Array,
    expected: dict[str, Array],
) -> None:
    """What the artifacts hold was computed and stored in float32, as the scale of a BatchNormalization.

    No error is larger than twice what becomes of the vendor's model in float64 where every stored number moves to one of its
    neighbours in float32.
    """
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    rng = np.random.default_rng(0)
    for _, stored in named_protos(moved.graph):
        array = numpy_helper.to_array(stored)
        if array.dtype == np.float32 and array.size >= SMALLEST_MOVED:
            neighbour = np.nextafter(array, rng.choice([-np.inf, np.inf], array.shape).astype(np.float32))
            stored.CopyFrom(numpy_helper.from_array(neighbour, stored.name))
    names = {tensor.vendor_name for tensor, _ in found}
    changed = by_pytorch(moved, feeds, target, names)
    for tensor, _ in found:
        sensitivity = error(tensor, part_of(changed[tensor.vendor_name], tensor), expected)
        assert exact[tensor.name] <= max(TOLERANCE, 2 * sensitivity), f"{tensor.name}: {exact[tensor.name]:.2g}"


def require_no_worse_than_pytorch(
    directory: Path, model: onnx.ModelProto, feeds: dict[str, Array], target: Array, names: set[str]
) -> None:
    """In float32 the artifacts are as near to float64 as PyTorch's float32 is."""
    ours, theirs = [], []
    for place in range(INPUTS):
        rng = np.random.default_rng(place)
        near = {name: a + (1e-3 * rng.standard_normal(a.shape)).astype(a.dtype) for name, a in feeds.items()}
        expected = by_pytorch(model, near, target, names)
        found = gradients_of(directory, [*near.values(), target])
        ours.append(max(error(tensor, gradient, expected) for tensor, gradient in found))
        with in_float32():
            rounded = by_pytorch(model, near, target, names)
        theirs.append(max(error(tensor, part_of(rounded[tensor.vendor_name], tensor), expected) for tensor, _ in found))
    assert min(ours) <= FACTOR * max(theirs), f"{ours}, PyTorch's {theirs}"
