"""Batch norm lowered to an affine map: the same function, and the gradient of all its parameters."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

import tgdonnx
from tests.lowering.graphs import lowered, run
from tests.support import models
from tests.support.trainer import make_artifacts, open_trainer, relative_error, true_gradients
from tests.support.training_models import text_model
from tgdonnx.errors import UntrainableError

FOLDED = "folded into the conv"
READ_TWICE = "the conv is read twice"
OUTPUT_TOO = "the conv is an output of the model"
NO_CONV = "behind another operator"
WITHOUT_CONV = "on the input of the model"


@st.composite
def networks(draw: st.DrawFn) -> tuple[onnx.ModelProto, str]:
    """A batch norm in a small network, and where it stands."""
    place = draw(st.sampled_from([FOLDED, FOLDED, READ_TWICE, OUTPUT_TOO, NO_CONV, WITHOUT_CONV]))
    rank = draw(st.integers(1, 3))
    group = draw(st.integers(1, 3))
    in_maps, filters = group * draw(st.integers(1, 2)), group * draw(st.integers(1, 3))
    opset = draw(st.integers(8, 21))
    epsilon = draw(st.sampled_from(["", "<epsilon = 0.1>", "<epsilon = 0.001>", "<epsilon = 0.0000001>"]))
    bias = draw(st.booleans())
    kernel = draw(st.tuples(*[st.integers(1, 3)] * rank))
    space = ", ".join("LHW"[:rank])
    out = ", ".join("lhw"[:rank])
    lines = {
        FOLDED: f"n = BatchNormalization{epsilon}(t, s, o, m, v)\n r = Tanh(n)",
        READ_TWICE: f"n = BatchNormalization{epsilon}(t, s, o, m, v)\n z = Add(n, t)\n r = Tanh(z)",
        OUTPUT_TOO: f"n = BatchNormalization{epsilon}(t, s, o, m, v)\n r = Tanh(n)",
        NO_CONV: f"u = Sigmoid(t)\n n = BatchNormalization{epsilon}(u, s, o, m, v)\n r = Tanh(n)",
        WITHOUT_CONV: "r = Tanh(t)",
    }[place]
    before = f"n = BatchNormalization{epsilon}(x, s, o, m, v)\n" if place == WITHOUT_CONV else ""
    channels = in_maps if place == WITHOUT_CONV else filters
    second = f", float[N, {filters}, {out}] t" if place == OUTPUT_TOO else ""
    tensors = {"w": (filters, in_maps // group, *kernel), "u2": (2, filters, *(1,) * rank)}
    if bias:
        tensors["c"] = (filters,)
    model = text_model(
        f"""g (float[N, {in_maps}, {space}] x) => (float[N, 2, {out}] y{second}) {{
            {before}
            t = Conv<group = {group}>({"n" if before else "x"}, w{", c" if bias else ""})
            {lines}
            y = Conv(r, u2)
        }}""",
        seed=draw(st.integers(0, 99)),
        opset=opset,
        ir_version=10 if opset == 21 else draw(st.sampled_from([4, 8])),
        **tensors,
        **dict.fromkeys("somv", (channels,)),
    )
    return model, place


def feeds_of(model: onnx.ModelProto) -> dict[str, models.Array]:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    shape = [{"N": 3, "L": 7, "H": 6, "W": 5}.get(dim.dim_param, dim.dim_value) for dim in dims]
    return {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}


@settings(deadline=None, max_examples=80)
@given(networks())
def test_computes_what_the_original_computes(sample: tuple[onnx.ModelProto, str]) -> None:
    model, place = sample
    feeds = feeds_of(model)
    lower = lowered(model)
    assert relative_error(run(lower, feeds), run(model, feeds)) <= 2e-6
    operators = [node.op_type for node in lower.graph.node]
    assert "BatchNormalization" not in operators
    assert operators.count("Conv") == 2
    assert [value.name for value in lower.graph.output] == [value.name for value in model.graph.output]
    convs = {node.name: node for node in lower.graph.node if node.op_type == "Conv"}
    assert convs["T"].output[0] == ("n" if place == FOLDED else "t")
    after = operators[operators.index("Conv") :]
    assert ("Add" in after) == (place not in (FOLDED, WITHOUT_CONV)), "folding leaves no pass over the activations"


@settings(deadline=None, max_examples=25)
@given(sample=networks().filter(lambda sample: sample[1] != OUTPUT_TOO))
def test_has_the_gradient_of_the_original(
    tmp_path_factory: pytest.TempPathFactory, sample: tuple[onnx.ModelProto, str]
) -> None:
    model, place = sample
    feeds = feeds_of(model)
    target = np.random.default_rng(1).normal(size=run(model, feeds).shape).astype(np.float32)
    directory = make_artifacts(model, tmp_path_factory.mktemp("build"), tgdonnx.AllLayers())
    loss, gradients = open_trainer(directory).gradients(feeds["x"], target)
    expected_loss, expected = true_gradients(model, feeds, target)
    assert abs(loss / expected_loss - 1) < 1e-6
    biased = any(tensor.name == "c" for tensor in model.graph.initializer)
    norm = set() if place == WITHOUT_CONV else {"s", "o"}  # there it scales no filter, so no filter could train it
    assert set(gradients) == {"w", "u2", *norm, *({"c"} if biased else ())}
    # A gradient of one number may be a sum that all but cancels; it is known to the rounding of what was summed.
    largest = max(float(np.abs(expected[name]).max()) for name in gradients)
    for name, gradient in gradients.items():
        size = max(float(np.abs(expected[name]).max()), 1e-2 * largest)
        assert np.abs(gradient - expected[name]).max() <= 1e-4 * size, name


@pytest.mark.parametrize("build", [models.dncnn, models.residual, models.dense, models.grouped, models.three_d])
def test_computes_what_sample_networks_compute(build: models.Builder) -> None:
    model = build(1)
    feeds = models.random_feeds(model)
    assert relative_error(run(lowered(model), feeds), run(model, feeds)) <= 2e-6


def test_folds_each_of_two_batch_norms_that_share_their_parameters_and_their_conv_weight() -> None:
    model = models.shared_weights(1)
    feeds = models.random_feeds(model)
    lower = lowered(model)
    assert relative_error(run(lower, feeds), run(model, feeds)) <= 2e-6
    assert [node.op_type for node in lower.graph.node].count("Add") == 2, "two biases, and no pass over activations"


def test_draws_a_chain_of_two_batch_norms_into_the_conv_before_them() -> None:
    model = text_model(
        """g (float[N, 2, W] x) => (float[N, 3, w] y) {
            t = Conv(x, w)
            n = BatchNormalization(t, s, o, m, v)
            y = BatchNormalization<epsilon = 0.01>(n, s2, o2, m2, v2)
        }""",
        w=(3, 2, 2),
        **dict.fromkeys(["s", "o", "m", "v", "s2", "o2", "m2", "v2"], (3,)),
    )
    feeds = feeds_of(model)
    assert relative_error(run(lowered(model), feeds), run(model, feeds)) <= 2e-6


@pytest.mark.parametrize("name", ["n2.a", "n2.mean", "n2.inverse_std", "n2.weight", "n2.bias", "n2.filter_shape"])
@pytest.mark.parametrize("tensor", ["bn2_scale", "bn2_mean", "w2", "w4"])
def test_a_name_that_the_vendor_has_taken_is_not_taken_again(name: str, tensor: str) -> None:
    model = models.dncnn(0)
    for node in model.graph.node:
        node.input[:] = [name if value == tensor else value for value in node.input]
    next(t for t in model.graph.initializer if t.name == tensor).name = name
    feeds = models.random_feeds(model)
    assert relative_error(run(lowered(model), feeds), run(model, feeds)) <= 2e-6


def test_a_scale_that_the_graph_computes_stays_computed() -> None:
    model = text_model(
        """g (float[N, 2, W] x) => (float[N, 3, w] y) {
            t = Conv(x, w)
            s2 = Mul(s, s)
            y = BatchNormalization(t, s2, o, m, v)
        }""",
        w=(3, 2, 2),
        **dict.fromkeys("somv", (3,)),
    )
    feeds = feeds_of(model)
    assert relative_error(run(lowered(model), feeds), run(model, feeds)) <= 2e-6


def norm_after_conv(attributes: str = "", *, opset: int = 17, outputs: str = "n") -> onnx.ModelProto:
    return text_model(
        f"""g (float[N, 2, W] x) => (float[N, 3, w] y) {{
            t = Conv(x, w)
            [norm] {outputs} = BatchNormalization{attributes}(t, s, o, m, v)
            y = Relu(n)
        }}""",
        opset=opset,
        w=(3, 2, 2),
        **dict.fromkeys("somv", (3,)),
    )


def test_refuses_the_training_form() -> None:
    model = norm_after_conv("<training_mode = 1>", outputs="n, mean, var")
    with pytest.raises(UntrainableError, match=r"'norm' \(BatchNormalization\) is in training form"):
        lowered(model)


def test_refuses_the_training_form_of_old_operator_sets_which_has_more_outputs() -> None:
    model = norm_after_conv(opset=9, outputs="n, mean, var, saved_mean, saved_var")
    with pytest.raises(UntrainableError, match=r"'norm' \(BatchNormalization\) is in training form"):
        lowered(model)


@pytest.mark.parametrize("position", [3, 4])
def test_refuses_statistics_that_are_computed(position: int) -> None:
    model = norm_after_conv()
    norm = model.graph.node[1]
    model.graph.node.insert(0, helper.make_node("Mul", [norm.input[position], "s"], ["computed"]))
    model.graph.node[2].input[position] = "computed"
    with pytest.raises(UntrainableError, match=r"'norm' \(BatchNormalization\) computes its mean or variance"):
        lowered(model)


def test_refuses_an_input_of_unknown_rank() -> None:
    model = norm_after_conv()
    model.graph.node.insert(1, helper.make_node("Unknown", ["t"], ["u"], domain="elsewhere"))
    model.graph.node[2].input[0] = "u"
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    with pytest.raises(UntrainableError, match=r"node 'norm' \(BatchNormalization\) has an input of unknown rank"):
        lowered(model)


def test_leaves_a_batch_norm_of_another_domain_alone() -> None:
    model = norm_after_conv()
    model.graph.node[1].domain = "elsewhere"
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    assert "BatchNormalization" in [node.op_type for node in lowered(model, shapes_are_known=False).graph.node]


def test_refuses_a_variance_below_zero() -> None:
    model = text_model(
        """g (float[N, 2, 5] x) => (float[N, 3, 4] y) {
            t = Conv(x, w)
            [norm] y = BatchNormalization(t, s, o, m, v)
        }""",
        w=(3, 2, 2),
        **dict.fromkeys("som", (3,)),
        v=np.array([1, -1, 2], np.float32),
    )
    with pytest.raises(UntrainableError, match=r"'norm' \(BatchNormalization\) has a variance that is negative"):
        lowered(model)
