"""Four hospitals: each has its scanner, its counts and a few patients of its own; and the vendor's own task.

Patients, scanner and reconstruction are those of the PET study beside this directory. The vendor's network was trained for
software that blurs along y (v1). Every hospital reconstructs in a way of its own, and scans for as long as it can afford.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PET = Path(__file__).parents[1] / "pet"
sys.path.insert(0, str(PET))

from phantom import torso  # noqa: E402
from scanner import FWHM, V1, Reconstruction  # noqa: E402
from studies import TARGET, scan_patient, stacks  # noqa: E402

Array = NDArray[np.float32]
SLICES = 12  # of a patient, along the axis
SHOWN = {"train": slice(None), "validation": slice(4, 5), "test": slice(1, 10, 3)}  # of the stacks of a patient
BODY = np.s_[..., 24:104, 14:114]


@dataclass(frozen=True)
class Hospital:
    """A hospital.

    Attributes:
        name: what others call it.
        software: of its scanner.
        seconds: that it scans a bed for.
        bmi: the range of its patients' body-mass index.
        patients: that it trains on.
    """

    name: str
    software: Reconstruction
    seconds: float
    bmi: tuple[float, float]
    patients: int


HOSPITALS = (
    Hospital("north", Reconstruction("exact", (FWHM,) * 3, 4), 120.0, (19.0, 24.0), 3),
    Hospital("east", Reconstruction("sharp", (FWHM, 5.0, 5.0), 3), 60.0, (24.0, 30.0), 2),
    Hospital("south", Reconstruction("smooth", (FWHM, 8.5, 8.5), 4), 45.0, (19.0, 30.0), 2),
    Hospital("west", Reconstruction("exact, long", (FWHM,) * 3, 6), 30.0, (28.0, 36.0), 1),
)
VENDOR = Hospital("vendor", V1, 60.0, (19.0, 38.0), 0)
HELD_OUT = ("validation", "test")
"""Of every hospital one patient each; of the vendor's task likewise."""


def simulate(folder: Path, workers: int) -> None:
    """Writes ``HOSPITAL/train.npz``, ``validation.npz`` and ``test.npz``: ``image`` and ``target``, float32 (N, 3, H, W)."""
    jobs = [
        (hospital, role, number)
        for hospital in (*HOSPITALS, VENDOR)
        for role, count in (("train", hospital.patients), *((name, 1) for name in HELD_OUT))
        for number in range(count)
    ]
    with ProcessPoolExecutor(workers) as pool:
        made = list(pool.map(_study, *zip(*jobs)))
    for hospital in (*HOSPITALS, VENDOR):
        (folder / hospital.name).mkdir(parents=True, exist_ok=True)
        for role in ("train", *HELD_OUT):
            parts = [arrays for job, arrays in zip(jobs, made) if job[:2] == (hospital, role)]
            if parts:
                arrays = {name: np.concatenate([part[name] for part in parts]) for name in ("image", "target")}
                np.savez(folder / hospital.name / f"{role}.npz", **arrays)


def _study(hospital: Hospital, role: str, number: int) -> dict[str, Array]:
    """A patient of a hospital; who it is follows from its name and number alone."""
    seed = [*hospital.name.encode(), *role.encode(), number]
    low, high = hospital.bmi
    bmi = low + (high - low) * np.random.default_rng([*seed, 0]).random()
    patient = torso(np.random.default_rng([*seed, 1]), bmi, slices=SLICES)
    study = scan_patient(f"{hospital.name}-{role}-{number}", patient, hospital.software, [hospital.seconds], [*seed, 2])
    arrays = {"image": stacks(study.inputs[hospital.seconds]), "target": stacks(study.target)}
    return {name: np.ascontiguousarray(array[SHOWN[role]][BODY]) for name, array in arrays.items()}


assert max(hospital.seconds for hospital in HOSPITALS) < TARGET, "targets are images of longer scans"
