"""Patients: random torsos, and a pelvis with what no network was trained on.

A patient is three volumes on one grid of 4 mm voxels, slices first: activity (in units of a body-weight standardised uptake
value), attenuation (1/mm at 511 keV), and labels of the places that are evaluated. Bodies are built of ellipsoids whose
places, sizes and uptakes vary; uptake within an organ varies smoothly by some per cent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Volume = NDArray[np.float32]

VOXEL = 4.0  # mm
SIZE = 128  # voxels along x and y
SLICES = 24

WATER, LUNG, BONE = 0.0096, 0.0030, 0.0150  # 1/mm at 511 keV


@dataclass(frozen=True)
class Lesion:
    """A hot sphere: its centre (z, y, x) and diameter in mm, and its uptake."""

    centre: tuple[float, float, float]
    diameter: float
    uptake: float


@dataclass(frozen=True)
class Patient:
    """A body.

    Attributes:
        bmi: body-mass index, kg/m^2.
        activity: uptake, float32 of shape (slices, y, x).
        attenuation: 1/mm, of the same shape.
        organs: for names of organs where they are, bool, without lesions and well inside.
        lesions: hot spheres.
    """

    bmi: float
    activity: Volume = field(repr=False)
    attenuation: Volume = field(repr=False)
    organs: Mapping[str, NDArray[np.bool_]] = field(repr=False)
    lesions: tuple[Lesion, ...] = ()

    def lesion_mask(self, lesion: Lesion) -> NDArray[np.bool_]:
        """Where the lesion is: the voxels whose centre lies inside."""
        return _ball(lesion.centre, lesion.diameter / 2, self.activity.shape[0]) <= 1


class _Canvas:
    """Volumes that ellipsoids are painted into, later ones over earlier ones."""

    def __init__(self, rng: np.random.Generator, slices: int) -> None:
        self.rng = rng
        self.activity = np.zeros((slices, SIZE, SIZE), np.float32)
        self.attenuation = np.zeros_like(self.activity)
        self.organs: dict[str, NDArray[np.bool_]] = {}
        # Smooth relative variation of uptake, about 5 %, correlated over 2 cm.
        noise = ndimage.gaussian_filter(rng.standard_normal(self.activity.shape), 20 / VOXEL, mode="nearest")
        self.texture = (1 + 0.05 * noise / noise.std()).astype(np.float32)

    def paint(
        self,
        centre: tuple[float, float, float],
        axes: tuple[float, float, float],
        uptake: float,
        attenuation: float,
        *,
        name: str | None = None,
        turn: float = 0.0,
    ) -> None:
        """Paints an ellipsoid; centre and half axes (z, y, x) in mm, turned in the plane by an angle."""
        radius = _ellipsoid(centre, axes, turn, len(self.activity))
        # A voxel at the edge is part of both sides.
        share = np.clip((1 - radius) * min(axes[1:]) / VOXEL + 0.5, 0, 1).astype(np.float32)
        self.activity += share * (uptake * self.texture - self.activity)
        self.attenuation += share * (attenuation - self.attenuation)
        for mask in self.organs.values():
            mask &= radius > 1
        if name is not None:
            self.organs[name] = radius < 0.75


def torso(rng: np.random.Generator, bmi: float, *, slices: int = SLICES) -> Patient:
    """A piece of a body between heart and kidneys, with three to eight lesions."""
    canvas = _Canvas(rng, slices)
    vary = lambda value, share=0.1: float(value * rng.uniform(1 - share, 1 + share))  # noqa: E731
    half_width = vary(168 * np.sqrt(bmi / 25), 0.04)
    half_depth = half_width * rng.uniform(0.62, 0.70)
    fat = 8 + max(0.0, bmi - 20) * 1.6
    tall = 4000.0  # longer than the volume: a cylinder
    canvas.paint((0, 0, 0), (tall, half_depth, half_width), vary(0.35), WATER * 0.95)
    inner = (half_depth - fat, half_width - fat)
    canvas.paint((0, 0, 0), (tall, *inner), vary(0.9), WATER, name="muscle")
    depth, width = inner
    shift = rng.uniform(-25, 15)  # where along the body the volume begins
    canvas.paint((shift + 62, -0.05 * depth, 0.45 * width), (75, 0.72 * depth, 0.40 * width), vary(0.40), LUNG)
    canvas.paint((shift + 62, -0.05 * depth, -0.45 * width), (75, 0.72 * depth, 0.40 * width), vary(0.40), LUNG)
    heart = (shift + 55 + vary(8), -0.42 * depth, 0.18 * width)
    turn = rng.uniform(0.3, 0.8)
    canvas.paint(heart, (42, 32, 42), rng.uniform(1.5, 6.0), WATER, turn=turn)
    canvas.paint(heart, (30, 20, 29), vary(1.6), WATER, turn=turn)
    liver = (shift - 22 + rng.uniform(-8, 8), -0.10 * depth, -0.42 * width)
    canvas.paint(
        liver, (62, vary(0.72 * depth), vary(0.50 * width)), vary(2.3, 0.15), WATER * 1.04, name="liver", turn=-0.25
    )
    canvas.paint(
        (shift - 25, 0.25 * depth, 0.66 * width), (45, 42, 26), vary(1.9, 0.15), WATER, name="spleen", turn=0.4
    )
    canvas.paint((shift - 45, -0.35 * depth, 0.40 * width), (40, 30, 38), vary(1.2, 0.2), WATER, turn=0.3)
    for side in (-1, 1):
        kidney = (shift - 62 + rng.uniform(-6, 6), 0.45 * depth, side * vary(0.40 * width))
        canvas.paint(kidney, (52, 27, 22), vary(3.6, 0.25), WATER, turn=side * 0.5)
        canvas.paint(kidney, (30, 12, 9), vary(2.2, 0.2), WATER, turn=side * 0.5)
    canvas.paint((0, 0.62 * depth, 0), (tall, 19, 22), vary(1.7), BONE, name="spine")
    canvas.paint((0, 0.62 * depth + 26, 0), (tall, 8, 8), 0.6, WATER)
    canvas.paint((0, 0.42 * depth, 14), (tall, 11, 11), vary(1.6), WATER, name="aorta")
    lesions = _add_lesions(canvas, rng, int(rng.integers(3, 9)), inner)
    return Patient(bmi, canvas.activity, canvas.attenuation, canvas.organs, lesions)


def pelvis(rng: np.random.Generator, bmi: float = 26, *, slices: int = SLICES) -> Patient:
    """A pelvis with a hot bladder and a thin hot line like a catheter, which no torso has."""
    canvas = _Canvas(rng, slices)
    half_width = 175 * float(np.sqrt(bmi / 25))
    half_depth = half_width * 0.64
    fat = 8 + max(0.0, bmi - 20) * 1.6
    tall = 4000.0
    canvas.paint((0, 0, 0), (tall, half_depth, half_width), 0.35, WATER * 0.95)
    canvas.paint((0, 0, 0), (tall, half_depth - fat, half_width - fat), 0.9, WATER, name="muscle")
    for side in (-1, 1):
        canvas.paint((0, 10, side * 95), (60, 45, 16), 1.3, BONE, turn=side * 0.5)
        canvas.paint((-20, 15, side * 120), (40, 24, 24), 1.2, BONE)
    canvas.paint((20, 62, 0), (60, 18, 40), 1.5, BONE)
    canvas.paint((0, -20, 5), (30, 30, 38), 28.0, WATER, name="bladder")
    z, y, x = _grid(slices)
    line = np.hypot(y - (-20 - 0.9 * (z + 20)), x - 55 - 22 * np.sin((z + 48) / 30))
    share = np.clip((4.0 - line) / VOXEL + 0.5, 0, 1) * (z < 40)
    canvas.activity += (share * (14.0 - canvas.activity)).astype(np.float32)
    canvas.organs["line"] = share > 0.6
    return Patient(bmi, canvas.activity, canvas.attenuation, canvas.organs)


def _add_lesions(
    canvas: _Canvas, rng: np.random.Generator, count: int, inner: tuple[float, float]
) -> tuple[Lesion, ...]:
    """Paints hot spheres, apart from each other, inside the body; the first is in the liver."""
    lesions: list[Lesion] = []
    slices = len(canvas.activity)
    reach = (slices / 2 - 3) * VOXEL
    liver = np.argwhere(canvas.organs["liver"])
    for _ in range(200):
        if len(lesions) == count:
            break
        diameter = float(rng.uniform(10, 26))
        if not lesions and len(liver):
            at = liver[rng.integers(len(liver))]
            centre = tuple(float(v) for v in (at - (np.array(canvas.activity.shape) - 1) / 2) * VOXEL)
        else:
            angle, share = rng.uniform(0, 2 * np.pi), np.sqrt(rng.uniform(0, 0.7))
            centre = (
                float(rng.uniform(-reach, reach)),
                share * np.sin(angle) * inner[0],
                share * np.cos(angle) * inner[1],
            )
        assert len(centre) == 3
        if abs(centre[0]) > reach or any(np.linalg.norm(np.subtract(centre, other.centre)) < 40 for other in lesions):
            continue
        place = tuple(round(c / VOXEL + (n - 1) / 2) for c, n in zip(centre, canvas.activity.shape))
        uptake = float(canvas.activity[place] * rng.uniform(1.8, 4.5) + 0.5)
        lesions.append(Lesion(centre, diameter, uptake))
        texture, canvas.texture = canvas.texture, np.ones_like(canvas.texture)
        attenuation = float(canvas.attenuation[place])
        canvas.paint(centre, (diameter / 2,) * 3, uptake, max(attenuation, WATER * 0.9))
        canvas.texture = texture
    return tuple(lesions)


def _grid(slices: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates z, y, x of voxel centres in mm, from the middle of the volume."""
    z, y, x = (VOXEL * (np.arange(n) - (n - 1) / 2) for n in (slices, SIZE, SIZE))
    return z[:, None, None], y[None, :, None], x[None, None, :]


def _ellipsoid(
    centre: tuple[float, float, float], axes: tuple[float, float, float], turn: float, slices: int
) -> NDArray[np.float64]:
    """The distance from the centre in units of the ellipsoid's radius: 1 on its surface."""
    z, y, x = (grid - c for grid, c in zip(_grid(slices), centre))
    u, v = np.cos(turn) * y - np.sin(turn) * x, np.sin(turn) * y + np.cos(turn) * x
    return np.sqrt((z / axes[0]) ** 2 + (u / axes[1]) ** 2 + (v / axes[2]) ** 2)


def _ball(centre: tuple[float, float, float], radius: float, slices: int) -> NDArray[np.float64]:
    return _ellipsoid(centre, (radius,) * 3, 0.0, slices)
