"""Retrain masks of every tensor, against the reference; and tensors with several users."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.selection.reference import Reference, activations, by_experiment
from tests.support import models
from tests.support.models import MODELS, Array, Builder, batch_norm, bias, conv_weight, parse, save
from tests.tracing.graphs import networks
from tests.tracing.oracle import label, layers
from tgdonnx.errors import SelectionError
from tgdonnx.layers import open_network
from tgdonnx.selection import (
    PLAN_MODES,
    AllLayers,
    Filters,
    FirstLayers,
    LastLayers,
    Phi,
    PlanMode,
    RetrainMask,
    Strategy,
    plan_masks,
    select,
)
from tgdonnx.tracing import trace_network

RNG = np.random.default_rng(5)


def plan(path: Path, strategy: Strategy, mode: PlanMode = "paper") -> dict[str, RetrainMask]:
    provenance = trace_network(open_network(path))
    masks = plan_masks(provenance, select(provenance, strategy), mode)
    by_name = {mask.parameter.name: mask for mask in masks}
    assert len(by_name) == len(masks)
    return by_name


def assert_equal_masks(masks: dict[str, RetrainMask], expected: dict[str, Array]) -> None:
    assert set(masks) == set(expected)
    for name, mask in masks.items():
        shape = mask.parameter.shape
        assert mask.values.dtype == np.float32
        assert mask.values.ndim == len(shape)
        np.testing.assert_array_equal(np.broadcast_to(mask.values, shape), expected[name], err_msg=name)
        assert mask.trained_elements == np.count_nonzero(expected[name])


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("mode", PLAN_MODES)
def test_masks_of_all_tensors_follow_from_the_rules(builder: Builder, mode: PlanMode, tmp_path: Path) -> None:
    model = builder(0)
    reference = by_experiment(model)
    path = save(model, tmp_path / "model.onnx")
    trained = set()
    for phi in (0.1, 0.3, 0.5, 0.8):
        expected = reference.masks(reference.below(phi), phi=phi, readers=mode == "readers")
        assert_equal_masks(plan(path, Phi(phi), mode), expected)
        trained.add(sum(np.count_nonzero(mask) for mask in expected.values()))
    assert len(trained) > 1
    assert 0 not in trained


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("mode", PLAN_MODES)
def test_masks_without_scores_follow_from_the_rules(builder: Builder, mode: PlanMode, tmp_path: Path) -> None:
    model = builder(1)
    reference = by_experiment(model)
    path = save(model, tmp_path / "model.onnx")
    filters = {label(conv): [(label(conv), m) for m in range(len(reference.tensors[reference.weight(conv)]))]
               for conv in layers(model)}  # fmt: skip
    every = [*filters.values()]
    rng = np.random.default_rng(6)
    names = sorted({reference.weight(conv) for conv in layers(model)})
    some = {name: [m for m in range(len(reference.tensors[name])) if rng.random() < 0.7] for name in names}
    listed = {(label(conv), m) for conv in layers(model) for m in some[reference.weight(conv)]}
    for strategy, chosen in [
        (AllLayers(), set().union(*every)),
        (LastLayers(2), set().union(*every[-2:])),
        (FirstLayers(2), set().union(*every[:2])),
        (Filters(some), listed),
    ]:
        assert_equal_masks(plan(path, strategy, mode), reference.masks(chosen, readers=mode == "readers"))


@settings(deadline=None, max_examples=150)
@given(model=networks(), phi=st.sampled_from([0.2, 0.5, 0.8, 1.0]), mode=st.sampled_from(PLAN_MODES))
def test_masks_of_random_networks_follow_from_the_rules(model: onnx.ModelProto, phi: float, mode: PlanMode) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = save(model, Path(directory, "model.onnx"))
        network = open_network(path)
        provenance = trace_network(network)
        values = {value.name: value for value in provenance.ids}
        made = {}
        for name in activations(model):
            channels = network.sizes.shapes[values[name]][1]
            made[name] = [
                {(network.layers[layer].name, m) for layer, m in origin.producers}
                for origin in provenance.along(values[name], 1, channels)
            ]
        reference = Reference(model, made)
        if not reference.below(phi):
            with pytest.raises(SelectionError):
                plan(path, Phi(phi), mode)
            return
        # The two sides round the scores differently.
        assume(all(abs(value - phi) > 1e-9 for scores in reference.scores.values() for value in scores) or phi == 1)
        expected = reference.masks(reference.below(phi), phi=phi, readers=mode == "readers")
        assert_equal_masks(plan(path, Phi(phi), mode), expected)


def test_a_mask_of_filters_has_one_number_per_filter_and_a_mask_of_readers_one_per_kernel(tmp_path: Path) -> None:
    path = save(models.grouped(), tmp_path / "model.onnx")
    paper, readers = plan(path, Phi(0.3)), plan(path, Phi(0.3), "readers")
    assert {name: mask.values.shape for name, mask in paper.items()} == {
        "w1": (12, 1, 1, 1), "w2": (12, 1, 1, 1), "w3": (9, 1, 1, 1),
        "w4": (18, 1, 1, 1), "w5": (15, 1, 1, 1), "w6": (2, 1, 1, 1),
        "b2": (12,), "b3": (9,), "bn1_scale": (12,), "bn1_offset": (12,),
    }  # fmt: skip
    assert {name: readers[name].values.shape for name in ("w1", "w2", "w3", "w4", "w5", "w6", "b2")} == {
        "w1": (12, 2, 1, 1), "w2": (12, 1, 1, 1), "w3": (9, 12, 1, 1),
        "w4": (18, 1, 1, 1), "w5": (15, 6, 1, 1), "w6": (2, 15, 1, 1), "b2": (12,),
    }  # fmt: skip
    for name, mask in paper.items():
        np.testing.assert_array_equal(mask.filters, readers[name].filters)
        assert mask.maps.size == 0


def test_readers_of_a_grouped_layer_are_the_kernels_of_the_group_of_the_map(tmp_path: Path) -> None:
    # twice has 18 filters, groups reads them in 3 groups of 6; every group has 5 filters.
    path = save(models.grouped(), tmp_path / "model.onnx")
    mask = plan(path, Filters({"w4": [7, 12], "w5": [14]}), "readers")["w5"]
    expected = np.zeros((15, 6), bool)
    expected[5:10, 1] = True  # map 7 is map 1 of group 1
    expected[10:15, 0] = True  # map 12 is map 0 of group 2
    expected[14] = True
    np.testing.assert_array_equal(mask.values[:, :, 0, 0], expected)
    assert np.flatnonzero(mask.maps).tolist() == [7, 12]
    assert np.flatnonzero(mask.filters).tolist() == [14]


def test_the_last_layer_keeps_its_weights_and_bias_also_where_it_reads_what_retrains(tmp_path: Path) -> None:
    masks = plan(save(models.chain(), tmp_path / "model.onnx"), Phi(0.9))
    assert not masks["w4"].values.any()
    assert not masks["b4"].values.any()
    assert masks["w3"].values.any()


def test_batch_norm_statistics_have_no_mask(tmp_path: Path) -> None:
    masks = plan(save(models.dncnn(), tmp_path / "model.onnx"), AllLayers(), "readers")
    assert sorted(masks) == ["b1", "b3", "bn2_offset", "bn2_scale", "bn3_offset", "bn3_scale", "w1", "w2", "w3", "w4"]


def test_the_batch_norm_of_a_sum_trains_where_all_filters_behind_it_train(tmp_path: Path) -> None:
    path = save(models.residual(), tmp_path / "model.onnx")
    masks = plan(path, Filters({"w0": [0, 1, 5], "w2": [1, 5, 7]}))
    assert np.flatnonzero(masks["norm_scale"].filters).tolist() == [1, 5]
    assert np.flatnonzero(masks["norm_offset"].filters).tolist() == [1, 5]
    assert np.flatnonzero(masks["b0"].filters).tolist() == [0, 1, 5]


@pytest.mark.parametrize("builder", [models.shared_weights, models.shared_through_identity])
def test_a_shared_weight_trains_only_where_both_of_its_layers_agree(builder: Builder, tmp_path: Path) -> None:
    model = builder(0)
    head = next(tensor for tensor in model.graph.initializer if tensor.name == "w5")
    loudness = np.ones(14)
    loudness[[0, 2, 3, 7 + 2, 7 + 3, 7 + 6]] = 0.01  # the left branch makes maps 0 to 6 of head, the right one 7 to 13
    wanted = (RNG.choice([-1, 1], (3, 14)) * loudness).reshape(3, 14, 1, 1).astype(np.float32)
    head.CopyFrom(onnx.numpy_helper.from_array(wanted, "w5"))
    reference = by_experiment(model)
    left = {m for layer, m in reference.below(0.2) if layer == "left_shared"}
    right = {m for layer, m in reference.below(0.2) if layer == "right_shared"}
    assert (left, right) == ({0, 2, 3}, {2, 3, 6})

    masks = plan(save(model, tmp_path / "model.onnx"), Phi(0.2))
    for name in ("w", "b", "bn_scale", "bn_offset"):
        assert np.flatnonzero(masks[name].filters).tolist() == [2, 3], name
    assert masks["w"].note == "shared by 2 nodes: trains only the filters on which all agree"
    assert masks["w5"].note is None


# Tensors that something else uses too.


def with_another_use(lines: str = "", output: str = "") -> onnx.ModelProto:
    return parse(
        f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2, 5, 5] x) => (float[1, 3, 5, 5] y{output}) <bool yes = {{1}}> {{
            [conv1] t = Conv<pads = [1, 1, 1, 1]>(x, w1, b1)
            [norm] n = BatchNormalization(t, bn_scale, bn_offset, bn_mean, bn_var)
            [conv2] y = Conv(n, w2)
            {lines}
        }}""",
        {
            "w1": conv_weight(RNG, 4, 2, 3, 3),
            "b1": bias(RNG, 4),
            **batch_norm(RNG, "bn", 4),
            "w2": conv_weight(RNG, 3, 4, 1, 1),
            "unit": conv_weight(RNG, 5, 2, 1, 1),
        },
    )


