"""Heads: an anatomy that no network was trained on.

Grey and white matter are the MNI152 templates (ICBM 2009a), which nilearn brings along: nothing is downloaded. Their values are
the shares of a voxel, and grey matter takes up four times as much as white. The templates end at the surface of the brain. What
lies around it is made by its distance from the brain: 3 mm of fluid, 6 mm of bone, 5 mm of scalp; below, where a head has a
face and a neck, soft tissue that is as wide as the head above it.

Each head is turned, scaled and bent at random, and has hot and cold spheres at known places.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from phantom import BONE, SIZE, SLICES, VOXEL, WATER, Lesion, Patient, Volume
from scipy import ndimage
from scipy.spatial.transform import Rotation

GREY_TO_WHITE = 4.0
FLUID, SKULL, SCALP = 3.0, 9.0, 14.0  # mm from the brain, where each ends

_FINE = 2  # points along each axis of a voxel that are averaged
_BOX = 72  # voxels along y and x that hold any head
_ORIGIN = np.array([72.0, 134.0, 98.0])  # the template's voxel (z, y, x) of the anterior commissure; voxels are 1 mm
_OUTSIDE = 60.0  # mm from the brain: further than any head reaches


@lru_cache(maxsize=1)
def _template() -> tuple[Volume, Volume, Volume]:
    """Returns the shares of grey and of white matter, and the distance from the brain in mm, of shape (z, y, x), 1 mm."""
    from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template  # a second to import

    grey, white = (
        np.ascontiguousarray(load(resolution=1).get_fdata(dtype=np.float32).T)
        for load in (load_mni152_gm_template, load_mni152_wm_template)
    )
    coarse = (grey + white)[::2, ::2, ::2] > 0.5
    brain = ndimage.binary_closing(np.pad(coarse, 8), iterations=8)[8:-8, 8:-8, 8:-8]  # over sulci and ventricles
    distance = 2 * ndimage.distance_transform_edt(~(brain | coarse))
    fine = ndimage.zoom(distance.astype(np.float32), 2, order=1, grid_mode=True, mode="nearest")
    return grey, white, fine[tuple(slice(n) for n in grey.shape)]


def brain(rng: np.random.Generator, *, slices: int = SLICES) -> Patient:
    """A head from the cerebellum up, with two hot lesions and two cold ones.

    `organs` are `grey` and `white`: voxels of more than 97 and 99 % of either (cortex is thin), clear of the lesions. The
    body-mass index, 20 to 28, tells the scanner how much scatter there is.
    """
    bmi = float(rng.uniform(20, 28))
    points = _bent_points(rng, slices)
    grey, white, distance = (
        ndimage.map_coordinates(volume, points, order=1, mode="constant", cval=outside)
        for volume, outside in zip(_template(), (0.0, 0.0, _OUTSIDE))
    )
    scalp = distance < SCALP
    # Under the widest place of the head it does not narrow: there are a face and a neck, which the template lacks.
    head = np.maximum.accumulate(scalp[::-1], axis=0)[::-1]
    skull = (distance >= FLUID) & (distance < SKULL)
    fluid = (distance < FLUID).astype(np.float32)
    shares = {
        "grey": grey,
        "white": white,
        "fluid": np.clip(fluid - grey - white, 0, 1),
        "skull": skull * np.clip(1 - grey - white, 0, 1),
        "head": head.astype(np.float32),
    }
    grey, white, fluid, skull, head = (_to_grid(share, slices) for share in shares.values())
    tissue = np.clip(head - grey - white - fluid - skull, 0, 1)

    hot = float(rng.uniform(5.0, 9.0))
    texture = ndimage.gaussian_filter(rng.standard_normal(grey.shape), 20 / VOXEL, mode="nearest")
    activity = hot * (grey + white / GREY_TO_WHITE) * (1 + 0.05 * texture / texture.std())
    activity += 0.3 * fluid + 0.5 * skull + 0.7 * tissue
    attenuation = WATER * (grey + white + fluid + tissue) + BONE * skull

    organs = {"grey": grey > 0.97, "white": white > 0.99}
    activity, lesions = _with_lesions(activity, grey + white > 0.5, organs, hot, rng)
    return Patient(bmi, activity.astype(np.float32), attenuation.astype(np.float32), organs, lesions)


def _bent_points(rng: np.random.Generator, slices: int) -> NDArray[np.float64]:
    """Returns where in the template every point of the head lies, in its voxels, of shape (3, z, y, x).

    The volume begins 50 to 30 mm below the commissures. The turn is at most 10 degrees about z and 5 about the others; heads
    have 0.88 to 1.0 of the template's size, which is larger than most; they are bent by about 2 mm, smoothly over 3 cm.
    """
    shape = (slices, _BOX, _BOX)
    step = VOXEL / _FINE
    axes = [step * (np.arange(_FINE * n) - (_FINE * n - 1) / 2) for n in shape]
    axes[0] = axes[0] + slices * VOXEL / 2 - rng.uniform(30, 50)
    # Our y points to the back and our x to the left; the template's to the front and to the right.
    place = np.stack(np.meshgrid(axes[0], -axes[1] - 18.0, -axes[2], indexing="ij"))  # its middle is 18 mm behind
    turn = Rotation.from_euler("zyx", rng.uniform(-1, 1, 3) * (5, 5, 10), degrees=True).as_matrix()
    scale = rng.uniform(0.90, 0.98) * rng.uniform(0.98, 1.02, 3)
    middle = np.array([0.0, -18.0, 0.0])
    place = np.einsum("ij,jzyx->izyx", np.diag(1 / scale) @ turn, place - middle[:, None, None, None])
    for axis in range(3):
        bend = ndimage.gaussian_filter(rng.standard_normal(shape), 30 / VOXEL, mode="nearest")
        place[axis] += ndimage.zoom(2.0 * bend / bend.std(), _FINE, order=1, grid_mode=True, mode="nearest")
    return place + (middle + _ORIGIN)[:, None, None, None]


def _to_grid(share: NDArray[np.float32], slices: int) -> Volume:
    """Averages the points of each voxel, and puts the box into the middle of the grid."""
    mean = share.reshape(slices, _FINE, _BOX, _FINE, _BOX, _FINE).mean((1, 3, 5), dtype=np.float32)
    edge = (SIZE - _BOX) // 2
    return np.pad(mean, ((0, 0), (edge, edge), (edge, edge)))


def _with_lesions(
    activity: NDArray[np.float64],
    brain_mask: NDArray[np.bool_],
    organs: dict[str, NDArray[np.bool_]],
    hot: float,
    rng: np.random.Generator,
) -> tuple[NDArray[np.float64], tuple[Lesion, ...]]:
    """Returns the activity with four spheres within the brain, two hot and two cold; clears `organs` of them.

    They are 30 mm apart or more. Hot ones have 1.3 to 2.0 of the uptake of grey matter, cold ones a tenth to a quarter: white
    matter's or less.
    """
    lesions: list[Lesion] = []
    middle = (np.array(activity.shape) - 1) / 2
    inside = VOXEL * ndimage.distance_transform_edt(brain_mask)
    grid = np.indices(activity.shape) - middle[:, None, None, None]
    for index in range(4):
        diameter = float(rng.uniform(10, 20))
        apart = np.all(
            [np.linalg.norm(grid - _column(other.centre) / VOXEL, axis=0) > 30 / VOXEL for other in lesions], axis=0
        )
        # All of it is brain, soft edge included.
        places = np.argwhere((inside >= (diameter + VOXEL) / 2) & apart & (np.abs(grid[0]) < middle[0] - 2))
        if not len(places):
            continue
        at = (places[rng.integers(len(places))] - middle) * VOXEL
        uptake = hot * float(rng.uniform(1.3, 2.0) if index % 2 == 0 else rng.uniform(0.1, 0.25))
        distance = np.linalg.norm(VOXEL * grid - _column(tuple(at)), axis=0)
        share = np.clip((diameter / 2 - distance) / VOXEL + 0.5, 0, 1)
        activity = activity + share * (uptake - activity)
        for mask in organs.values():
            mask &= share == 0
        lesions.append(Lesion((float(at[0]), float(at[1]), float(at[2])), diameter, uptake))
    return activity, tuple(lesions)


def _column(point: tuple[float, ...]) -> NDArray[np.float64]:
    return np.array(point)[:, None, None, None]
