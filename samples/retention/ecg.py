"""Electrocardiograms of two recorders, simulated: what is clean is known.

A beat is a sum of Gaussians, one for each of the waves P, Q, R, S and T; the time between beats and the height and width of
waves vary. The first recorder adds white noise and a slow drift. The second one is worn in everyday life: it adds the hum of
the mains, noise of muscles between 20 and 90 Hz, and beats come faster, some of them ectopic: wide, early, and without P.

Signals are float32 in millivolts, at 250 samples a second.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import signal

Array = NDArray[np.float32]
Recorder = Literal["old", "new"]

HERTZ = 250
LENGTH = 512
PEAK = 2.0
"""The range of a clean signal, about; for PSNR."""

# Place in seconds from R, width in seconds, height in millivolts.
_WAVES = {"P": (-0.17, 0.022, 0.13), "Q": (-0.028, 0.009, -0.14), "R": (0.0, 0.011, 1.1), "S": (0.03, 0.010, -0.26)}
_T = (0.26, 0.045, 0.30)
_ECTOPIC = {"R": (0.0, 0.032, 1.3), "S": (0.07, 0.03, -0.5), "T": (0.30, 0.06, -0.35)}


def traces(recorder: Recorder, count: int, *, seed: int) -> tuple[Array, Array]:
    """Returns noisy and clean traces, both of shape (count, 1, `LENGTH`)."""
    rng = np.random.default_rng([("old", "new").index(recorder), seed])
    clean = np.stack([_trace(rng, recorder) for _ in range(count)])
    noise = np.stack([_noise(rng, recorder) for _ in range(count)])
    return (clean + noise)[:, None].astype(np.float32), clean[:, None].astype(np.float32)


def _trace(rng: np.random.Generator, recorder: Recorder) -> NDArray[np.float64]:
    time = np.arange(LENGTH) / HERTZ
    mean = rng.uniform(0.75, 1.1) if recorder == "old" else rng.uniform(0.42, 0.75)
    person = {name: rng.uniform(0.8, 1.25, 2) for name in ("P", "Q", "R", "S", "T")}
    trace, at = np.zeros(LENGTH), -mean * rng.random()
    while at < time[-1] + 0.5:
        ectopic = recorder == "new" and rng.random() < 0.15
        waves = _ECTOPIC if ectopic else {**_WAVES, "T": _T}
        for name, (place, width, height) in waves.items():
            wide, high = person[name]
            # T comes later after long pauses.
            place = place * np.sqrt(mean) if name == "T" else place
            trace += height * high * np.exp(-((time - at - place) ** 2) / (2 * (width * wide) ** 2))
        at += mean * rng.normal(1, 0.04) * (0.7 if ectopic else 1)
    return trace


def _noise(rng: np.random.Generator, recorder: Recorder) -> NDArray[np.float64]:
    time = np.arange(LENGTH) / HERTZ
    if recorder == "old":
        drift = rng.uniform(0.05, 0.2) * np.sin(2 * np.pi * (rng.uniform(0.1, 0.4) * time + rng.random()))
        return drift + rng.normal(0, rng.uniform(0.05, 0.15), LENGTH)
    band = signal.butter(2, [20, 90], "bandpass", fs=HERTZ, output="sos")
    muscles = signal.sosfiltfilt(band, rng.normal(0, 1, 3 * LENGTH))[LENGTH : 2 * LENGTH]
    hum = rng.uniform(0.05, 0.15) * np.sin(2 * np.pi * (50 * time + rng.random()))
    return rng.uniform(0.1, 0.25) * muscles / muscles.std() + hum
