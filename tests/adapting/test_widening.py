"""A file with side paths computes what it did, to the bit, and has every byte of the vendor's in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tgdonnx
from tests.adapting.networks import EVERYWHERE, NETWORKS, NORMED, adapter, input_of
from tests.support.models import constant_nodes, save
from tests.support.quantized_models import Kind, quantized
from tests.support.sessions import open_session
from tests.support.training_models import text_model
from tgdonnx.adapting import narrow
from tgdonnx.errors import MaskedModelError, SelectionError
from tgdonnx.masked_model import read_masked


@pytest.mark.parametrize("name", NETWORKS)
def test_at_the_start_outputs_are_the_vendors_to_the_bit(name: str, tmp_path: Path) -> None:
    vendor = save(NETWORKS[name], tmp_path / "model.onnx")
    report = tgdonnx.mask(vendor, tmp_path / "masked.onnx", EVERYWHERE, adapter())
    onnx.checker.check_model(tmp_path / "masked.onnx", full_check=True)
    x = input_of(name)
    (before,), (after,) = (open_session(p).run(None, {"x": x}) for p in (vendor, tmp_path / "masked.onnx"))
    assert report.added
    assert before.tobytes() == after.tobytes()


@pytest.mark.parametrize("name", NETWORKS)
def test_taking_side_paths_out_gives_the_vendors_bytes_back(name: str, tmp_path: Path) -> None:
    vendor = save(NETWORKS[name], tmp_path / "model.onnx")
    tgdonnx.mask(vendor, tmp_path / "masked.onnx", EVERYWHERE, adapter())
    masked = read_masked(tmp_path / "masked.onnx")
    assert masked.base.data == vendor.read_bytes()
    assert narrow(masked.start.data, 1) == vendor.read_bytes() != masked.start.data


@pytest.mark.parametrize("name", NETWORKS)
def test_of_the_vendors_nodes_nothing_differs_but_the_name_of_one_output_per_path(name: str, tmp_path: Path) -> None:
    vendor = save(NETWORKS[name], tmp_path / "model.onnx")
    report = tgdonnx.mask(vendor, tmp_path / "masked.onnx", EVERYWHERE, adapter())
    masked = onnx.load(tmp_path / "masked.onnx").graph
    kept = [node for node in masked.node if not node.name.startswith("tgdonnx.adapter.1.")]
    renamed = 0
    for old, new in zip(NETWORKS[name].graph.node, kept):
        if old.output[:] != new.output[:]:
            assert new.output[0].startswith("tgdonnx.adapter.1.")
            assert new.output[0].endswith(".vendor")
            new.output[0] = old.output[0]
            renamed += 1
        assert old == new
    assert len(kept) == len(NETWORKS[name].graph.node)
    assert renamed == len(report.added)
    initializers = {tensor.name: tensor for tensor in masked.initializer}
    assert all(initializers[tensor.name] == tensor for tensor in NETWORKS[name].graph.initializer)


def test_the_sum_is_behind_what_runtimes_fold_into_a_layer(tmp_path: Path) -> None:
    vendor = save(NETWORKS[NORMED], tmp_path / "model.onnx")
    tgdonnx.mask(vendor, tmp_path / "masked.onnx", EVERYWHERE, adapter())
    nodes = onnx.load(tmp_path / "masked.onnx").graph.node
    sums = {node.output[0] for node in nodes if node.name.endswith(".sum")}
    assert sums == {"n", "y"}


def test_the_report_says_what_is_added_and_only_that_trains(tmp_path: Path) -> None:
    vendor = save(NETWORKS["groups"], tmp_path / "model.onnx")
    report = tgdonnx.mask(vendor, tmp_path / "masked.onnx", EVERYWHERE, adapter(rank=2))
    # Conv: 2 groups of 3 filters of 12 numbers; depthwise: rank 1; ConvTranspose: 3 groups of 2 filters.
    assert [(path.layer, path.rank, path.weights) for path in report.added] == [
        ("A", 2, 4 * 2 * 6 + 6 * 2),
        ("D", 1, 6 * 4 + 6),
        ("Y", 2, 6 * 2 * 9 + 6 * 2),
    ]
    added = sum(path.weights for path in report.added)
    theirs = sum(np.prod(tensor.dims) for tensor in NETWORKS["groups"].graph.initializer)
    assert report.rho == pytest.approx(added / (added + theirs), rel=1e-12)
    assert {entry.name for entry in report.params if entry.retrain} == {
        f"tgdonnx.adapter.1.{layer}.{part}" for layer in "ADY" for part in ("down", "up")
    }


@pytest.mark.parametrize(("strategy", "layers"), [(tgdonnx.LastLayers(1), ["Y"]), (tgdonnx.FirstLayers(1), ["A"])])
def test_side_paths_go_beside_the_layers_that_are_selected(
    strategy: tgdonnx.Strategy, layers: list[str], tmp_path: Path
) -> None:
    vendor = save(NETWORKS["conv"], tmp_path / "model.onnx")
    report = tgdonnx.mask(vendor, tmp_path / "masked.onnx", strategy, adapter())
    assert [path.layer for path in report.added] == layers


def test_initial_values_are_those_of_the_seed_wherever_they_are_made(tmp_path: Path) -> None:
    vendor = save(NETWORKS["volumes"], tmp_path / "model.onnx")
    tgdonnx.mask(vendor, tmp_path / "masked.onnx", EVERYWHERE, adapter(rank=1, seed=3))
    tensors = read_masked(tmp_path / "masked.onnx").network.stored_parameters
    down, up = (tensors[f"tgdonnx.adapter.1.Y.{part}"].numpy() for part in ("down", "up"))
    assert (down.shape, up.shape, np.abs(up).max()) == ((1, 2, 3, 3, 3), (3, 1, 1, 1, 1), 0)
    # 0.25 and more of the bound 1 / sqrt(54), and these three to the bit: PCG64 seeded by [3, 0].
    assert np.abs(down).max() <= 1 / np.sqrt(54)
    raw = np.random.PCG64([3, 0]).random_raw(3)
    expected = np.array([int(r) >> 40 for r in raw]) / 2**23 - 1
    assert np.array_equal(down.reshape(-1)[:3], (expected / np.sqrt(54)).astype(np.float32))


def test_weights_in_constant_nodes_keep_their_places(tmp_path: Path) -> None:
    vendor = save(constant_nodes(0), tmp_path / "model.onnx")
    tgdonnx.mask(vendor, tmp_path / "masked.onnx", EVERYWHERE, adapter())
    assert read_masked(tmp_path / "masked.onnx").base.data == vendor.read_bytes()


def test_a_network_whose_weights_are_integers_is_refused_with_the_reason(tmp_path: Path) -> None:
    vendor = save(quantized(Kind()), tmp_path / "model.onnx")
    with pytest.raises(SelectionError, match=r"none of the .* layers can have a side path .*stored as integers"):
        tgdonnx.mask(vendor, tmp_path / "masked.onnx", EVERYWHERE, adapter())
    assert not (tmp_path / "masked.onnx").exists()


def test_a_layer_inside_a_branch_has_none_and_says_so(tmp_path: Path) -> None:
    model = text_model(
        """g (float[N,2,H,W] x, bool c) => (float[N,2,H,W] y)
        { a = Conv(x, w)  y = If (c) <then_branch = t () => (float[N,2,H,W] p) { p = Conv(a, v) },
                                      else_branch = e () => (float[N,2,H,W] q) { q = Identity(a) }> }""",
        w=(2, 2, 1, 1),
        v=(2, 2, 1, 1),
    )
    report = tgdonnx.mask(save(model, tmp_path / "model.onnx"), tmp_path / "masked.onnx", EVERYWHERE, adapter())
    assert [path.layer for path in report.added] == ["A"]
    assert report.frozen["p"] == "it is inside a branch, a loop or a function"


def test_a_selection_of_single_filters_is_refused(tmp_path: Path) -> None:
    vendor = save(NETWORKS["conv"], tmp_path / "model.onnx")
    with pytest.raises(SelectionError, match="side paths go beside whole layers, and phi selects single filters"):
        tgdonnx.mask(vendor, tmp_path / "masked.onnx", tgdonnx.Phi(0.9), adapter())


def test_a_name_that_a_side_path_would_have_is_refused(tmp_path: Path) -> None:
    model = text_model("g (float[N,2,H,W] x) => (float[N,2,H,W] y) { y = Conv(x, w) }", w=(2, 2, 1, 1))
    model.graph.node[0].name = "tgdonnx.adapter.1.mine"
    with pytest.raises(
        MaskedModelError, match=r"'tgdonnx\.adapter\.1\.mine', as a part of a side path would be called"
    ):
        tgdonnx.mask(save(model, tmp_path / "model.onnx"), tmp_path / "masked.onnx", EVERYWHERE, adapter())


@given(rank=st.integers(-3, 0))
def test_a_rank_below_one_is_refused(rank: int) -> None:
    with pytest.raises(SelectionError, match="rank"):
        tgdonnx.Adapter(rank)
