"""Patients follow from their seeds, and are what they say they are."""

from __future__ import annotations

import socket
from collections.abc import Callable

import brain as heads
import numpy as np
import pytest
from brain import brain
from phantom import BONE, SLICES, VOXEL, WATER, Patient, pelvis, torso
from scipy import ndimage
from skimage.measure import label

MAKERS = {"torso": lambda rng: torso(rng, 22), "pelvis": pelvis, "brain": brain}
SEEDS = range(4)


@pytest.fixture(scope="module")
def brains() -> list[Patient]:
    return [brain(np.random.default_rng(seed)) for seed in SEEDS]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_patient_follows_from_the_seed(make: Callable[[np.random.Generator], Patient]) -> None:
    first, same, other = (make(np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.activity, same.activity)
    np.testing.assert_array_equal(first.attenuation, same.attenuation)
    assert first.lesions == same.lesions
    assert first.bmi == same.bmi
    assert np.abs(first.activity - other.activity).max() > 0.1
    assert first.activity.dtype == first.attenuation.dtype == np.float32
    assert first.activity.shape == first.attenuation.shape == (SLICES, 128, 128)


@pytest.mark.parametrize("bmi", [19.0, 28.0, 38.0])
def test_lesions_of_a_torso_lie_in_the_body_with_their_uptake(bmi: float) -> None:
    for seed in SEEDS:
        patient = torso(np.random.default_rng(seed), bmi)
        assert 3 <= len(patient.lesions) <= 8
        _check_lesions(patient)


def test_lesions_of_a_head_lie_in_the_brain_with_their_uptake(brains: list[Patient]) -> None:
    for patient in brains:
        assert len(patient.lesions) == 4
        _check_lesions(patient)
        skull = patient.attenuation > 1.1 * WATER
        for lesion in patient.lesions:
            # There is fluid between brain and bone: not even a neighbour is bone.
            assert not (skull & ndimage.binary_dilation(patient.lesion_mask(lesion))).any()
        uptake = patient.activity[patient.organs["grey"]].mean()
        hot = [lesion.uptake > uptake for lesion in patient.lesions]
        assert sum(hot) == 2


def _check_lesions(patient: Patient) -> None:
    body = ndimage.binary_fill_holes(patient.attenuation.max(axis=0) > 0.5 * WATER)
    for lesion in patient.lesions:
        mask = patient.lesion_mask(lesion)
        assert mask.any()
        assert body[mask.any(axis=0)].all()
        core = mask & ndimage.binary_erosion(mask, border_value=1)
        np.testing.assert_allclose(patient.activity[core], lesion.uptake, rtol=1e-4)
        for where in patient.organs.values():
            assert not (where & mask).any()


def test_grey_matter_takes_up_four_times_as_much_as_white(brains: list[Patient]) -> None:
    ratios = []
    for patient in brains:
        grey, white = patient.organs["grey"], patient.organs["white"]
        assert grey.sum() > 50
        assert white.sum() > 500
        ratios.append(patient.activity[grey].mean() / patient.activity[white].mean())
    # Voxels of 97 % grey and 99 % white matter have 3.77 to 4.04; uptake varies by 5 % over 2 cm.
    assert np.mean(ratios) == pytest.approx(3.9, abs=0.15)
    assert min(ratios) > 3.6
    assert max(ratios) < 4.2


def test_heads_are_as_large_as_heads(brains: list[Patient]) -> None:
    for patient in brains:
        head = (patient.attenuation > 0.5 * WATER).any(axis=0)
        length, breadth = (VOXEL * (np.ptp(np.flatnonzero(head.any(axis=axis))) + 1) for axis in (1, 0))
        assert 175 <= length <= 215
        assert 140 <= breadth <= 175


def test_the_skull_is_a_closed_ring_around_the_brain(brains: list[Patient]) -> None:
    for patient in brains:
        assert patient.attenuation.max() <= np.float32(BONE) * 1.0001
        middle = SLICES // 2
        bone = patient.attenuation[middle] > 1.1 * WATER
        inside = ndimage.binary_fill_holes(bone) & ~bone
        assert label(inside, connectivity=1).max() == 1
        for organ in patient.organs.values():
            assert inside[organ[middle]].all()
        assert not patient.activity[patient.attenuation == 0].any()


def test_the_templates_are_not_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("something wants to be downloaded")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    heads._template.cache_clear()
    assert brain(np.random.default_rng(0), slices=4).activity.shape == (4, 128, 128)
