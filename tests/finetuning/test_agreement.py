"""Images without targets in every batch, with the vendor's outputs for targets."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tgdonnx
from tests.support import models
from tests.support.models import Array
from tests.support.sessions import open_session
from tests.support.trainer import make_artifacts, open_trainer
from tests.support.training_models import text_model
from tgdonnx.artifacts import open_artifacts, vendor_targets
from tgdonnx.errors import ArtifactsError, DataError
from tgdonnx.finetuning import with_agreement
from tgdonnx.finetuning.agreement import Samples


@dataclass
class Numbers:
    """Samples that are numbers: ``first``, ``first + 1``, ...; with targets ten times as large, or without."""

    first: int
    count: int
    labelled: bool
    width: int = 1
    scaling: Optional[str] = None

    def __len__(self) -> int:
        return self.count

    def batches(
        self, size: int, *, epoch: Optional[int] = None, seed: int = 0, start: int = 0
    ) -> Iterator[list[Array]]:
        order = np.arange(self.count) if epoch is None else np.random.default_rng([seed, epoch]).permutation(self.count)
        for begin in range(start * size, self.count, size):
            x = (self.first + order[begin : begin + size, None]) * np.ones((1, self.width), np.float32)
            yield [x.astype(np.float32), 10 * x.astype(np.float32)][: 1 + self.labelled]

    def describe(self) -> Mapping[str, Any]:
        return {"first": self.first}

    @property
    def remarks(self) -> tuple[str, ...]:
        return (f"from {self.first}",)

    @property
    def identity(self) -> str:
        return f"{self.first} {self.count}"


def negated(inputs: Sequence[Array]) -> tuple[Array]:
    """The vendor's model of the numbers."""
    return (-inputs[0],)


IMAGES = 1000  # samples are below it, images are not


def mixture(samples: int, images: int, share: float, **options: Any) -> Samples:
    return with_agreement(Numbers(0, samples, True), Numbers(IMAGES, images, False), negated, share=share, **options)


def numbers(batches: Iterator[list[Array]]) -> list[int]:
    return [int(x) for batch in batches for x in batch[0][:, 0]]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 20), st.integers(1, 12), st.sampled_from([0.01, 0.1, 0.25, 0.3, 0.5, 0.75, 0.9]), st.integers(1, 9)
)
def test_an_epoch_takes_every_sample_once_and_images_in_their_share(
    samples: int, images: int, share: float, size: int
) -> None:
    mixed = mixture(samples, images, share)
    batches = list(mixed.batches(size, epoch=1, seed=5))
    assert [len(batch[0]) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert len(batches) == -(-len(mixed) // size), "as a loop computes the number of steps"
    found = numbers(iter(batches))
    assert len(found) == len(mixed)
    assert sorted(x for x in found if x < IMAGES) == list(range(samples))
    is_image = np.array([x >= IMAGES for x in found])
    for begin, end in itertools.combinations(range(len(found) + 1), 2):
        assert abs(is_image[begin:end].sum() - share * (end - begin)) < 1, "in every stretch, up to one image"
    for x, target in batches:
        assert x.dtype == target.dtype == np.float32
        assert x.flags.c_contiguous
        assert target.flags.c_contiguous
        assert np.array_equal(target, np.where(x < IMAGES, 10 * x, -x))


def test_all_images_get_their_turn_from_epoch_to_epoch() -> None:
    one_each = mixture(6, 7, 0.25)
    seen = [x for epoch in range(7, 14) for x in numbers(one_each.batches(4, epoch=epoch)) if x >= IMAGES]
    assert sorted(seen) == list(range(IMAGES, IMAGES + 7))
    many = mixture(30, 4, 0.5)
    counts = np.bincount([x - IMAGES for x in numbers(many.batches(4, epoch=1)) if x >= IMAGES])
    assert counts.sum() == 29
    assert 6 <= counts.min() <= counts.max() <= 8


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    a, b = mixture(20, 9, 0.3), mixture(20, 9, 0.3)
    list(a.batches(3, epoch=1, seed=4))
    assert numbers(a.batches(5, epoch=2, seed=4)) == numbers(b.batches(5, epoch=2, seed=4))
    assert numbers(a.batches(5, epoch=2, seed=4)) != numbers(a.batches(5, epoch=3, seed=4))
    assert numbers(a.batches(5, epoch=2, seed=4)) != numbers(a.batches(5, epoch=2, seed=5))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.6])
@pytest.mark.parametrize("start", [0, 1, 3, 6, 50])
def test_batches_that_were_done_can_be_skipped(start: int, share: float) -> None:
    mixed = mixture(20, 9, share)
    whole = list(mixed.batches(4, epoch=3, seed=1))
    rest = list(mixed.batches(4, epoch=3, seed=1, start=start))
    assert len(rest) == max(0, len(whole) - start)
    for expected, found in zip(whole[start:], rest):
        assert all(np.array_equal(a, b) for a, b in zip(expected, found))