BRANCHES = (
    "then_branch = p () => (float[n, c, h, w] u) { [inner] u = Relu(w1) },"
    " else_branch = q () => (float[n, c, h, w] v) { v = Tanh(x) }"
)


@pytest.mark.parametrize(
    ("lines", "output", "use"),
    [
        ("[other] z = Relu(w1)", ", float[4, 2, 3, 3] z", "used by node 'other' (Relu) as well"),
        ("z = Relu(w1)", ", float[4, 2, 3, 3] z", "used by node 'z' (Relu) as well"),
        ("i = Identity(w1) [other] z = Relu(i)", ", float[4, 2, 3, 3] z", "used by node 'other' (Relu) as well"),
        ("", ", float[4, 2, 3, 3] w1", "an output of the model as well"),
        ("z = Identity(w1)", ", float[4, 2, 3, 3] z", "an output of the model as well"),
        (f"[other] z = If<{BRANCHES}>(yes)", ", float[n, c, h, w] z", "used by node 'inner' (Relu) as well"),
        ("[other] z = Conv(w1, unit)", ", float[4, 5, 3, 3] z", "used by node 'other' (Conv) as well"),
    ],
)
@pytest.mark.parametrize("mode", PLAN_MODES)
def test_a_weight_with_another_use_is_frozen_with_its_bias_and_batch_norm_and_says_so(
    lines: str, output: str, use: str, mode: PlanMode, tmp_path: Path
) -> None:
    masks = plan(save(with_another_use(lines, output), tmp_path / "model.onnx"), AllLayers(), mode)
    for name in ("w1", "b1", "bn_scale", "bn_offset"):
        assert not masks[name].values.any(), name
    assert masks["w1"].note == f"frozen: it is {use}"
    assert masks["w2"].values.all()
    assert masks["w2"].note is None


