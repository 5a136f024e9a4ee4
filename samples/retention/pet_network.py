"""v1-net of the PET study: new software (v2) and thin patients are new, the software that it was trained for (v1) is old.

References are the long scan for validation, and the image of the expected counts for the test, which is chosen by nowhere.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from evaluation import noise_free
from network import Array, HeldOut, Network, Place, by_psnr
from studies import COHORTS, STACK, make_study, pairs, stacks

import tgdonnx

MODEL = Path(__file__).parents[1] / "pet" / "networks" / "v1-net.onnx"
TRAINING, DURATIONS = ("low-bmi", (0, 3, 5)), (30.0, 60.0, 120.0)
# Of the low-BMI cohort two patients are kept for validation.
JUDGED: dict[Place, tuple[str, tuple[int, ...]]] = {
    "new validation": ("low-bmi", (1, 6)),
    "old validation": ("v1-validation", (0, 2)),
    "new test": ("v2-test-low", (0, 2, 4, 6)),
    "old test": ("v1-test", (0, 2, 4, 6)),
}
EVALUATED = 60.0  # seconds per bed
BODY = np.s_[..., 24:104, 14:114]
SLICES = slice(3, 21, 6)
PATCH = 32
RATES = {
    "full": (1e-5, 3e-5),
    "last-3": (1e-4, 3e-4),
    "readers": (3e-5, 1e-4),
    "regrow": (3e-5, 1e-4),
    "regrow-small": (1e-4, 3e-4),
    "adapter": (3e-4, 1e-3),
    "random": (3e-5, 1e-4),
    "steepest": (3e-5,),
    "fisher": (3e-5,),
    "random quarter": (3e-5,),
    "full at 3e-5": (3e-5,),
    "regrow at 1e-4": (1e-4,),
    "full, long": (1e-5,),  # for time only the rates that the short runs took
    "regrow, long": (3e-5,),
    "adapter, long": (1e-3,),
    "full at 3e-5, long": (3e-5,),
}


def pet_network(cache: Path, workers: int) -> Network:
    """Returns the network; what is simulated (about a minute) is kept in ``cache``."""
    if not cache.is_file():
        simulate(cache, workers)
    with np.load(cache) as arrays:
        inputs, targets = arrays["training inputs"], arrays["training targets"]
        held_out = {place: HeldOut(arrays[f"{place} inputs"], arrays[f"{place} targets"]) for place in JUDGED}
    steps, batch = 200, 4
    return Network(
        name="pet",
        title="PET denoiser (v1-net)",
        unit="PSNR, dB",
        model=MODEL,
        input_name="image",
        loss="mse",
        strategy=tgdonnx.Phi(0.3),
        has_dead=True,
        rates=RATES,
        steps=steps,
        batch=batch,
        data=lambda _seed: {"image": inputs, "target": targets},  # patches and flips are drawn by the run's seed
        reading=tgdonnx.DataOptions(patch=(PATCH, PATCH), patches_per_epoch=steps * batch, augment=("flips",)),
        held_out=held_out,
        read=lambda output: output[:, STACK // 2],
        judge=by_psnr(5.0),
        gate_inputs=lambda: inputs,
    )


def simulate(cache: Path, workers: int) -> None:
    """Scans and reconstructs every patient of the study, and writes what the network sees of them."""
    arrays: dict[str, Array] = {}
    with ProcessPoolExecutor(workers) as pool:
        cohort, numbers = TRAINING
        studies = list(pool.map(make_study, [cohort] * len(numbers), numbers, [DURATIONS] * len(numbers)))
        arrays["training inputs"], arrays["training targets"] = (_body(a) for a in pairs(studies))
        for place, (cohort, numbers) in JUDGED.items():
            judged = list(pool.map(make_study, [cohort] * len(numbers), numbers, [(EVALUATED,)] * len(numbers)))
            if place.endswith("test"):
                scanner = [COHORTS[cohort][0]] * len(judged)
                references = list(pool.map(noise_free, [study.patient for study in judged], scanner))
            else:
                references = [study.target for study in judged]
            arrays[f"{place} inputs"] = np.concatenate([_shown(stacks(s.inputs[EVALUATED])) for s in judged])
            arrays[f"{place} targets"] = np.concatenate([_shown(r[1:-1]) for r in references])
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_name("partial.npz")
    np.savez(partial, **arrays)
    partial.replace(cache)


def _body(image: Array) -> Array:
    return np.ascontiguousarray(image[BODY])


def _shown(slices: Array) -> Array:
    return _body(slices[SLICES])