def test_evaluation_takes_the_samples_alone() -> None:
    mixed = mixture(10, 9, 0.5)
    assert numbers(mixed.batches(4)) == list(range(10))
    assert numbers(mixed.batches(4, start=1)) == list(range(4, 10))


def test_with_a_fixed_batch_the_vendors_model_is_given_whole_batches_and_none_is_incomplete() -> None:
    given_sizes = []

    def vendor(inputs: Sequence[Array]) -> tuple[Array]:
        given_sizes.append(len(inputs[0]))
        return (-inputs[0],)

    mixed = with_agreement(Numbers(0, 9, True), Numbers(IMAGES, 5, False), vendor, share=0.4, fixed_batch=4)
    batches = list(mixed.batches(4, epoch=1))
    assert len(mixed) == 14
    assert [len(batch[0]) for batch in batches] == given_sizes == [4, 4, 4]
    for x, target in batches:
        assert np.array_equal(target, np.where(x < IMAGES, 10 * x, -x))


def test_without_a_fixed_batch_the_vendors_model_is_given_the_images_alone() -> None:
    def vendor(inputs: Sequence[Array]) -> tuple[Array]:
        assert (inputs[0] >= IMAGES).all()
        return (-inputs[0],)

    mixed = with_agreement(Numbers(0, 9, True), Numbers(IMAGES, 5, False), vendor, share=0.4)
    assert len(numbers(mixed.batches(4, epoch=1))) == 14


def test_the_record_tells_of_the_share_and_of_both_sources() -> None:
    mixed = mixture(3, 4, 0.25)
    assert mixed.describe() == {"first": 0, "agreement": {"share": 0.25, "images": {"first": IMAGES}}}
    assert mixed.scaling is None


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan"), float("inf")])
def test_refuses_a_share_that_is_none(share: float) -> None:
    with pytest.raises(DataError, match="above 0 and below 1, got"):
        mixture(3, 4, share)


def test_refuses_an_empty_source_another_scaling_and_other_sizes() -> None:
    with pytest.raises(DataError, match="no image without target"):
        mixture(3, 0, 0.5)
    with pytest.raises(DataError, match="scaled otherwise"):
        with_agreement(Numbers(0, 3, True), Numbers(0, 3, False, scaling="x"), negated, share=0.5)
    wide = with_agreement(Numbers(0, 3, True), Numbers(IMAGES, 3, False, width=2), negated, share=0.5)
    with pytest.raises(DataError, match=r"found \[1\] \(with target\) and \[2\] \(without target\); cut"):
        list(wide.batches(2, epoch=1))


# The vendor's outputs.


def vendor_output(model: onnx.ModelProto, x: Array) -> Array:
    output: Array = open_session(model).run(None, {"x": x})[0]
    return output


def relative_difference(found: Array, expected: Array) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("form", ["masked", "thin"])
def test_targets_are_the_vendors_output_also_after_training(form: str, tmp_path: Path) -> None:
    model = models.dncnn(0)
    directory = make_artifacts(model, tmp_path, tgdonnx.AllLayers(), form=form)
    x = models.random_feeds(model, 3)["x"]
    target = vendor_targets(open_artifacts(directory))([x])[0]
    assert target.dtype == np.float32
    assert relative_difference(target, vendor_output(model, x)) < 1e-6
    data = {"x": x, "target": np.zeros_like(target)}
    tgdonnx.train(directory, data, tgdonnx.TrainOptions(epochs=3, learning_rate=1e-2))
    assert np.array_equal(vendor_targets(open_artifacts(directory))([x])[0], target)
    assert relative_difference(open_trainer(directory).evaluate(x, target)[1], target) > 1e-3, (
        "the trained model is another"
    )


@pytest.mark.parametrize("loss", ["mse", "l1", "charbonnier", "ssim", "0.5*mse+0.5*ssim"])
def test_at_the_start_there_is_nothing_to_agree_on(loss: str, tmp_path: Path) -> None:
    model = text_model("g (float[N, 2, H, W] x) => (float[N, 3, h, w] y) { y = Conv(x, w) }", w=(3, 2, 3, 3))
    directory = make_artifacts(model, tmp_path, tgdonnx.AllLayers(), loss=loss)
    x = np.random.default_rng(0).random((2, 2, 16, 15)).astype(np.float32)
    trainer = open_trainer(directory)
    loss_there, gradients = trainer.gradients(x, vendor_targets(open_artifacts(directory))([x])[0])
    _, elsewhere = trainer.gradients(x, vendor_targets(open_artifacts(directory))([x])[0] + np.float32(0.1))
    least = 1e-3 if loss == "charbonnier" else 0.0
    assert abs(loss_there - least) < 1e-6
    if loss != "l1":  # whose slope is a sign, of rounding errors too
        assert np.abs(gradients["w"]).max() < 1e-3 * np.abs(elsewhere["w"]).max()