def test_without_another_use_everything_trains(tmp_path: Path) -> None:
    masks = plan(save(with_another_use(), tmp_path / "model.onnx"), AllLayers())
    assert set(masks) == {"w1", "b1", "bn_scale", "bn_offset", "w2"}
    assert all(mask.values.all() and mask.note is None for mask in masks.values())


def test_a_weight_that_nothing_wants_to_train_has_no_note(tmp_path: Path) -> None:
    model = with_another_use("[other] z = Relu(w1)", ", float[4, 2, 3, 3] z")
    masks = plan(save(model, tmp_path / "model.onnx"), LastLayers(1))
    assert masks["w1"].note is None


@pytest.mark.parametrize("name", ["b1", "bn_scale", "bn_offset"])
def test_a_parameter_of_a_map_with_another_use_is_frozen_alone(name: str, tmp_path: Path) -> None:
    model = with_another_use(f"[other] z = Relu({name})", ", float[4] z")
    masks = plan(save(model, tmp_path / "model.onnx"), AllLayers())
    assert masks[name].note == "frozen: it is used by node 'other' (Relu) as well"
    assert {other: bool(mask.values.all()) for other, mask in masks.items()} == {
        other: other != name for other in ("w1", "b1", "bn_scale", "bn_offset", "w2")
    }
    assert not masks[name].values.any()


