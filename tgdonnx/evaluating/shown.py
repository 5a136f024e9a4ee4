"""The data that a page shows, and on which both files are compared."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal, Optional, Union

from tgdonnx.artifacts import Manifest
from tgdonnx.data import DataOptions, Dataset, DataSource, Scaling, open_for
from tgdonnx.data.problems import raise_first
from tgdonnx.data.splitting import split
from tgdonnx.files.typed import retype
from tgdonnx.finetuning import Noise2Noise, RunData
from tgdonnx.finetuning.noise2noise import open_pair
from tgdonnx.finetuning.run_record import DataRecord
from tgdonnx.finetuning.same_data import key_of

Role = Literal["validation data", "training data", "data that was handed in", "held-out part of two noisy images"]


@dataclass(frozen=True)
class ShownData:
    """Data to show, and how it is read.

    Attributes:
        data: the data; of two noisy images the part that was held out; None if there is none.
        reading: how it is read; augmentation is ignored, and patches are where the model takes samples of any size.
        role: what it was for; what was trained on is shown, but says nothing about a model.
        seed: of a validation split, of which the part that was held out is shown.
    """

    data: Optional[Union[DataSource, Noise2Noise]]
    reading: DataOptions
    role: Role
    seed: int = 0

    @classmethod
    def of_run(cls, run: RunData, seed: int) -> ShownData:
        """Returns what is shown of the data of a run: what it validates with, or else what it trains on."""
        if isinstance(run.data, Noise2Noise) and run.validation is None:
            return cls(run.data, run.reading, "held-out part of two noisy images")
        assert run.validation is not None or not isinstance(run.data, Noise2Noise)
        source = run.data if run.validation is None else run.validation
        return cls(source, run.reading, "validation data" if run.validated else "training data", seed)

    @property
    def against_noise(self) -> bool:
        """Whether targets are noisy images, too."""
        return isinstance(self.data, Noise2Noise)

    @property
    def judges(self) -> bool:
        """Whether what files come to on it says how good they are."""
        return self.data is not None and self.role != "training data"

    def open(self, manifest: Manifest, scaling: Optional[Scaling], groups: Optional[Collection[int]] = None) -> Dataset:
        """Opens the data.

        Args:
            manifest: of the artifacts.
            scaling: how the training data was scaled.
            groups: the places of the groups of samples to take; all if None.

        Raises:
            DataError: the data does not fit.
        """
        assert self.data is not None
        inputs = manifest.inputs
        sizes = next((spec.shape[2:] for spec in inputs if spec.shape is not None), ())
        patch = self.reading.patch if sizes and None not in sizes else None
        reading = replace(self.reading, patch=patch, patches_per_epoch=None, augment=(), validation_split=None)
        if isinstance(self.data, Noise2Noise):
            _, source = open_pair(self.data, inputs, self.reading)
        else:
            source = open_for(self.data, inputs, reading)
        if self.reading.validation_split is not None:
            _, source = split(source, self.reading.validation_split, self.seed)
        if groups is not None:
            taken = tuple(group for place, group in enumerate(source.groups) if place in groups)
            source = replace(source, groups=taken, strata=())
        dataset = Dataset(source, inputs, replace(reading, classes=source.classes), scaling=scaling)
        raise_first(list(dataset.problems))
        return dataset


def new_groups(dataset: Dataset, trained: DataRecord) -> tuple[int, ...]:
    """Returns the places of the groups of samples none of whose inputs is read from a file that was trained on.

    Args:
        dataset: the data.
        trained: what was trained on; data in memory has no files there.
    """
    known = {key_of(file) for file in trained.files}
    files = retype(dataset.describe(), DataRecord).files
    seen = {file.path for file in files if key_of(file) in known}
    return tuple(place for place, paths in enumerate(dataset.input_files()) if not paths & seen)
