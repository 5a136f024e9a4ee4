"""How data is read, matched and varied."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Optional, Union, get_args

from tgdonnx.data.class_names import check_classes
from tgdonnx.data.layouts import check_layout
from tgdonnx.data.pictures import Colour, Pictures, Resample
from tgdonnx.data.scaling import IMAGENET, Scale, check_normalisation, check_scale
from tgdonnx.errors import DataError

Augmentation = Literal["flips", "rotations"]
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)


@dataclass(frozen=True)
class DataOptions:
    """How data is read, matched and varied.

    Attributes:
        map: for names of arrays the input that they are for.
        layout: of all arrays that are images; see `tgdonnx.data.layouts`. None: that of the format; arrays of numpy and HDF5
            are as the model takes them.
        layouts: of single inputs.
        classes: names of what class indices count, in the model's order. None said: those that the data has, sorted.
        patch: size of random patches, in the first input's pixels, per axis of space, or one for all axes; None for whole
            samples.
        patches_per_epoch: None for as many as cover the data once.
        augment: ``flips`` along the axes of space, ``rotations`` by right angles in the plane of H and W.
        scale: of all float32 images, by one offset and divisor, which come from the first input that is one; see
            `tgdonnx.data.scaling`. None: the numbers as they are, which must then be of the dtype that the model takes.
        scales: of single inputs.
        mean: subtracted after scaling, of the images that ``scale`` is for but not of targets: a number per channel, or one.
        std: divided by then.
        resize: height and width that pictures are resized to, or one number for the shorter side; see `tgdonnx.data.pictures`.
        resample: how.
        crop: height and width of the centre that is taken, or one number for both.
        colour: whether pictures become ``grey`` or ``rgb``.
        crop_target: whether only the centre of targets is compared with the output, where that is smaller by a border, as that
            of valid convolutions is. A run finds how wide the border is, and records, in place of True, by how many pixels the
            target is larger, per axis of space.
        validation_split: the fraction of the files that is held out for validation.
    """

    map: Mapping[str, str] = field(default_factory=dict)
    layout: Optional[str] = None
    layouts: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    patch: Optional[tuple[int, ...]] = None
    patches_per_epoch: Optional[int] = None
    augment: tuple[Augmentation, ...] = ()
    scale: Optional[Scale] = None
    scales: Mapping[str, Scale] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: Optional[tuple[int, ...]] = None
    resample: Resample = "bilinear"
    crop: Optional[tuple[int, ...]] = None
    colour: Optional[Colour] = None
    crop_target: Union[bool, tuple[int, ...]] = False
    validation_split: Optional[float] = None

    @property
    def pictures(self) -> Pictures:
        """How pictures are made ready."""
        return Pictures(self.resize, self.resample, self.crop, self.colour)

    def for_evaluation(self, names: Collection[str]) -> DataOptions:
        """Returns how the same data is read to evaluate on some of its inputs: in tiles, not transformed, not divided."""
        return replace(self.for_inputs(names), patches_per_epoch=None, augment=(), validation_split=None)

    def for_inputs(self, names: Collection[str]) -> DataOptions:
        """Returns the same without what is for other inputs."""
        return replace(
            self,
            map={array: name for array, name in self.map.items() if name in names},
            layouts={name: layout for name, layout in self.layouts.items() if name in names},
            scales={name: scale for name, scale in self.scales.items() if name in names},
        )

    def __post_init__(self) -> None:
        check_classes(self.classes)
        check_normalisation(self.mean, self.std)
        if self.mean and IMAGENET in (self.scale, *self.scales.values()):
            raise DataError("the scale imagenet has a mean and std of its own", remedy="leave out `mean` and `std`")
        Pictures(self.resize, self.resample, self.crop, self.colour)  # checks them
        for layout in (self.layout, *self.layouts.values()):
            if layout is not None:
                check_layout(layout)
        for scale in (self.scale, *self.scales.values()):
            if scale is not None:
                check_scale(scale)
        if self.patch is not None and not (1 <= len(self.patch) <= 3 and min(self.patch) >= 1):
            raise DataError(f"expected a patch such as 64x64, got {'x'.join(map(str, self.patch))}")
        if isinstance(self.crop_target, tuple) and not (self.crop_target and min(self.crop_target) >= 0):
            raise DataError(f"expected by how many pixels targets are larger, such as (8, 8); got {self.crop_target}")
        if self.patches_per_epoch is not None and self.patch is None:
            raise DataError("patches per epoch without a patch", remedy="give its size too, such as `patch=(64, 64)`")
        if self.patches_per_epoch is not None and self.patches_per_epoch < 1:
            raise DataError(f"expected patches per epoch >= 1, got {self.patches_per_epoch}")
        for kind in self.augment:
            if kind not in AUGMENTATIONS:
                raise DataError(f"expected augmentation of {', '.join(AUGMENTATIONS)}, got {kind!r}")
        if self.validation_split is not None and not 0 < self.validation_split < 1:
            raise DataError(f"expected a validation split between 0 and 1, got {self.validation_split:g}")
