"""The data of a run: what is trained on, what is looked at besides, and how all of it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Optional, Union

from tgdonnx.data import DataOptions, DataSource, held
from tgdonnx.finetuning.noise2noise import Noise2Noise, paths_of
from tgdonnx.presenting import Presented


@dataclass(frozen=True, repr=False)
class RunData(Presented):
    """The data of a run.

    Attributes:
        data: arrays named like the model's inputs, and ``target``; see `tgdonnx.data`. Or two noisy images, of which a part
            is held out to validate with, if there is no ``validation``; ``patience`` is 5 then, if it is not said. Of this
            and all that follows, batches that are given one after the other are read at once, and kept.
        validation: the same that is not trained on; the epoch that does best on it is kept.
        retain: the same of the vendor's own task; without ``target``, agreement with the vendor's outputs is measured.
        agree: images whose targets are what the vendor's model gives for them; a ``target`` there is not read. They are mixed
            into the batches, see `tgdonnx.finetuning.agreement`; their share is an option of training.
        reading: how all of it is read, matched, varied and divided.

    Raises:
        DataError: batches that are given one after the other cannot be read; see `tgdonnx.data.batches`.
    """

    data: Union[DataSource, Noise2Noise]
    validation: Optional[DataSource] = None
    retain: Optional[DataSource] = None
    agree: Optional[DataSource] = None
    reading: DataOptions = field(default_factory=DataOptions)

    def __post_init__(self) -> None:
        # What may give its batches only once is opened several times, by a run and by whatever else is given the same object.
        for name in ("data", "validation", "retain", "agree"):
            source = getattr(self, name)
            if source is not None and not isinstance(source, Noise2Noise):
                object.__setattr__(self, name, held(source))

    @classmethod
    def of(cls, data: Union[RunData, DataSource, Noise2Noise]) -> RunData:
        """Returns the data of a run of which perhaps only that to train on was given."""
        return data if isinstance(data, RunData) else cls(data)

    @property
    def read(self) -> tuple[object, ...]:
        """What is read, so that nothing is written over it."""
        return (*paths_of(self.data), self.validation, self.retain, self.agree)

    @property
    def validated(self) -> bool:
        """Whether there is, or will be, data that is not trained on; two noisy images aside."""
        return self.validation is not None or self.reading.validation_split is not None

    @property
    def against_noise(self) -> bool:
        """Whether what validates is a part of two noisy images, so that its targets are noisy, too."""
        return isinstance(self.data, Noise2Noise) and self.validation is None

    @property
    def shown(self) -> Optional[DataSource]:
        """What a report shows samples of, if there is any."""
        if self.validation is not None:
            return self.validation
        return None if isinstance(self.data, Noise2Noise) else self.data
