"""The features of inputs, against numpy's statistics of the same maps."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from onnx import numpy_helper

from tests.adapting.networks import NETWORKS
from tests.support.models import Array, save
from tgdonnx.errors import DataError
from tgdonnx.files.model_file import load_model
from tgdonnx.gated_model.places import Place
from tgdonnx.gating.features import Moments, moments_at
from tgdonnx.layers import Network, open_network
from tgdonnx.runtime import usable_device
from tgdonnx.sweeping.running import open_samples

PLACES = (Place("A", "x", 3), Place("Y", "r", 5))
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(1, 2, (7, 3, 8, 9)).astype(np.float32)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return open_network(load_model(save(NETWORKS["conv"], tmp_path_factory.mktemp("model") / "model.onnx")))


def found(network: Network, images: Array) -> dict[Place, Moments]:
    return moments_at(network, PLACES, open_samples({"x": images}, network, most=9), usable_device("cpu"), "data")


def test_they_are_mean_and_variance_over_space_of_what_the_layer_reads(network: Network) -> None:
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in NETWORKS["conv"].graph.initializer}
    padded = np.pad(IMAGES.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), axis=(2, 3))
    maps = np.einsum("nchwij,mcij->nmhw", windows, stored["w"]) + stored["b"].reshape(1, -1, 1, 1)
    for place, values in zip(PLACES, (IMAGES, np.maximum(maps, 0))):
        moments = found(network, IMAGES)[place]
        np.testing.assert_allclose(moments.means, values.mean(axis=(2, 3)), rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(moments.variances, values.var(axis=(2, 3)), rtol=2e-5, atol=2e-6)


def test_features_are_means_and_logarithms_of_raised_variances(network: Network) -> None:
    moments = found(network, IMAGES)[PLACES[0]]
    floor = moments.floor()
    assert floor == pytest.approx(1e-4 * IMAGES.var(axis=(2, 3)).mean(), rel=1e-5)
    features = moments.features(floor)
    np.testing.assert_allclose(features[:, :3], IMAGES.mean(axis=(2, 3)), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(features[:, 3:], np.log(IMAGES.var(axis=(2, 3)) + floor), rtol=2e-5, atol=2e-6)


def test_maps_without_any_variance_have_a_floor_and_finite_features(network: Network) -> None:
    moments = found(network, np.ones_like(IMAGES))[PLACES[0]]
    floor = moments.floor()
    assert floor > 0
    assert np.isfinite(moments.features(floor)).all()


def test_an_input_whose_squares_overflow_has_features_that_are_not_finite_and_the_others_keep_theirs(
    network: Network,
) -> None:
    images = IMAGES.copy()
    images[2, 1] *= 1e25
    features, plain = (found(network, x)[PLACES[0]].features(1.0) for x in (images, IMAGES))
    assert np.argwhere(~np.isfinite(features)).tolist() == [[2, 4]]
    np.testing.assert_array_equal(np.delete(features, 2, axis=0), np.delete(plain, 2, axis=0))


def test_no_input_is_refused(network: Network) -> None:
    with pytest.raises(DataError, match="holds no"):
        found(network, IMAGES[:0])
