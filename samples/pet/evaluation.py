"""What the networks do: on the new software, on the old, on lesions and livers, and on what they never saw.

References are free of noise: an image of the expected counts by the same software for PSNR and SSIM, the phantom itself for
the bias of lesions. Spreads are over patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from phantom import Patient, Volume
from scanner import Reconstruction, Scan, acquire, expected, reconstruct
from skimage.metrics import structural_similarity
from studies import STACK, psnr, stacks

PEAK = 5.0  # uptake


class Denoiser:
    """A network, applied to whole volumes. The first and the last slice, which lack a neighbour, are left out."""

    def __init__(self, path: Path | None) -> None:
        self.session = None if path is None else onnxruntime.InferenceSession(str(path))

    def __call__(self, volume: Volume) -> Volume:
        """Returns the middle slice of every stack, denoised; without a network, as it is."""
        stacked = stacks(volume)
        if self.session is None:
            return stacked[:, STACK // 2]
        batches = np.array_split(stacked, max(1, len(stacked) // 8))
        return np.concatenate([self.session.run(None, {"image": batch})[0][:, STACK // 2] for batch in batches])


@dataclass(frozen=True)
class Quality:
    """PSNR in dB and SSIM against the image of the expected counts."""

    psnr: float
    ssim: float


def noise_free(patient: Patient, version: Reconstruction, seconds: float = 600.0) -> Volume:
    """The image of the expected counts."""
    trues, attenuation, background = expected(patient)
    return reconstruct(Scan(seconds * (trues + background), attenuation, background, seconds), version)


def quality(image: Volume, reference: Volume) -> Quality:
    """Compares volumes within the body's box."""
    rows, columns = (np.flatnonzero((reference > 0.1).any((0, axis))) for axis in (2, 1))
    window = np.s_[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    a, b = image[window], reference[window]
    ssim = [structural_similarity(x, y, data_range=PEAK) for x, y in zip(a, b)]
    return Quality(psnr(a, b, PEAK), float(np.mean(ssim)))


def realisations(patient: Patient, version: Reconstruction, seconds: float, count: int, seed: int) -> list[Volume]:
    """Images of independent scans of one patient."""
    rngs = np.random.default_rng(seed).spawn(count)
    return [reconstruct(acquire(patient, seconds, rng), version) for rng in rngs]


def ensemble_bias(images: list[Volume], patient: Patient) -> list[float]:
    """For every lesion 100 * (mean over realisations of its mean - truth) / truth, in per cent.

    Args:
        images: denoised volumes without first and last slice.
        patient: the truth.
    """
    biases = []
    for lesion in patient.lesions:
        where = patient.lesion_mask(lesion)[1:-1]
        truth = float(patient.activity[1:-1][where].mean(dtype=np.float64))
        biases.append(100 * (float(np.mean([image[where].mean(dtype=np.float64) for image in images])) - truth) / truth)
    return biases


def liver_cov(images: list[Volume], patient: Patient) -> float:
    """100 * (mean over voxels of the standard deviation over realisations) / mean, in per cent."""
    where = patient.organs["liver"][1:-1].copy()
    for lesion in patient.lesions:
        where &= ~patient.lesion_mask(lesion)[1:-1]
    values = np.stack([image[where] for image in images]).astype(np.float64)
    return float(100 * values.std(axis=0, ddof=1).mean() / values.mean())


def bootstrap(values: NDArray[np.float64], *, seed: int = 0, draws: int = 2000) -> tuple[float, float, float]:
    """Returns the mean over patients and the 95 % interval of it, by resampling patients."""
    rng = np.random.default_rng(seed)
    means = rng.choice(values, (draws, len(values))).mean(axis=1)
    return float(values.mean()), *(float(v) for v in np.percentile(means, (2.5, 97.5)))  # type: ignore[return-value]
