"""The PET study: every network of the paper, and the tables and figures that compare them.

    python samples/pet/run.py --quick          # from the committed networks of the vendor; 10 minutes on 2 cores
    python samples/pet/run.py -o samples/pet/results

writes ``results.json``, ``tables.md`` and the figures. What is compared with what stands in the README beside this file.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import figures
import numpy as np
from evaluation import Denoiser, bootstrap, ensemble_bias, liver_cov, noise_free, quality, realisations
from networks import ONLINE, TUNED, model_path, tune, tune_online
from phantom import Patient, Volume, pelvis
from scanner import V1, V2, acquire, halves, reconstruct
from studies import COHORTS, cohort, make_study, patient_of, stacks

import tgdonnx

EVALUATED = 60.0  # seconds per bed of the test images
STUDY = 120.0  # seconds of the study that is learnt from online
PHIS = (0.2, 0.3, 0.4, 0.5, 0.6)


@dataclass(frozen=True)
class Size:
    """How much of the study is done."""

    low_bmi: int = 7
    durations: tuple[float, ...] = (30.0, 45.0, 60.0, 90.0, 120.0, 180.0)
    steps: int = 1500
    online_steps: int = 1000
    patients: int = 8
    realisations: int = 10
    tuned: tuple[str, ...] = tuple(TUNED)


QUICK = Size(3, (30.0, 60.0, 120.0), 150, 100, 3, 4, ("FT-net", "TGD-net", "TGD-net, readers", "full"))


@dataclass
class Results:
    """What is written to results.json."""

    size: dict[str, Any]
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    quality: dict[str, dict[str, dict[str, tuple[float, float, float]]]] = field(default_factory=dict)
    ensemble: dict[str, dict[str, Any]] = field(default_factory=dict)
    drop_test: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    online: dict[str, dict[str, float]] = field(default_factory=dict)
    seconds: float = 0.0


def low_bmi_studies(size: Size, workers: int) -> list[Any]:
    """The studies that are tuned on: every so many of the cohort."""
    if size.low_bmi == COHORTS["low-bmi"][2]:
        return cohort("low-bmi", durations=size.durations, workers=workers)
    numbers = np.linspace(0, COHORTS["low-bmi"][2] - 1, size.low_bmi).round().astype(int).tolist()
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(make_study, ["low-bmi"] * len(numbers), numbers, [size.durations] * len(numbers)))


def make_networks(size: Size, directory: Path, workers: int, results: Results) -> list[str]:
    """Tunes all networks on the new software's studies; returns those that did not diverge."""
    studies = low_bmi_studies(size, workers)
    for name in size.tuned:
        results.made[name] = tune(name, TUNED[name], studies, directory, steps=size.steps)
        click.echo(f"{name}: {json.dumps(results.made[name])}", err=True)
    return [name for name in size.tuned if "diverged" not in results.made[name]]


def test_case(name: str, number: int) -> tuple[str, Volume, Volume]:
    """A test patient's image and the one without noise."""
    study = make_study(name, number, (EVALUATED,))
    return name, study.inputs[EVALUATED], noise_free(study.patient, COHORTS[name][0])


def compare_quality(networks: dict[str, Path | None], size: Size, workers: int, results: Results) -> dict[str, Any]:
    """PSNR and SSIM on the new software, low and high BMI, and on the old; returns one case of each for the figure."""
    cases = [(name, i) for name in ("v2-test-low", "v2-test-high", "v1-test") for i in range(size.patients)]
    with ProcessPoolExecutor(workers) as pool:
        images = list(pool.map(test_case, *zip(*cases)))
    shown: dict[str, Any] = {}
    for label, path in networks.items():
        denoise = Denoiser(path)
        found: dict[str, list[Any]] = {}
        for name, image, reference in images:
            output = denoise(image)
            if name not in shown:
                shown[name] = {"truth": reference[1:-1]}
            shown[name].setdefault(label, output)
            found.setdefault(name, []).append(quality(output, reference[1:-1]))
        results.quality[label] = {
            name: {
                "psnr": bootstrap(np.array([each.psnr for each in values])),
                "ssim": bootstrap(np.array([each.ssim for each in values])),
            }
            for name, values in found.items()
        }
    return shown