@pytest.mark.parametrize("ending", ["t = Conv(x, w)\n y = Sigmoid(t)", "y = Conv(x, w)"])
def test_for_bce_targets_are_probabilities(ending: str, tmp_path: Path) -> None:
    model = text_model(f"g (float[N, 2, W] x) => (float[N, 3, w] y) {{ {ending} }}", w=(3, 2, 3))
    directory = make_artifacts(model, tmp_path, tgdonnx.AllLayers(), loss="bce")
    x = np.random.default_rng(0).normal(size=(2, 2, 9)).astype(np.float32)
    target = vendor_targets(open_artifacts(directory))([x])[0]
    output = vendor_output(model, x).astype(np.float64)
    expected = output if "Sigmoid" in ending else 1 / (1 + np.exp(-output))
    assert np.abs(target - expected).max() < 1e-6
    assert np.abs(open_trainer(directory).gradients(x, target)[1]["w"]).max() < 1e-6


def test_refuses_ce_whose_targets_are_class_indices(tmp_path: Path) -> None:
    model = text_model("g (float[N, 2, W] x) => (float[N, 3, w] y) { y = Conv(x, w) }", w=(3, 2, 3))
    directory = make_artifacts(model, tmp_path, tgdonnx.AllLayers(), loss="ce")
    with pytest.raises(ArtifactsError, match="class indices; add samples with labels"):
        vendor_targets(open_artifacts(directory))


def test_sizes_that_the_vendors_model_does_not_take_are_told(tmp_path: Path) -> None:
    model = text_model("g (float[N, 2, W] x) => (float[N, 3, w] y) { y = Conv(x, w) }", w=(3, 2, 5))
    directory = make_artifacts(model, tmp_path, tgdonnx.AllLayers())
    with pytest.raises(DataError, match=r"the vendor's model cannot be run on x \[1, 2, 4\]: "):
        vendor_targets(open_artifacts(directory))([np.zeros((1, 2, 4), np.float32)])


def test_of_several_outputs_the_trained_one_is_taken_and_only_its_inputs_are_fed(tmp_path: Path) -> None:
    model = text_model(
        "g (float[N, 2, W] a, float[N, 2, W] x) => (float[N, 3, w] z, float[N, 4, w] y) { z = Conv(a, v)\n y = Conv(x, w) }",
        v=(3, 2, 3),
        w=(4, 2, 3),
    )
    directory = make_artifacts(model, tmp_path, tgdonnx.AllLayers(), output="y")
    a, x = (np.random.default_rng(i).normal(size=(2, 2, 9)).astype(np.float32) for i in range(2))
    expected = open_session(model).run(["y"], {"a": a, "x": x})[0]
    assert relative_difference(vendor_targets(open_artifacts(directory))([x])[0], expected) < 1e-6


def test_a_mixture_trains_towards_targets_and_stays_closer_to_the_vendor_on_the_images(tmp_path: Path) -> None:
    model = text_model(
        "g (float[N, 2, H, W] x) => (float[N, 2, h, w] y) { t = Conv(x, v)\n u = Relu(t)\n y = Conv(u, w) }",
        v=(8, 2, 3, 3),
        w=(2, 8, 3, 3),
    )
    rng = np.random.default_rng(0)
    x, images = (scale * rng.normal(size=(8, 2, 10, 9)).astype(np.float32) for scale in (1.0, 3.0))
    targets = (0.5 * vendor_output(model, x)).astype(np.float32)

    @dataclass
    class Arrays(Numbers):
        arrays: tuple[Array, ...] = ()

        def batches(self, size: int, *, start: int = 0, **_: Any) -> Iterator[list[Array]]:
            for begin in range(start * size, self.count, size):
                yield [array[begin : begin + size] for array in self.arrays]

    samples = Arrays(0, 8, True, arrays=(x, targets))
    away = {}
    for share in (0.0, 0.5):
        folder = tmp_path / str(share)
        folder.mkdir()
        directory = make_artifacts(model, folder, tgdonnx.AllLayers())
        vendor = vendor_targets(open_artifacts(directory))
        source: Samples = samples
        if share:
            source = with_agreement(samples, Arrays(0, 8, False, arrays=(images,)), vendor, share=share)
        trainer = open_trainer(directory)
        before = trainer.evaluate(x, targets)[0]
        for epoch in range(40):
            for batch in source.batches(4, epoch=epoch):
                trainer.step(1e-2, *batch)
        assert trainer.evaluate(x, targets)[0] < 0.6 * before
        away[share] = trainer.evaluate(images, *vendor([images]))[0]
    assert away[0.5] < 0.5 * away[0.0]
