"""A round at a site: what a plain run does, in pieces."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.federated.sites import artifacts, data, make_site
from tests.finetuning.runs import same_state
from tests.support.checkpoints import CHECKPOINT
from tests.support.trainer import open_trainer
from tgdonnx.artifacts import open_artifacts
from tgdonnx.errors import ArtifactsError, DataError, OutputError
from tgdonnx.federated.plan import RoundPlan
from tgdonnx.federated.site import NotTheServersError, evaluate_at, train_at
from tgdonnx.federated.site_file import Site, read_site
from tgdonnx.federated.travelling import Fingerprint, Numbers, fingerprint, travelling
from tgdonnx.finetuning import RunData, TrainOptions, train
from tgdonnx.finetuning.session import Session, read_parameters

PLAN = RoundPlan(TrainOptions(epochs=2, batch=4, learning_rate=1e-2, seed=5), False)
HELD_OUT, OLD = data(5, 9), data(6, 8)


@pytest.fixture(scope="module", params=["masked", "thin"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifacts(tmp_path_factory.mktemp(request.param), l2=0.01, clip_norm=0.5, form=request.param)


def start_of(directory: Path) -> tuple[Numbers, Fingerprint]:
    opened = open_artifacts(directory)
    return travelling(opened).taken(read_parameters(directory, CHECKPOINT)), fingerprint(opened)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_rounds_at_one_site_are_a_plain_run_bit_for_bit(built: Path, tmp_path: Path) -> None:
    site = read_site(make_site(tmp_path, built, "north", data(10, 0), validation=HELD_OUT, retain=OLD))
    pristine = files(site.artifacts)
    numbers, wanted = start_of(built)
    losses = []
    for _ in range(3):
        found = train_at(site, "run-1", PLAN, numbers, wanted)
        assert (found.samples, found.steps) == (10, 6)
        numbers = found.numbers
        losses.append(found.loss)
    plain = Path(shutil.copytree(built, tmp_path / "plain"))
    report = train(plain, RunData(data(10, 0)), replace(PLAN.options, epochs=6))
    assert same_state(site.runs / "run-1", plain)
    assert losses == [pytest.approx(np.mean(report.loss[i : i + 6]), rel=1e-12) for i in (0, 6, 12)]
    assert files(site.artifacts) == pristine, "the artifacts of a site are read alone"


def test_rounds_of_steps_end_within_an_epoch_and_go_on_from_there(built: Path, tmp_path: Path) -> None:
    site = read_site(make_site(tmp_path, built, "north", data(10, 0)))
    numbers, wanted = start_of(built)
    plan = replace(PLAN, options=replace(PLAN.options, epochs=None, steps=2))
    for _ in range(4):
        numbers = train_at(site, "run-1", plan, numbers, wanted).numbers
    plain = Path(shutil.copytree(built, tmp_path / "plain"))
    train(plain, RunData(data(10, 0)), replace(PLAN.options, epochs=None, steps=8))
    assert same_state(site.runs / "run-1", plain)


def test_a_round_starts_from_the_numbers_of_the_server(built: Path, tmp_path: Path) -> None:
    site = read_site(make_site(tmp_path, built, "north", data(10, 0)))
    numbers, wanted = start_of(built)
    train_at(site, "run-1", PLAN, numbers, wanted)
    moved = {name: array + np.float32(0.01) for name, array in numbers.items()}
    tiny = replace(PLAN, options=replace(PLAN.options, learning_rate=1e-2, epochs=2))
    again = train_at(site, "run-1", tiny, moved, wanted)
    other = train_at(site, "run-2", tiny, moved, wanted)  # without what the optimizer remembers
    for name, array in again.numbers.items():
        assert np.abs(array - moved[name]).max() <= 6 * 1.5e-2, "AdamW moves a number by about its rate"
        assert not np.array_equal(array, other.numbers[name]), "runs do not know of each other"


def test_an_evaluation_is_that_of_the_servers_numbers_and_changes_nothing(built: Path, tmp_path: Path) -> None:
    site = read_site(make_site(tmp_path, built, "north", data(10, 0), validation=HELD_OUT, retain=OLD))
    numbers, wanted = start_of(built)
    plan = replace(PLAN, options=replace(PLAN.options, metrics=("rmse",)))
    train_at(site, "run-1", plan, numbers, wanted)
    before = files(site.runs)
    moved = {name: array * np.float32(0.9) for name, array in numbers.items()}
    found = evaluate_at(site, "run-1", plan, moved, wanted)
    assert files(site.runs) == before
    session = Session(built)
    session.set_parameters(travelling(open_artifacts(built)).put(moved, session.parameters()))
    for arrays, count, metrics in ((HELD_OUT, found.samples, found.metrics), (OLD, found.retained, found.retain)):
        (output,) = session.predict([arrays["x"]])
        errors = np.sqrt(np.mean((output - arrays["target"]).astype(np.float64) ** 2, axis=(1, 2, 3)))
        assert count == len(errors)
        assert metrics["rmse"] == pytest.approx(errors.mean(), rel=1e-6)
    assert found.loss == pytest.approx(
        np.mean((session.predict([HELD_OUT["x"]])[0] - HELD_OUT["target"]) ** 2), rel=1e-6
    )


def test_a_site_without_other_data_evaluates_nothing(built: Path, tmp_path: Path) -> None:
    site = read_site(make_site(tmp_path, built, "north", data(10, 0)))
    found = evaluate_at(site, "run-1", PLAN, *start_of(built))
    assert (found.samples, found.loss, found.metrics, found.retained, found.retain) == (0, None, {}, 0, {})


def refused(site: Site, numbers: Numbers, wanted: Fingerprint, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        train_at(site, "run-1", PLAN, numbers, wanted)
    assert not site.runs.exists()


def test_other_artifacts_than_the_servers_are_refused_before_anything_is_written(built: Path, tmp_path: Path) -> None:
    site = read_site(make_site(tmp_path, artifacts(tmp_path / "other", seed=1), "north", data(10, 0)))
    refused(site, *start_of(built), NotTheServersError, "not the server's: another base model")


def test_two_sites_that_keep_their_runs_in_one_directory_are_refused_by_name(built: Path, tmp_path: Path) -> None:
    north, south = (read_site(make_site(tmp_path, built, name, data(10, 0))) for name in ("north", "south"))
    south = replace(south, runs=north.runs)
    train_at(north, "run-1", PLAN, *start_of(built))
    before = files(north.runs)
    with pytest.raises(
        ArtifactsError,
        match=r"run-1 is the run of site 'north', and site 'south' keeps its runs in the same directory; give each its own",
    ):
        train_at(south, "run-1", PLAN, *start_of(built))
    assert files(north.runs) == before
    train_at(south, "run-2", PLAN, *start_of(built))


def test_a_run_is_not_kept_where_a_link_leads(built: Path, tmp_path: Path) -> None:
    site = read_site(make_site(tmp_path, built, "north", data(10, 0)))
    shutil.copytree(built, tmp_path / "mine")
    before = files(tmp_path / "mine")
    site.runs.mkdir(parents=True)
    (site.runs / "run-1").symlink_to(tmp_path / "mine")
    with pytest.raises(OutputError, match=r"run-1 is a link to .*mine; expected a directory of its own"):
        train_at(site, "run-1", PLAN, *start_of(built))
    assert files(tmp_path / "mine") == before


def test_artifacts_that_hold_a_run_are_refused(built: Path, tmp_path: Path) -> None:
    site = read_site(make_site(tmp_path, built, "north", data(10, 0)))
    train(site.artifacts, data(10, 0), TrainOptions(steps=1))
    refused(site, *start_of(built), ArtifactsError, "holds a run")


def test_numbers_of_the_server_that_do_not_fit_are_refused(built: Path, tmp_path: Path) -> None:
    site = read_site(make_site(tmp_path, built, "north", data(10, 0)))
    numbers, wanted = start_of(built)
    bad = {name: np.full_like(array, np.nan) for name, array in numbers.items()}
    with pytest.raises(DataError, match="the server sent NaN"):
        train_at(site, "run-1", PLAN, bad, wanted)
    assert json.loads((site.runs / "run-1" / "manifest.json").read_text())["format"] == 3
    assert not (site.runs / "run-1" / "log.jsonl").exists()


@pytest.mark.parametrize("form", ["masked", "thin"])
def test_with_fedprox_a_round_is_pulled_to_where_it_starts(form: str, tmp_path: Path) -> None:
    """SGD by hand: p2 = p1 - r (g(p1) + mu (p1 - p0)), and of the next round the first step is not pulled at all."""
    mu, rate = 4000.0, 1e-5
    pulled = artifacts(tmp_path / "pulled", form=form, l2_sp=mu, optimizer="sgd")
    plain = artifacts(tmp_path / "plain", form=form, optimizer="sgd")
    arrays = data(4, 0)
    steps = RoundPlan(TrainOptions(steps=2, batch=4, learning_rate=rate), True)
    site = read_site(make_site(tmp_path, pulled, "north", arrays))
    numbers, wanted = start_of(pulled)
    trainer, which = open_trainer(plain), travelling(open_artifacts(plain))
    for _ in range(2):
        begin = {name: array.astype(np.float64) for name, array in numbers.items()}
        p = dict(begin)
        for _ in range(2):
            now = {name: array.astype(np.float32) for name, array in p.items()}
            trainer.move_to(which.put(now, trainer.parameters))
            gradient = which.taken(trainer.gradients(arrays["x"], arrays["target"])[1])
            p = {name: p[name] - rate * (gradient[name] + mu * (p[name] - begin[name])) for name in p}
        numbers = train_at(site, "run-1", steps, numbers, wanted).numbers
        for name, array in p.items():
            moved = np.abs(array - begin[name]).max()
            assert np.abs(numbers[name] - array).max() <= 1e-4 * moved + 3e-7, name  # two roundings of numbers about 2


def test_fedprox_without_a_pull_in_the_artifacts_is_refused(built: Path, tmp_path: Path) -> None:
    site = read_site(make_site(tmp_path, built, "north", data(4, 0)))
    with pytest.raises(ArtifactsError, match="build the artifacts with `l2_sp`"):
        train_at(site, "run-1", replace(PLAN, proximal=True), *start_of(built))
