"""What it means to drop a filter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.oracles.independent import tensors_of
from tests.oracles.numpy_net import NumpyNet
from tests.selection.reference import by_experiment
from tests.support import models
from tests.support.models import MODELS, Array, Builder, random_feeds, save
from tests.support.training_models import text_model
from tests.sweeping.oracle import outputs, zeroed
from tgdonnx.errors import ModelFileError
from tgdonnx.files.model_file import load_model
from tgdonnx.layers import open_network
from tgdonnx.selection import Filters, Phi, RetrainMask, Strategy, plan_masks, select
from tgdonnx.sweeping.dropping import drop_filters, whole_model
from tgdonnx.tracing import trace_network


def dropped(path: Path, strategy: Strategy) -> onnx.ModelProto:
    return drop_filters(whole_model(load_model(path)), planned(path, strategy))


def planned(path: Path, strategy: Strategy) -> Sequence[RetrainMask]:
    provenance = trace_network(open_network(path))
    return plan_masks(provenance, select(provenance, strategy), "paper")


@pytest.mark.parametrize("builder", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("phi", [0.3, 0.8])
def test_what_would_retrain_is_zero_and_nothing_else_changes(builder: Builder, phi: float, tmp_path: Path) -> None:
    model = builder(0)
    path = save(model, tmp_path / "model.onnx")
    reference = by_experiment(model)
    expected = zeroed(model, reference.masks(reference.below(phi)))
    assert expected != model
    found = dropped(path, Phi(phi))
    for name, tensor in tensors_of(expected).items():
        np.testing.assert_array_equal(
            numpy_helper.to_array(tensors_of(found)[name]), numpy_helper.to_array(tensor), err_msg=name
        )
    feeds = random_feeds(model)
    for ours, hand in zip(outputs(found, feeds), outputs(expected, feeds)):
        np.testing.assert_array_equal(ours, hand)
    assert path.read_bytes() == model.SerializeToString()


def test_the_model_that_is_given_stays_as_it_is(tmp_path: Path) -> None:
    path = save(models.dncnn(), tmp_path / "model.onnx")
    file = load_model(path)
    whole = whole_model(file)
    drop_filters(whole, planned(path, Phi(0.3)))
    assert whole == models.dncnn()
    assert file.proto == models.dncnn()


def test_maps_of_dropped_filters_are_zero_behind_the_norm(tmp_path: Path) -> None:
    model = models.dncnn()
    path = save(model, tmp_path / "model.onnx")
    strategy = Filters({"w1": [2, 5], "w2": [0, 3, 9], "w3": [6]})
    values = NumpyNet(dropped(path, strategy)).run(random_feeds(model))
    for name, maps in (("a1", [2, 5]), ("n2", [0, 3, 9]), ("n3", [6])):
        zero = np.flatnonzero((values[name] == 0).all(axis=(0, 2, 3)))
        assert zero.tolist() == maps, name


def trunk(rng: np.random.Generator) -> onnx.ModelProto:
    """The norm reads a sum of filters of two layers; map 1 of the first is needed by the second, map 3 by nobody."""
    quiet = np.array([1, 0.01, 1, 0.01, 1], np.float32).reshape(1, 5, 1, 1)
    needed = np.array([1, 1, 1, 0.01, 1], np.float32).reshape(1, 5, 1, 1)
    return text_model(
        """g (float[N,2,H,W] x) => (float[N,3,H,W] y) {
            a = Conv(x, w1, b1)
            b = Conv(a, w2)
            s = Add(a, b)
            n = BatchNormalization(s, scale, offset, mean, var)
            r = Relu(n)
            y = Conv(r, w3)
        }""",
        w1=(5, 2, 1, 1),
        b1=(5,),
        w2=(rng.standard_normal((5, 5, 1, 1)) * needed).astype(np.float32),
        scale=(5,),
        offset=rng.uniform(1, 2, 5).astype(np.float32),
        mean=(5,),
        var=(5,),
        w3=(rng.standard_normal((3, 5, 1, 1)) * quiet).astype(np.float32),
    )


def test_a_summed_map_keeps_what_useful_filters_give_it(tmp_path: Path) -> None:
    model = trunk(np.random.default_rng(0))
    found = dropped(save(model, tmp_path / "model.onnx"), Phi(0.3))
    zero = {
        name: np.flatnonzero((numpy_helper.to_array(t).reshape(t.dims[0], -1) == 0).all(axis=1)).tolist()
        for name, t in tensors_of(found).items()
    }
    assert zero == {
        "w1": [3], "b1": [3], "w2": [1, 3], "scale": [3], "offset": [3], "mean": [], "var": [], "w3": []
    }  # fmt: skip
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 2, 4, 3)).astype(np.float32)}
    values = NumpyNet(found).run(feeds)
    assert not values["n"][:, 3].any()
    np.testing.assert_array_equal(values["s"][:, 1], NumpyNet(model).run(feeds)["a"][:, 1])


def test_a_map_behind_a_sigmoid_is_constant(tmp_path: Path) -> None:
    model = text_model(
        "g (float[N,2,H,W] x) => (float[N,3,H,W] y) { a = Conv(x, w1, b1) s = Sigmoid(a) y = Conv(s, w2) }",
        w1=(4, 2, 3, 3),
        b1=(4,),
        w2=(3, 4, 1, 1),
    )
    found = dropped(save(model, tmp_path / "model.onnx"), Filters({"w1": [1]}))
    values = NumpyNet(found).run({"x": np.random.default_rng(1).standard_normal((2, 2, 5, 4))})
    assert (values["s"][:, 1] == 0.5).all()


def integer_model(zero_point: Array, scale: Array, stored_first: bool) -> onnx.ModelProto:
    """A Conv with an int8 weight per filter behind DequantizeLinear, stored as HWIO behind Transpose or as it is."""
    rng = np.random.default_rng(3)
    weight = rng.integers(-100, 100, (4, 2, 3, 3)).astype(np.int8)
    stored = weight.transpose(2, 3, 1, 0).copy() if stored_first else weight
    way = (
        "<axis = 3>(q, scale, zero) w = Transpose<perm = [3, 2, 0, 1]>(d)"
        if stored_first
        else "<axis = 0>(q, scale, zero) w = Identity(d)"
    )
    return text_model(
        f"""g (float[N,2,H,W] x) => (float[N,3,h,v] y) {{
            d = DequantizeLinear{way}
            a = Conv(x, w) r = Relu(a) y = Conv(r, w2)
        }}""",
        q=stored,
        scale=scale,
        zero=zero_point,
        w2=(3, 4, 1, 1),
    )


@pytest.mark.parametrize("stored_first", [False, True])
@pytest.mark.parametrize("per_filter", [False, True])
def test_integer_weights_get_their_zero_point(stored_first: bool, per_filter: bool, tmp_path: Path) -> None:
    zero_point = np.array([-3, 5, 7, -128], np.int8) if per_filter else np.array(11, np.int8)
    scale = np.array([0.01, 0.02, 0.03, 0.04], np.float32) if per_filter else np.array(0.02, np.float32)
    model = integer_model(zero_point, scale, stored_first)
    found = dropped(save(model, tmp_path / "model.onnx"), Filters({"q": [1, 3]}))
    assert tensors_of(found)["q"].data_type == TensorProto.INT8
    found.graph.output.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, None))
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 2, 5, 4)).astype(np.float32)}
    maps = outputs(found, feeds)[1]
    assert np.flatnonzero((maps == 0).all(axis=(0, 2, 3))).tolist() == [1, 3]
    model.graph.output.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, None))
    np.testing.assert_array_equal(maps[:, [0, 2]], outputs(model, feeds)[1][:, [0, 2]])


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE])
def test_weights_of_other_types_keep_their_type(kind: int, tmp_path: Path) -> None:
    model = text_model(
        "g (float[N,2,H,W] x) => (float[N,3,h,v] y) { w = Cast<to = 1>(q) a = Conv(x, w) y = Conv(a, w2) }",
        q=(4, 2, 3, 3),
        w2=(3, 4, 1, 1),
    )
    tensor = tensors_of(model)["q"]
    values = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(kind))
    tensor.CopyFrom(helper.make_tensor("q", kind, tensor.dims, values.tobytes(), raw=True))
    found = tensors_of(dropped(save(model, tmp_path / "model.onnx"), Filters({"q": [2]})))["q"]
    assert (found.data_type, found.dims) == (kind, tensor.dims)
    expected = numpy_helper.to_array(tensor).copy()
    expected[2] = 0
    assert numpy_helper.to_array(found).tobytes() == expected.tobytes()


def test_external_data_is_read_and_left_alone(tmp_path: Path) -> None:
    model = models.dncnn()
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = path.read_bytes(), (tmp_path / "weights.bin").read_bytes()
    feeds = random_feeds(model)
    inside = save(models.dncnn(), tmp_path / "inside.onnx")
    for ours, expected in zip(outputs(dropped(path, Phi(0.3)), feeds), outputs(dropped(inside, Phi(0.3)), feeds)):
        np.testing.assert_array_equal(ours, expected)
    assert (path.read_bytes(), (tmp_path / "weights.bin").read_bytes()) == before


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(models.dncnn(), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(ModelFileError, match=r"keeps weights in 'weights\.bin'"):
        whole_model(load_model(path))