def test_a_running_mean_that_is_also_an_offset_does_not_move(tmp_path: Path) -> None:
    model = with_another_use()
    norm = next(node for node in model.graph.node if node.name == "norm")
    norm.input[2] = "bn_mean"
    masks = plan(save(model, tmp_path / "model.onnx"), AllLayers())
    assert not masks["bn_mean"].values.any()
    assert masks["bn_mean"].note == "frozen: it is used by node 'norm' (BatchNormalization) as well"
    assert masks["bn_scale"].values.all()


def test_a_bias_that_is_also_the_offset_of_its_batch_norm_trains_with_the_filters(tmp_path: Path) -> None:
    model = with_another_use()
    norm = next(node for node in model.graph.node if node.name == "norm")
    norm.input[2] = "b1"
    masks = plan(save(model, tmp_path / "model.onnx"), Filters({"w1": [0, 3]}))
    assert masks["b1"].values.tolist() == [1, 0, 0, 1]
    assert masks["b1"].node == "conv1"
    assert masks["b1"].note is None


def test_a_weight_and_its_equal_copy_are_two_tensors(tmp_path: Path) -> None:
    model = models.shared_weights()
    copy = model.graph.initializer.add()
    copy.CopyFrom(next(tensor for tensor in model.graph.initializer if tensor.name == "w"))
    copy.name = "w_copy"
    next(node for node in model.graph.node if node.name == "right_shared").input[1] = "w_copy"
    masks = plan(save(model, tmp_path / "model.onnx"), Filters({"w": [1], "w_copy": [1, 2]}))
    assert np.flatnonzero(masks["w"].filters).tolist() == [1]
    assert np.flatnonzero(masks["w_copy"].filters).tolist() == [1, 2]
    assert np.flatnonzero(masks["b"].filters).tolist() == [1]


def test_a_layer_whose_weight_is_computed_has_no_mask_and_stops_nothing_else(tmp_path: Path) -> None:
    model = with_another_use()
    model.graph.node.insert(0, onnx.helper.make_node("Tanh", ["w1"], ["w1_bounded"]))
    model.graph.node[1].input[1] = "w1_bounded"
    masks = plan(save(model, tmp_path / "model.onnx"), AllLayers())
    assert set(masks) == {"w2"}  # what comes out of the layer belongs to no filter that is known
    assert masks["w2"].values.all()


# Parameters of a map other than bias and batch norm.


def parameters(lines: str, **shapes: tuple[int, ...]) -> onnx.ModelProto:
    """Makes t of a's 4 maps [1, 4, 5, 5] by way of the lines, with random tensors of the given shapes."""
    weights = {"wa": conv_weight(RNG, 4, 2, 3, 3), "wc": conv_weight(RNG, 3, 4, 1, 1)}
    weights.update({name: RNG.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()})
    return parse(
        f"""<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2, 5, 5] x) => (float[1, 3, 5, 5] y)
        <int64[3] shape = {{0, 2, -1}}, int64[4] back = {{1, 4, 5, 5}}, float[2] ones = {{1, 1}}, float[2] zeros = {{0, 0}}> {{
            [a] a = Conv<pads = [1, 1, 1, 1]>(x, wa)
            {lines}
            [c] y = Conv(t, wc)
        }}""",
        weights,
    )