def compare_ensembles(networks: dict[str, Path | None], size: Size, workers: int, results: Results) -> None:
    """Bias of lesions and noise of the liver over realisations of one patient each, of low and of high BMI."""
    patients = [("low", patient_of("v2-test-low", 2)), ("high", patient_of("v2-test-high", 2))]
    with ProcessPoolExecutor(workers) as pool:
        scans = [
            [pool.submit(_realisation, patient, STUDY, seed) for seed in range(size.realisations)]
            for _, patient in patients
        ]
        images = [[future.result() for future in futures] for futures in scans]
    for label, path in networks.items():
        denoise = Denoiser(path)
        results.ensemble[label] = {}
        for (bmi, patient), volumes in zip(patients, images):
            outputs = [denoise(volume) for volume in volumes]
            bias = ensemble_bias(outputs, patient)
            mean = float(np.mean(bias)) if bias else float("nan")
            results.ensemble[label][bmi] = {"bias": bias, "mean_bias": mean, "cov": liver_cov(outputs, patient)}


def _realisation(patient: Patient, seconds: float, seed: int) -> Volume:
    return realisations(patient, V2, seconds, 1, 1000 + seed)[0]


def drop_test(results: Results) -> None:
    """What the vendor's networks lose without the maps below phi, on three of their own validation images."""
    for version, name in ((V1, "v1-net"), (V2, "v2-net")):
        study = make_study(f"{version.name}-validation", 1, (EVALUATED,))
        images = stacks(study.inputs[EVALUATED])[4:20:5]
        report = tgdonnx.sweep(model_path(name, Path()), {"image": images}, phis=PHIS, samples=len(images))
        results.drop_test[name] = [
            {
                "phi": point.phi,
                "filters": point.filters,
                "weights": point.weights / report.weights,
                "parameters": point.parameters / report.parameters,
                "change": float("inf") if point.change is None else point.change,
            }
            for point in report.points
        ]
        results.made[name] = {"recommended phi": report.recommended, "tolerance": report.tolerance}


def learn_online(size: Size, directory: Path, results: Results) -> dict[str, Volume]:
    """A pelvis with a bladder and a line that no network was trained on: networks tuned on this very study."""
    patient = pelvis(np.random.default_rng(6))
    rng = np.random.default_rng(7)
    scan = acquire(patient, STUDY, rng)
    first, second = (reconstruct(half, V2) for half in halves(scan, rng))
    image, reference = reconstruct(scan, V2), noise_free(patient, V2)[1:-1]
    for name, recipe in ONLINE.items():
        if model_path(recipe.base, directory).is_file():
            results.made[name] = tune_online(name, recipe, (first, second), directory, steps=size.online_steps)
            click.echo(f"{name}: {json.dumps(results.made[name])}", err=True)
    shown = {"truth": reference}
    for name in ("noisy", "v1-net", "v2-net", "FT-net", "TGD-net", *ONLINE):
        path = None if name == "noisy" else model_path(name, directory)
        if path is not None and not path.is_file():
            continue
        shown[name] = Denoiser(path)(image)
        results.online[name] = {"psnr": quality(shown[name], reference).psnr}
        for organ, where in patient.organs.items():
            if organ != "muscle":
                inside = where[1:-1]
                results.online[name][f"{organ} error %"] = float(
                    100 * (shown[name][inside].mean() / reference[inside].mean() - 1)
                )
    return shown


@click.command()
@click.option("--quick", is_flag=True, help="Few patients and few steps: ten minutes.")
@click.option("--workers", type=int, default=2, show_default=True, help="Processes that simulate.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("samples/pet/out"), show_default=True)
@click.option("--networks", type=click.Path(path_type=Path), help="Where tuned networks go; beside the results.")
def main(quick: bool, workers: int, output: Path, networks: Path | None) -> None:
    """Makes the networks, compares them, and writes tables and figures."""
    begin = time.time()
    size = QUICK if quick else Size()
    directory = networks or output / "networks"
    directory.mkdir(parents=True, exist_ok=True)
    results = Results(asdict(size))
    tuned = make_networks(size, directory, workers, results)
    paths: dict[str, Path | None] = {"noisy": None}
    paths |= {name: model_path(name, directory) for name in ("v1-net", "v2-net", *tuned)}
    drop_test(results)
    shown = compare_quality(paths, size, workers, results)
    compare_ensembles(paths, size, workers, results)
    pelvis_images = learn_online(size, directory, results)
    results.seconds = time.time() - begin
    (output / "results.json").write_text(json.dumps(asdict(results), indent=1) + "\n", "utf-8")
    (output / "tables.md").write_text(figures.tables(results), "utf-8")
    figures.draw_quality(shown, output / "low-and-high-bmi.png")
    figures.draw_row(pelvis_images, output / "online.png", slice_=11, peak=8.0)
    figures.draw_drop_test(results, output / "drop-test.png")
    click.echo(figures.tables(results))


if __name__ == "__main__":
    main()
