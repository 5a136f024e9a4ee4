"""Measures networks: on test patients of the new and the old software, on brains, over realisations, and on a pelvis.

What is measured of a network is kept beside it, and not measured again while the file is the same.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

import numpy as np
from brain import brain
from evaluation import Denoiser, body, ensemble_bias, liver_cov, noise_free, quality, realisations
from phantom import Patient, Volume, pelvis
from scanner import V2, Reconstruction, acquire, halves, reconstruct
from studies import COHORTS, patient_of, scan_patient

EVALUATED = 60.0  # seconds per bed of the test images
STUDY = 120.0  # seconds of the studies of many realisations, and of the one that is learnt from online
TESTED = {
    "v2-test-low": "v2, low BMI",
    "v2-test-high": "v2, high BMI",
    "v1-test": "v1",
    "brain": "v2, brain",
}
EVERY = 2  # every second slice is measured, but of the pelvis all
_NEIGHBOURS = {"low": "v2-test-low", "high": "v2-test-high"}


@dataclass(frozen=True)
class Case:
    """A test patient's image of `EVALUATED` seconds, and the image of the expected counts."""

    cohort: str
    image: Volume = field(repr=False)
    reference: Volume = field(repr=False)


@dataclass(frozen=True)
class Ensemble:
    """Independent images of one patient, of `STUDY` seconds each, and the image of the expected counts."""

    patient: Patient
    images: list[Volume] = field(repr=False)
    reference: Volume = field(repr=False)


@dataclass(frozen=True)
class Pelvis:
    """A study with a bladder and a line that no network was trained on.

    Attributes:
        patient: the truth.
        halves: images of half of the events each.
        image: of all events.
        reference: of the expected counts.
    """

    patient: Patient
    halves: tuple[Volume, Volume] = field(repr=False)
    image: Volume = field(repr=False)
    reference: Volume = field(repr=False)


def test_cases(patients: int, workers: int) -> list[Case]:
    """Returns so many patients of each test cohort."""
    jobs = [(cohort, number) for cohort in TESTED for number in range(patients)]
    with ProcessPoolExecutor(workers) as pool:
        return list(pool.map(_case, *zip(*jobs)))


def _case(cohort: str, number: int) -> Case:
    seed = [zlib.crc32(cohort.encode()), number, 1]
    if cohort in COHORTS:
        version: Reconstruction = COHORTS[cohort][0]
        patient = patient_of(cohort, number)
    else:
        version, patient = V2, brain(np.random.default_rng([*seed[:2], 0]))
    study = scan_patient(f"{cohort}-{number}", patient, version, (EVALUATED,), seed)
    return Case(cohort, study.inputs[EVALUATED], noise_free(patient, version))


def ensembles(count: int, workers: int) -> dict[str, Ensemble]:
    """Returns so many realisations of a patient of low and of one of high body-mass index, by the new software."""
    patients = {bmi: patient_of(cohort, 2) for bmi, cohort in _NEIGHBOURS.items()}
    with ProcessPoolExecutor(workers) as pool:
        running = {bmi: [pool.submit(_realisation, p, seed) for seed in range(count)] for bmi, p in patients.items()}
        return {
            bmi: Ensemble(patients[bmi], [future.result() for future in futures], noise_free(patients[bmi], V2))
            for bmi, futures in running.items()
        }


def _realisation(patient: Patient, seed: int) -> Volume:
    return realisations(patient, V2, STUDY, 1, 1000 + seed)[0]


def unseen_study() -> Pelvis:
    """Returns the study that is learnt from online."""
    patient, rng = pelvis(np.random.default_rng(6)), np.random.default_rng(7)
    scan = acquire(patient, STUDY, rng)
    first, second = (reconstruct(half, V2) for half in halves(scan, rng))
    return Pelvis(patient, (first, second), reconstruct(scan, V2), noise_free(patient, V2))


def measure(
    path: Optional[Path], cases: list[Case], realised: Mapping[str, Ensemble], study: Pelvis, kept: Path
) -> dict[str, Any]:
    """Returns what a network does, by cohort, body-mass index and place.

    Args:
        path: the network; None for the images as they are.
        cases: of the test cohorts.
        realised: realisations by body-mass index.
        study: the pelvis.
        kept: a file for the result; what it holds is returned if the network and the amounts are the same.
    """
    sha = "none" if path is None else hashlib.sha256(path.read_bytes()).hexdigest()
    of = [sha, len(cases), *(len(each.images) for each in realised.values())]
    if kept.is_file():
        measured: dict[str, Any] = json.loads(kept.read_text("utf-8"))
        if measured["of"] == of:
            return measured
    denoise = Denoiser(path)
    measured = {"of": of, "quality": {cohort: {"psnr": [], "ssim": []} for cohort in TESTED}, "ensemble": {}}
    for case in cases:
        found = quality(denoise(case.image, body(case.reference), EVERY), case.reference[1:-1:EVERY])
        measured["quality"][case.cohort]["psnr"].append(found.psnr)
        measured["quality"][case.cohort]["ssim"].append(found.ssim)
    for bmi, ensemble in realised.items():
        outputs = [denoise(image, body(ensemble.reference), EVERY) for image in ensemble.images]
        measured["ensemble"][bmi] = {
            "bias": ensemble_bias(outputs, ensemble.patient, ensemble.patient.activity, EVERY),
            "bias to noise-free": ensemble_bias(outputs, ensemble.patient, ensemble.reference, EVERY),
            "cov": liver_cov(outputs, ensemble.patient, EVERY),
        }
    measured["online"] = _measure_places(denoise(study.image), study)
    kept.write_text(json.dumps(measured, indent=1) + "\n", "utf-8")
    return measured


def _measure_places(output: Volume, study: Pelvis) -> dict[str, float]:
    """Returns the PSNR, and for the bladder and the line by how many per cent the mean is off."""
    reference = study.reference[1:-1]
    found = {"psnr": quality(output, reference).psnr}
    for place in ("bladder", "line"):
        inside = study.patient.organs[place][1:-1]
        found[f"{place} error %"] = float(100 * (output[inside].mean() / reference[inside].mean() - 1))
    return found