SHARING = {
    "slope of PRelu": ("t = PRelu(a, s)", {"s": (4, 1, 1)}),
    "summand": ("t = Add(a, s)", {"s": (1, 4, 1, 1)}),
    "summand in front": ("t = Add(s, a)", {"s": (4, 1, 1)}),
    "factor": ("t = Mul(a, s)", {"s": (4, 1, 1)}),
    "scale and offset of InstanceNormalization": ("t = InstanceNormalization(a, s, o)", {"s": (4,), "o": (4,)}),
    "group norm as torch exports it": (
        "r = Reshape(a, shape) i = InstanceNormalization(r, ones, zeros) b = Reshape(i, back) m = Mul(b, s) t = Add(m, o)",
        {"s": (4, 1, 1), "o": (4, 1, 1)},
    ),
    "channels last": (
        "u = Transpose<perm = [0, 2, 3, 1]>(a) v = Mul(u, s) w = Add(o, v) t = Transpose<perm = [0, 3, 1, 2]>(w)",
        {"s": (4,), "o": (4,)},
    ),
    "LayerNormalization": (
        "u = Transpose<perm = [0, 2, 3, 1]>(a) v = LayerNormalization(u, s, o) t = Transpose<perm = [0, 3, 1, 2]>(v)",
        {"s": (4,), "o": (4,)},
    ),
}


@pytest.mark.parametrize(("lines", "shapes"), SHARING.values(), ids=SHARING)
@pytest.mark.parametrize("rows", [[2], [0, 3], [2, 3], [0, 1, 2, 3]], ids=str)
def test_parameters_of_a_map_share_the_mask_of_its_filter(
    lines: str, shapes: dict[str, tuple[int, ...]], rows: list[int], tmp_path: Path
) -> None:
    model = parameters(lines, **shapes)
    masks = plan(save(model, tmp_path / "model.onnx"), Filters({"wa": rows}))
    # What is normalised together was made by all of its filters: its parameters train where every one of them does.
    together = 4 if "LayerNormalization" in lines else 2 if "Reshape" in lines else 1
    trains = np.repeat(np.isin(np.arange(4), rows).reshape(-1, together).all(axis=1), together)
    for name, shape in shapes.items():
        assert masks[name].values.shape == shape
        np.testing.assert_array_equal(masks[name].values.reshape(-1), trains, err_msg=name)
        assert masks[name].maps.size == 0
    assert set(masks) - {"ones", "zeros"} == {"wa", "wc", *shapes}


@pytest.mark.parametrize(
    "lines",
    ["t = Sub(a, s)", "t = Sub(s, a)", "t = Div(a, s)", "t = Div(s, a)", "t = Max(a, s)", "t = Pow(a, s)"],
)
def test_what_is_subtracted_or_divided_by_has_no_mask(lines: str, tmp_path: Path) -> None:
    # That is how running statistics look in arithmetic form.
    masks = plan(save(parameters(lines, s=(4, 1, 1)), tmp_path / "model.onnx"), AllLayers(), "readers")
    assert set(masks) == {"wa", "wc"}


def test_a_factor_that_also_divides_is_frozen(tmp_path: Path) -> None:
    model = parameters("m = Mul(a, s) [division] t = Div(m, s)", s=(4, 1, 1))
    mask = plan(save(model, tmp_path / "model.onnx"), AllLayers())["s"]
    assert not mask.values.any()
    assert mask.note == "frozen: it is used by node 'division' (Div) as well"


@pytest.mark.parametrize("lines", ["t = Mul(a, s)", "t = Add(a, s)", "t = PRelu(a, s)"])
def test_one_number_for_all_maps_and_numbers_for_pixels_have_no_mask(lines: str, tmp_path: Path) -> None:
    for shape in ((1,), (1, 1, 1), (4, 5, 5), (4, 5, 1)):
        masks = plan(save(parameters(lines, s=shape), tmp_path / "model.onnx"), AllLayers())
        assert set(masks) == {"wa", "wc"}


