"""What is asked of all stages in one go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Optional, Union

from tgdonnx.applying import ApplyOptions
from tgdonnx.artifacts import BuildOptions
from tgdonnx.blending.formula import require_blend
from tgdonnx.data import DataOptions, DataSource
from tgdonnx.data.array_likes import ArrayLike
from tgdonnx.files.model_file import ModelFile, ModelSource, StrPath, load_model
from tgdonnx.finetuning import Noise2Noise, RunData, TrainOptions, Watch
from tgdonnx.masking import MaskOptions
from tgdonnx.selection import Strategy


@dataclass(frozen=True)
class Results:
    """What `finetune` makes of a run: how far the tuned model goes, and what is written besides it.

    Attributes:
        report: an HTML page, with samples of the validation data, or else of the data.
        artifacts: the run directory, which holds the artifacts; ``STEM.run`` beside the tuned model if None. Those of several
            rounds are in ``round-1`` and so on.
        keep: whether ``STEM.run`` stays when all is done. A failure or signal after the first checkpoint leaves it in any case,
            and says so.
        resume: whether to go on with the run that an earlier call of the same model, data and options left there.
        apply: an image, volume or stack that the tuned model is applied to, as by `tgdonnx.apply`.
        applied: where to write the result of that; beside the tuned model, as ``STEM.applied`` and ``.nii`` or ``.nii.gz`` of a
            volume in NIfTI, ``.npy`` of another file, if None. Of a directory or pattern that is a directory.
        overwrite: whether all of these, and the tuned model, may exist.
        blend: how far the tuned model goes from what training started from (0) to what it came to (1), in every round; see
            `tgdonnx.export`. ``auto`` evaluates blends on the validation data and chooses one, see `tgdonnx.blending.curve`;
            then ``retain_limit`` of the training options does not stop the run, but is for the choice. None: 1; but ``auto``
            where nothing is selected either, and there is validation data.
        acceptance: a file of criteria that the tuned model has to meet on the validation data, see
            `tgdonnx.finetuning.acceptance`. The model is written either way.
        card: a record of the tuned model for machines, as JSON, or where its name ends in ``.cdx.json`` as CycloneDX 1.6.
    """

    report: Optional[StrPath] = None
    artifacts: Optional[StrPath] = None
    apply: Optional[Union[StrPath, ArrayLike]] = None
    applied: Optional[StrPath] = None
    overwrite: bool = False
    blend: Optional[Union[float, Literal["auto"]]] = None
    acceptance: Optional[StrPath] = None
    card: Optional[StrPath] = None
    keep: bool = True
    resume: bool = False

    def __post_init__(self) -> None:
        if self.blend is not None and self.blend != "auto":
            require_blend(self.blend)

    @property
    def overwriting(self) -> dict[str, bool]:
        """What a call takes so that it may overwrite too, if that is allowed."""
        return {"overwrite": True} if self.overwrite else {}


@dataclass(frozen=True)
class Asked:
    """The arguments of `finetune`, see there, with the vendor's file read."""

    file: ModelFile
    data: RunData
    output: Path
    strategy: Optional[Strategy]
    training: TrainOptions
    building: BuildOptions
    masking: MaskOptions
    rounds: int
    results: Results
    watch: Watch

    @property
    def blend(self) -> Union[float, Literal["auto"]]:
        """How far the tuned model goes."""
        return 1.0 if self.results.blend is None else self.results.blend

    @property
    def choice(self) -> tuple[str, ...]:
        """What is said where it was left to us what trains, once that is chosen; else nothing."""
        if self.masking.chosen is None:
            return ()
        blended = "; how far it goes is chosen on the validation data" if self.blend == "auto" else ""
        return (f"nothing is selected, so this trains: {self.masking.chosen}{blended}",)

    @property
    def holds_out(self) -> bool:
        """Whether there is, or will be, data that is not trained on."""
        return self.data.validated or isinstance(self.data.data, Noise2Noise)

    @property
    def prepared(self) -> bool:
        """Whether data is scaled or made ready."""
        reading = self.data.reading
        return bool(reading.scale is not None or reading.scales or reading.mean or reading.pictures.changes)

    @property
    def applying(self) -> ApplyOptions:
        """How the tuned model is applied."""
        shown = self.building.shown_output
        return ApplyOptions(outputs=() if shown is None else (shown,), device=self.training.device)

    def applied_reading(self, *, prepared: bool) -> DataOptions:
        """Returns how that is read which the tuned model is applied to: as the data.

        Args:
            prepared: whether it is said how it is prepared, by numbers where statistics are not known yet; else the record of
                the run will say it.
        """
        names = [value.name for value in self.file.proto.graph.input]
        reading = self.data.reading.for_inputs(names)
        read = DataOptions(map=reading.map, layout=reading.layout, layouts=reading.layouts, classes=reading.classes)
        if not prepared:
            return read
        scaled = reading.scale is not None or reading.mean
        return replace(
            read,
            scale=1.0 if scaled else None,
            scales=dict.fromkeys(reading.scales, 1.0),
            resize=reading.resize,
            resample=reading.resample,
            crop=reading.crop,
            colour=reading.colour,
        )


def asked_of(
    model: ModelSource,
    data: Union[RunData, DataSource, Noise2Noise],
    output: StrPath,
    strategy: Optional[Strategy],
    training: TrainOptions,
    *,
    building: BuildOptions,
    masking: MaskOptions,
    rounds: int,
    results: Results,
    watch: Watch = Watch(),  # noqa: B008  # frozen
) -> Asked:
    """Returns the arguments of `finetune`, with the vendor's file read; models run on the device of the training.

    Raises:
        ModelFileError: no usable model.
    """
    reinitialization = replace(masking.reinitialization, device=training.device)
    return Asked(
        load_model(model),
        RunData.of(data),
        Path(output),
        strategy,
        training,
        building,
        replace(masking, reinitialization=reinitialization),
        rounds,
        results,
        watch,
    )
