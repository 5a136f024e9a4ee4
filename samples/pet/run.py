"""The PET study: every network of the paper, and the tables and figures that compare them.

    python samples/pet/run.py --quick                  # from the committed networks of the vendor; 10 minutes on 2 cores
    python samples/pet/run.py --quick --check FILE     # besides: do the figures agree with those of an earlier run?
    python samples/pet/run.py -o samples/pet/out

writes ``results.json``, ``tables.md`` and the figures. What is compared with what stands in the README beside this file.
An interrupted run goes on where it was when it is started again.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional

import click
import figures
import numpy as np
import tables
from comparison import Case, Pelvis, ensembles, measure, test_cases, unseen_study
from drop_test import SHOWN_SLICE, dropped_images, sweep_vendor
from evaluation import Denoiser
from networks import ONLINE, TUNED, model_path, tune, tune_online
from phantom import Volume
from studies import COHORTS, Study, cohort, make_study


@dataclass(frozen=True)
class Size:
    """How much of the study is done."""

    low_bmi: int = COHORTS["low-bmi"][2]
    durations: tuple[float, ...] = (30.0, 45.0, 60.0, 90.0, 120.0, 180.0)
    steps: int = 1500
    online_steps: int = 600
    patients: int = 8
    realisations: int = 10
    tuned: tuple[str, ...] = tuple(TUNED)
    online: tuple[str, ...] = tuple(ONLINE)


QUICK = Size(
    3,
    (30.0, 60.0, 120.0),
    150,
    100,
    3,
    4,
    ("FT-net", "TGD-net", "TGD-net, readers", "TGD-net, regrow", "full"),
    ("TGD N2N", "TGD2 N2N"),
)


@dataclass
class Results:
    """What is written to results.json."""

    size: dict[str, Any]
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    drop_test: dict[str, dict[str, Any]] = field(default_factory=dict)
    measured: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0


def low_bmi_studies(size: Size, workers: int) -> list[Study]:
    """The studies that are tuned on: every so many of the cohort."""
    if size.low_bmi == COHORTS["low-bmi"][2]:
        return cohort("low-bmi", durations=size.durations, workers=workers)
    numbers = np.linspace(0, COHORTS["low-bmi"][2] - 1, size.low_bmi).round().astype(int).tolist()
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(make_study, ["low-bmi"] * len(numbers), numbers, [size.durations] * len(numbers)))


def make_networks(size: Size, study: Pelvis, directory: Path, workers: int) -> dict[str, dict[str, Any]]:
    """Tunes all networks, those of the paper and those beyond it; returns how each was made."""
    studies = low_bmi_studies(size, workers)
    made = {}
    for name in size.tuned:
        made[name] = tune(name, TUNED[name], studies, directory, steps=size.steps)
        click.echo(f"{name}: {json.dumps(made[name])}", err=True)
    for name in size.online:
        if model_path(ONLINE[name].base, directory).is_file():
            made[name] = tune_online(name, ONLINE[name], study.halves, directory, steps=size.online_steps)
            click.echo(f"{name}: {json.dumps(made[name])}", err=True)
    return made


def show(paths: dict[str, Optional[Path]], cases: list[Case], study: Pelvis, output: Path) -> None:
    """Draws the first patient of every cohort and the pelvis, by every network."""
    first: dict[str, Case] = {}
    for case in cases:
        first.setdefault(case.cohort, case)
    denoisers = {name: Denoiser(path) for name, path in paths.items()}

    def by_every_network(image: Volume, reference: Volume) -> dict[str, Volume]:
        middle = slice(SHOWN_SLICE - 1, SHOWN_SLICE + 2)
        shown = {name: denoise(image[middle])[0] for name, denoise in denoisers.items()}
        return {"no noise": reference[SHOWN_SLICE], **shown}

    rows = {cohort: by_every_network(case.image, case.reference) for cohort, case in first.items()}
    figures.draw_patients(rows, output / "patients.png")
    figures.draw_pelvis(by_every_network(study.image, study.reference), output / "online.png")


@click.command()
@click.option("--quick", is_flag=True, help="Few patients and few steps: ten minutes.")
@click.option("--workers", type=int, default=2, show_default=True, help="Processes that simulate.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("samples/pet/out"), show_default=True)
@click.option(
    "--networks", type=click.Path(path_type=Path), help="Where tuned networks go.  [default: beside the results]"
)
@click.option(
    "--check",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A results.json whose intervals the new figures must lie in; exit code 1 if one does not.",
)
def main(quick: bool, workers: int, output: Path, networks: Optional[Path], check: Optional[Path]) -> None:
    """Makes the networks, compares them, and writes tables and figures."""
    begin = time.time()
    size = QUICK if quick else Size()
    directory = networks or output / "networks"
    directory.mkdir(parents=True, exist_ok=True)
    output.mkdir(parents=True, exist_ok=True)
    study = unseen_study()
    results = Results(asdict(size), make_networks(size, study, directory, workers), sweep_vendor())
    paths: dict[str, Optional[Path]] = {"noisy": None}
    for name in ("v1-net", "v2-net", *results.made):
        if "diverged" not in results.made.get(name, ()):
            paths[name] = model_path(name, directory)
    cases, realised = test_cases(size.patients, workers), ensembles(size.realisations, workers)
    for name, path in paths.items():
        kept = directory / f"{model_path(name, directory).stem}.measured.json"
        results.measured[name] = measure(path, cases, realised, study, kept)
        click.echo(f"{name}: measured", err=True)
    results.seconds = round(time.time() - begin, 1)
    (output / "results.json").write_text(json.dumps(asdict(results), indent=1) + "\n", "utf-8")
    (output / "tables.md").write_text(tables.tables(results), "utf-8")
    show({name: path for name, path in paths.items() if name in figures.SHOWN}, cases, study, output)
    figures.draw_drop_test(results.drop_test, dropped_images(directory), output / "drop-test.png")
    figures.draw_new_against_old(results.measured, output / "new-against-old.png")
    click.echo(tables.tables(results))
    if check is not None:
        strays = tables.outside(results, json.loads(check.read_text("utf-8")))
        click.echo("\n".join(strays) or f"all figures lie within the intervals of {check}")
        sys.exit(1 if strays else 0)


if __name__ == "__main__":
    main()