def test_layers_inside_of_the_branches_of_an_if_have_masks(tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2, 5, 5] x, bool yes) => (float[1, 3, 5, 5] y) {
            [a] a = Conv<pads = [1, 1, 1, 1]>(x, wa)
            t = If<then_branch = p () => (float[1, 4, 5, 5] u) { [then] m = Conv(a, wt, bt) u = Mul(m, s) },
                   else_branch = q () => (float[1, 4, 5, 5] v) { [else] v = Conv(a, we) }>(yes)
            [c] y = Conv(t, wc)
        }""",
        {
            "wa": conv_weight(RNG, 4, 2, 3, 3),
            "wt": conv_weight(RNG, 4, 4, 1, 1),
            "bt": bias(RNG, 4),
            "s": RNG.standard_normal((4, 1, 1)).astype(np.float32),
            "we": conv_weight(RNG, 4, 4, 1, 1),
            "wc": conv_weight(RNG, 3, 4, 1, 1),
        },
    )
    masks = plan(save(model, tmp_path / "model.onnx"), Filters({"wt": [1, 2], "we": [2, 3], "wa": [0]}), "readers")
    assert set(masks) == {"wa", "wt", "bt", "s", "we", "wc"}
    for name, rows in (("wa", [0]), ("wt", [1, 2]), ("we", [2, 3]), ("bt", [1, 2]), ("s", [1, 2])):
        assert np.flatnonzero(masks[name].filters).tolist() == rows, name
    assert np.flatnonzero(masks["wt"].maps).tolist() == [0]
    # The If gives map 2 from filters that train whichever branch is taken, maps 1 and 3 only in one.
    assert np.flatnonzero(masks["wc"].maps).tolist() == [2]
    reads = masks["wt"].values[:, :, 0, 0]
    np.testing.assert_array_equal(reads[0], [1, 0, 0, 0])


def test_transposed_convolutions_and_matrix_products_have_masks_in_their_own_layout(tmp_path: Path) -> None:
    model = parse(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[1, 2, 5, 5] x) => (float[1, 3] y) {
            [up] a = ConvTranspose<group = 2>(x, wa, ba)
            [mid] b = ConvTranspose(a, wb)
            p = GlobalAveragePool(b)
            f = Flatten(p)
            [fc] h = Gemm<transB = 1>(f, wf, bf)
            [out] y = MatMul(h, wo)
        }""",
        {
            "wa": RNG.standard_normal((2, 3, 2, 2)).astype(np.float32),
            "ba": bias(RNG, 6),
            "wb": RNG.standard_normal((6, 4, 2, 2)).astype(np.float32),
            "wf": RNG.standard_normal((5, 4)).astype(np.float32),
            "bf": bias(RNG, 5),
            "wo": RNG.standard_normal((5, 3)).astype(np.float32),
        },
    )
    masks = plan(save(model, tmp_path / "model.onnx"), Filters({"wa": [1, 5], "wb": [2], "wf": [0, 4]}), "readers")
    expected = {name: np.zeros(masks[name].parameter.shape[:2], bool) for name in ("wa", "wb", "wf", "wo")}
    expected["wa"][0, 1] = expected["wa"][1, 2] = True  # filter 5 is the third of the second group
    expected["wb"][:, 2] = True
    expected["wb"][[1, 5]] = True  # it reads maps 1 and 5
    expected["wf"][[0, 4]] = True
    expected["wf"][:, 2] = True
    expected["wo"][[0, 4]] = True
    for name, what in expected.items():
        shape = masks[name].parameter.shape
        full = np.broadcast_to(masks[name].values, shape)
        np.testing.assert_array_equal(full, np.broadcast_to(what.reshape(*what.shape, *[1] * (len(shape) - 2)), shape))
    assert masks["ba"].values.tolist() == [0, 1, 0, 0, 0, 1]
    assert masks["bf"].values.tolist() == [1, 0, 0, 0, 1]
