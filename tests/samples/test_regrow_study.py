"""What the study of selections computes itself: draws of filters, statistics of curves, and which runs are done again."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest

sys.path.insert(1, str(Path(__file__).parents[2] / "samples" / "regrow"))

from candidates import CANDIDATES, Candidate, random_filters
from following import Outcome, looks
from network import agreement, psnr
from pages import FONTS, pages, spoil
from summary import at_ends, best_look, mean_curve, spread

STUDY = Path(__file__).parents[2] / "samples" / "regrow"


def look(step: int, *, loss: float = 0.0, new: float = 0.0, old: float = 0.0) -> dict[str, Any]:
    nothing = {"loss": 0.0, "score": 0.0}
    places = {"new validation": {"loss": loss, "score": 0.0}, "old validation": nothing}
    return {"step": step, **places, "new test": {"loss": 0.0, "score": new}, "old test": {"loss": 0.0, "score": old}}


@pytest.fixture(scope="module")
def study_run() -> ModuleType:
    # The other samples have a module `run` too, so this one gets a name of its own.
    spec = importlib.util.spec_from_file_location("regrow_study_run", STUDY / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_random_filters_are_as_many_of_every_layer_as_are_selected() -> None:
    drawn = random_filters({"a": range(12), "b": [], "c": [4]}, {"a": 16, "b": 8, "c": 5}, seed=3)
    assert {name: len(set(rows)) for name, rows in drawn.items()} == {"a": 12, "c": 1}
    assert drawn["a"] == sorted(drawn["a"])
    assert set(drawn["a"]) <= set(range(16))
    assert set(drawn["c"]) <= set(range(5))


def test_random_filters_follow_from_the_seed() -> None:
    selected, filters = {"a": range(20)}, {"a": 64}
    assert random_filters(selected, filters, seed=0) == random_filters(selected, filters, seed=0)
    assert random_filters(selected, filters, seed=0) != random_filters(selected, filters, seed=1)


def test_every_filter_of_a_layer_has_the_same_chance() -> None:
    drawn = [random_filters({"a": [0, 1]}, {"a": 4}, seed=seed)["a"] for seed in range(400)]
    counts = np.bincount(np.ravel(drawn), minlength=4)
    assert np.all(np.abs(counts - 200) < 50)  # five standard deviations


def test_spread_is_mean_and_sample_standard_deviation() -> None:
    found = spread([1.0, 2.0, 6.0])
    assert found.mean == pytest.approx(3.0, abs=1e-12)
    assert found.deviation == pytest.approx(np.sqrt(7.0), abs=1e-12)
    assert spread([5.0]).deviation == 0.0


def test_the_best_look_has_the_lowest_validation_loss_whatever_the_test_says() -> None:
    curve = [look(0, loss=3.0, new=9.0), look(5, loss=1.0, new=2.0), look(9, loss=1.0, new=8.0)]
    assert best_look(curve)["step"] == 5


def test_ends_and_best_steps_are_those_of_each_seed() -> None:
    first = [
        look(0, loss=2.0, new=1.0, old=9.0),
        look(5, loss=1.0, new=4.0, old=7.0),
        look(9, loss=3.0, new=2.0, old=5.0),
    ]
    second = [
        look(0, loss=2.0, new=1.0, old=9.0),
        look(5, loss=1.5, new=3.0, old=8.0),
        look(9, loss=1.0, new=6.0, old=6.0),
    ]
    found = at_ends([first, second])
    assert found["end"]["new"] == spread([2.0, 6.0])
    assert found["end"]["old"] == spread([5.0, 6.0])
    assert found["best"]["new"] == spread([4.0, 6.0])
    assert found["best"]["old"] == spread([7.0, 6.0])


def test_a_mean_curve_ends_where_the_first_seed_does() -> None:
    whole = [look(0, new=1.0, old=5.0), look(5, new=2.0, old=4.0), look(9, new=3.0, old=3.0)]
    points = mean_curve([whole, [look(0, new=3.0, old=5.0), look(5, new=6.0, old=2.0)]])
    assert points == [(0, spread([1.0, 3.0]), spread([5.0, 5.0])), (5, spread([2.0, 6.0]), spread([4.0, 2.0]))]


@pytest.mark.parametrize("steps", [1, 7, 60, 400])
def test_runs_are_looked_at_in_order_and_at_their_end(steps: int) -> None:
    at = looks(steps)
    assert at == sorted(set(at))
    assert at[0] >= 1
    assert at[-1] == steps


def test_psnr_is_that_of_every_sample() -> None:
    targets = np.zeros((2, 3, 4), np.float32)
    outputs = np.stack([np.full((3, 4), 0.5), np.full((3, 4), 0.05)]).astype(np.float32)
    # 20 log10(5 / 0.5) and 20 log10(5 / 0.05)
    np.testing.assert_allclose(psnr(5.0)(outputs, targets), [20.0, 40.0], atol=1e-5)


def test_agreement_is_about_the_largest_class() -> None:
    outputs = np.array([[0.6, 0.4], [0.6, 0.4]], np.float32)
    assert agreement(outputs, np.array([[0.9, 0.1], [0.3, 0.7]], np.float32)).tolist() == [100.0, 0.0]


def test_pages_of_different_splits_share_no_font() -> None:
    fonts = [font for split in FONTS.values() for font in split]
    assert len(fonts) == len(set(fonts))


def test_pages_and_noise_follow_from_their_seeds() -> None:
    clean = pages("test", 3, seed=1)
    assert clean.shape == (3, 224, 224)
    assert clean.dtype == np.float32
    np.testing.assert_array_equal(clean, pages("test", 3, seed=1))
    assert not np.array_equal(clean, pages("test", 3, seed=2))
    np.testing.assert_array_equal(spoil(clean, seed=4), spoil(clean, seed=4))
    # White paper with noise of 0.15 on it, of which clipping takes the upper half.
    assert 0.05 < np.std(spoil(np.ones((1, 64, 64), np.float32), seed=5)) < 0.15


def outcome(candidate: Candidate, seed: int, rate: float) -> Outcome:
    return Outcome("net", candidate.name, seed, rate, 0.5, None, None, (look(0), look(4, new=1.0)), 3, True, 0.1, "")


def test_a_run_that_is_stored_is_not_done_again(
    study_run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def follow(network: Any, candidate: Candidate, seed: int, rate: float, steps: int, work: Path) -> Outcome:
        done.append((candidate.name, seed, steps))
        return outcome(candidate, seed, rate)

    monkeypatch.setattr(study_run, "follow", follow)
    network = SimpleNamespace(name="net", steps=4)
    study = study_run.Study(tmp_path)
    first = study.run(network, CANDIDATES[-1], 0, 1e-3)
    # JSON has lists for tuples.
    assert study_run.Study(tmp_path).run(network, CANDIDATES[-1], 0, 1e-3) == {**first, "curve": list(first["curve"])}
    study.run(network, CANDIDATES[-1], 1, 1e-3)
    assert done == [("all", 0, 4), ("all", 1, 4)]
    with pytest.raises(click.ClickException, match=r"of 4 steps at 0.001, not 4 at 0.01; delete it"):
        study.run(network, CANDIDATES[-1], 0, 1e-2)


def test_the_rate_is_the_one_of_the_lowest_validation_loss(
    study_run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {1e-4: 0.3, 3e-4: 0.1, 1e-3: 0.2}
    # By one candidate alone it would be another rate.
    handicap = {("all", 1e-4): -0.25, ("regrow", 1e-3): -0.15}

    def follow(network: Any, candidate: Candidate, seed: int, rate: float, steps: int, work: Path) -> Outcome:
        # A higher phi is better here, and the test scores say the opposite of the validation losses.
        loss = losses[rate] - (candidate.phi or 0.0) / 100 + handicap.get((candidate.name, rate), 0.0)
        curve = (look(0, loss=9.0), look(4, loss=loss, new=loss))
        return Outcome("net", candidate.name, seed, rate, 0.5, None, None, curve, 3, True, 0.1, "")

    monkeypatch.setattr(study_run, "follow", follow)
    network = SimpleNamespace(name="net", steps=4, rates=tuple(losses), phis=(0.1, 0.5, 0.3))
    rate, phi, tried = study_run.choose(study_run.Study(tmp_path), network)
    assert (rate, phi) == (3e-4, 0.5)
    assert len(tried) == 12
