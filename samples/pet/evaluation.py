"""What the networks do: on the new software, on the old, on lesions and livers, and on what they never saw.

References are free of noise: an image of the expected counts by the same software for PSNR and SSIM, the phantom itself for
the bias of lesions. Spreads are over patients.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from phantom import Patient, Volume
from scanner import Reconstruction, Scan, acquire, expected, reconstruct
from skimage.metrics import structural_similarity
from studies import STACK, psnr, stacks

PEAK = 5.0  # uptake


REACH = 8  # pixels that a network of eight 3 x 3 Convs sees to each side

Window = tuple[slice, slice, slice]
WHOLE: Window = (slice(None), slice(None), slice(None))


class Denoiser:
    """A network, applied to volumes. The first and the last slice, which lack a neighbour, are left out."""

    def __init__(self, path: Optional[Path]) -> None:
        self.session = None if path is None else onnxruntime.InferenceSession(str(path))

    def __call__(self, volume: Volume, window: Window = WHOLE, every: int = 1) -> Volume:
        """Returns the middle slice of every so many stacks, denoised; without a network, as it is.

        Args:
            volume: the image.
            window: the part that is wanted; outside of it the image stays as it is.
            every: 2 for every second slice, and so on.
        """
        stacked = stacks(volume)[::every]
        output = stacked[:, STACK // 2].copy()
        if self.session is not None:
            wider = tuple(
                slice(max(0, (side.start or 0) - REACH), None if side.stop is None else side.stop + REACH)
                for side in window[1:]
            )
            for image, result in zip(stacked, output):
                result[wider] = self.session.run(None, {"image": image[None, :, wider[0], wider[1]]})[0][0, STACK // 2]
        return output


def body(reference: Volume) -> Window:
    """Returns the box around the body, in all slices."""
    rows, columns = (np.flatnonzero((reference > 0.1).any((0, axis))) for axis in (2, 1))
    return slice(None), slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


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
    window = body(reference)
    a, b = image[window], reference[window]
    ssim = [structural_similarity(x, y, data_range=PEAK) for x, y in zip(a, b)]
    return Quality(psnr(a, b, PEAK), float(np.mean(ssim)))


def realisations(patient: Patient, version: Reconstruction, seconds: float, count: int, seed: int) -> list[Volume]:
    """Images of independent scans of one patient."""
    rngs = np.random.default_rng(seed).spawn(count)
    return [reconstruct(acquire(patient, seconds, rng), version) for rng in rngs]


def ensemble_bias(images: list[Volume], patient: Patient, truth: Volume, every: int) -> list[float]:
    """For every lesion 100 * (mean over realisations of its mean - T) / T, in per cent.

    Args:
        images: denoised volumes, of every so many slices, without first and last.
        patient: where the lesions are.
        truth: what T is the mean of, in the same slices: the phantom, or the image of the expected counts.
        every: 2 if the images have every second slice, and so on.
    """
    biases = []
    for lesion in patient.lesions:
        where = patient.lesion_mask(lesion)[1:-1:every]
        if not where.any():
            continue
        true = float(truth[1:-1:every][where].mean(dtype=np.float64))
        biases.append(100 * (float(np.mean([image[where].mean(dtype=np.float64) for image in images])) - true) / true)
    return biases


def liver_cov(images: list[Volume], patient: Patient, every: int) -> float:
    """100 * (mean over voxels of the standard deviation over realisations) / mean, in per cent."""
    where = patient.organs["liver"][1:-1:every].copy()
    for lesion in patient.lesions:
        where &= ~patient.lesion_mask(lesion)[1:-1:every]
    values = np.stack([image[where] for image in images]).astype(np.float64)
    return float(100 * values.std(axis=0, ddof=1).mean() / values.mean())


def bootstrap(values: NDArray[np.float64], *, seed: int = 0, draws: int = 2000) -> tuple[float, float, float]:
    """Returns the mean over patients and the 95 % interval of it, by resampling patients."""
    rng = np.random.default_rng(seed)
    means = rng.choice(values, (draws, len(values))).mean(axis=1)
    return float(values.mean()), *(float(v) for v in np.percentile(means, (2.5, 97.5)))  # type: ignore[return-value]
