"""What a filter is worth, against the reference, and why some filters may not be touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.selection.reference import by_experiment
from tests.support.models import MODELS, Builder, conv_weight, save
from tgdonnx.layers import open_network
from tgdonnx.scoring import score_layers
from tgdonnx.selection import Importance, filter_importance
from tgdonnx.tracing import trace_network

RNG = np.random.default_rng(3)


def importance(path: Path) -> dict[str, Importance]:
    network = open_network(path)
    found = filter_importance(trace_network(network), score_layers(trace_network(network)).layers)
    return {layer.name: entry for layer, entry in zip(network.layers, found)}


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
def test_importance_is_the_largest_score_that_any_reader_gives(builder: Builder, tmp_path: Path) -> None:
    model = builder(0)
    found = importance(save(model, tmp_path / "model.onnx"))
    expected = by_experiment(model).importance
    for (layer, m), value in expected.items():
        assert found[layer].values[m] == pytest.approx(value, rel=0, abs=1e-9), (layer, m)
        assert (m in found[layer].reasons) == np.isinf(value)
    assert sum(len(entry.values) for entry in found.values()) == len(expected)
    assert 0 < sum(value < 0.3 for value in expected.values()) < sum(np.isfinite(list(expected.values())))


def branches(*lines: str, output: str = "float[n, c, h, w] y", **weights: np.ndarray) -> onnx.ModelProto:
    """a: 4 filters; then whatever the lines do with it. Unchecked: some networks here are broken on purpose."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 17, "vendor": 1]>
        g (float[1, 2, 5, 5] x, float[3, 4, 1, 1] fed) => ({output}) {{
            [a] a = Conv<pads = [1, 1, 1, 1]>(x, wa)
            {" ".join(lines)}
        }}"""
    )
    weights = {"wa": conv_weight(RNG, 4, 2, 3, 3), "wb": conv_weight(RNG, 3, 4, 1, 1), **weights}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    return model


@pytest.mark.parametrize(
    ("lines", "output", "reason"),
    [
        (
            ["[b] b = Conv(a, wb)", "y = Relu(b)"],
            "float[n, c, h, w] y, float[n, e, h, w] a",
            "it reaches the output 'a'",
        ),
        (["[b] b = Conv(a, wb)", "y = Relu(b)", "z = Tanh(a)"], "float y, float z", "it reaches the output 'z'"),
        (
            ["[b] y = Conv(a, wb)", "[odd] z = NonZero(a)"],
            "float[n, c, h, w] y",
            "node 'odd' (NonZero) cannot be traced: there is no rule for its operator",
        ),
        (
            ["[b] y = Conv(a, wb)", "[odd] z = vendor.Fancy(a)"],
            "float[n, c, h, w] y",
            "node 'odd' (vendor.Fancy) cannot be traced: its domain is not known",
        ),
        (
            ["[b] y = Conv(a, wb)", "[c] z = Conv(a, fed)"],
            "float[n, c, h, w] y",
            "it is read by 'c', which cannot be scored: its weight is not stored in the file: "
            "'fed' is an input of the graph",
        ),
        (["z = Relu(a)", "[b] y = Conv(x, wx)"], "float[n, c, h, w] y", "no layer reads it"),
    ],
)
def test_a_filter_whose_maps_go_where_nobody_can_tell_is_useful_and_says_why(
    lines: list[str], output: str, reason: str, tmp_path: Path
) -> None:
    model = branches(*lines, output=output, wx=conv_weight(RNG, 3, 2, 1, 1))
    found = importance(save(model, tmp_path / "model.onnx"))["a"]
    np.testing.assert_array_equal(found.values, np.inf)
    assert found.reasons == dict.fromkeys(range(4), reason)


def test_only_the_filters_that_reach_an_opaque_node_are_useful_for_that(tmp_path: Path) -> None:
    crop = "s = Concat<axis = 1>(a, x)"
    model = branches(crop, "[b] b = Conv(s, wide)", "[odd] o = vendor.Fancy(b)", "[c] y = Conv(o, wc)", "[d] z = Conv(b, wc)",
                     wide=conv_weight(RNG, 3, 6, 1, 1), wc=conv_weight(RNG, 2, 3, 1, 1))  # fmt: skip
    found = importance(save(model, tmp_path / "model.onnx"))
    assert np.isfinite(found["a"].values).all()
    assert np.isinf(found["b"].values).all()


def test_a_filter_that_makes_the_weight_of_another_layer_is_useful(tmp_path: Path) -> None:
    # As in trackers that correlate two images: a's maps [1, 4, 5, 5] are the kernel with which c looks at b's.
    model = branches(
        "[b] b = Conv<pads = [1, 1, 1, 1]>(x, wa2)",
        "[c] z = Conv(b, a)",
        "[d] y = Conv(a, wb)",
        output="float[n, c, h, w] y, float[n, e, i, j] z",
        wa2=conv_weight(RNG, 4, 2, 3, 3),
    )
    onnx.checker.check_model(model)
    found = importance(save(model, tmp_path / "model.onnx"))
    assert np.isinf(found["b"].values).all()
    assert np.isinf(found["a"].values).all()
    assert "'c'" in found["a"].reasons[0]


def test_a_filter_whose_reader_cannot_be_matched_to_its_maps_is_useful(tmp_path: Path) -> None:
    model = branches("[b] y = Conv(a, w5)", w5=conv_weight(RNG, 3, 5, 1, 1))  # a has 4 maps
    found = importance(save(model, tmp_path / "model.onnx"))["a"]
    np.testing.assert_array_equal(found.values, np.inf)
    assert set(found.reasons.values()) == {"'a' has 4 maps where 5 are read"}
