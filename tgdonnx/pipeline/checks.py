"""What can be known to be wrong before anything is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from tgdonnx.applying import require_applicable
from tgdonnx.applying.placing import APPLIED
from tgdonnx.artifacts import read_manifest
from tgdonnx.artifacts.manifest import MANIFEST
from tgdonnx.calls import call
from tgdonnx.data.array_likes import ArrayLike
from tgdonnx.engines import ENGINES
from tgdonnx.errors import DataError, OutputError, SelectionError
from tgdonnx.files.model_file import StrPath
from tgdonnx.files.model_writing import require_data_writable
from tgdonnx.files.outputs import Kind, Output, optional, require_no_link, require_outputs
from tgdonnx.finetuning import why_over
from tgdonnx.finetuning.acceptance import Acceptance, read_acceptance
from tgdonnx.finetuning.run_record import read_record
from tgdonnx.finetuning.training import training_device
from tgdonnx.keeping import Place, open_place, run_of
from tgdonnx.pipeline.asked import Asked
from tgdonnx.reporting.card_file import require_card
from tgdonnx.reporting.page import require_page
from tgdonnx.runtime import Device


@dataclass(frozen=True)
class Job:
    """What was asked for, of which nothing is known to be wrong.

    Attributes:
        asked: the arguments.
        device: where models run.
        place: where artifacts go.
        page: the page to write; None if none is asked for.
        applied: where the result of applying the tuned model goes; None if it is not applied.
        vendor: where the vendor's file goes, if that was in memory; None if it lies on disk.
        acceptance: criteria that the tuned model has to meet; None if there are none.
        card: the record of the tuned model to write; None if none is asked for.
    """

    asked: Asked
    device: Device
    place: Place
    page: Optional[Path]
    applied: Optional[Path]
    vendor: Optional[Path]
    acceptance: Optional[Acceptance]
    card: Optional[Path]

    @property
    def looks_at_data(self) -> bool:
        """Whether the tuned model is compared with the vendor's on data at the end."""
        return any(each is not None for each in (self.page, self.acceptance, self.card))

    @property
    def others(self) -> tuple[Path, ...]:
        """What is written besides the tuned model."""
        return tuple(each for each in (self.applied, self.page, self.card) if each is not None)

    def same_call(self, others: Sequence[Path], *, written: bool = False) -> str:
        """Returns what is said of the same call, which goes on with all that was asked for.

        Args:
            others: what it will write besides the tuned model.
            written: whether the tuned model is there by then.
        """
        replacing = ", overwrite=True" if written and not self.asked.results.overwrite else ""
        writes = f", which also writes {', '.join(map(str, others))}" if others else ""
        return f"; or with the same call and `resume=True{replacing}`{writes}"

    def go_on_with_export(self, directory: Path, blend: float, *, overwrite: bool = False) -> None:
        """Notes the export that writes the tuned model, should something fail from now on.

        Args:
            directory: the artifacts that it is of.
            blend: how far it goes.
            overwrite: whether the tuned model is there by then.
        """
        overwriting = {"overwrite": True} if overwrite else self.asked.results.overwriting
        blended = {} if blend == 1 else {"blend": blend}
        options = {"output": self.asked.output, **blended, **overwriting}
        and_then = self.same_call(self.others, written=overwrite) if self.others else ""
        self.place.go_on_with(call("export", directory, options=options), and_then)


def checked(asked: Asked) -> Job:
    """Checks what was asked for, with the model on one tile of the image that it will be applied to.

    Raises:
        TgdonnxError: as the stages do.
    """
    results, overwrite = asked.results, asked.results.overwrite
    device = training_device(ENGINES[asked.building.engine], asked.training.device)
    applied, vendor = _applied(asked), _vendor(asked)
    _require_unfinished(asked)
    _require_outputs(asked, applied, vendor)
    acceptance = None if results.acceptance is None else read_acceptance(Path(results.acceptance))
    card = None if results.card is None else require_card(results.card, overwrite=overwrite)
    page = None if results.report is None else require_page(results.report, overwrite=overwrite)
    _require_blend_possible(asked)
    if asked.rounds < 1:
        raise SelectionError(f"expected at least 1 round, got {asked.rounds}")
    if results.apply is not None and applied is not None:
        require_applicable(
            asked.file,
            results.apply,
            applied,
            reading=asked.applied_reading(prepared=asked.prepared),
            options=asked.applying,
            overwrite=overwrite,
        )
    elif applied is not None:
        raise DataError(
            f"there is nothing to apply the tuned model to, so {applied} cannot be written", remedy="name the data"
        )
    place = open_place(
        asked.output,
        results.artifacts,
        rounds=asked.rounds,
        lasting=results.keep,
        resumed=results.resume,
        overwrite=overwrite,
    )
    return Job(asked, device, place, page, applied, vendor, acceptance, card)


def _require_unfinished(asked: Asked) -> None:
    """Checks that a run that is gone on with has not written its model already, where that may not be replaced.

    Raises:
        OutputError: it has.
    """
    results, output = asked.results, asked.output
    if not results.resume or results.overwrite or not output.is_file():
        return
    root = run_of(output) if results.artifacts is None else Path(results.artifacts)
    last = root / f"round-{asked.rounds}" if asked.rounds > 1 else root
    if not (last / MANIFEST).is_file():
        return
    over, record = why_over(last), read_record(last)
    checkpoint = last / read_manifest(last).runtime.checkpoint
    # A model that is older than the checkpoint is not what the run came to.
    if over is None or record is None or output.stat().st_mtime < checkpoint.stat().st_mtime:
        return
    if record.options.schedule != "constant":
        more = f"its learning rate ends with it (schedule {record.options.schedule}), so for more leave `resume` out"
    else:
        more = (
            "to go on, ask for more `epochs` or `steps` than that and pass `overwrite=True`, which replaces the model"
        )
    raise OutputError(
        f"the run in {last} is finished ({over.reason}), and its model is there: {output}",
        remedy=f"{more}; to start anew, choose another output",
    )


def _require_outputs(asked: Asked, applied: Optional[Path], vendor: Optional[Path]) -> None:
    results, output = asked.results, asked.output
    run = Path(results.artifacts) if results.artifacts is not None else run_of(output)
    require_outputs(
        [
            Output(output, Kind.MODEL),
            *(() if vendor is None or _holds(vendor, asked.file.data) else optional(vendor)),
            *optional(results.report),
            *optional(results.card),
            *(optional(applied, Kind.RESULTS) if results.apply is not None else ()),
            Output(run, Kind.ARTIFACTS),
            *optional(asked.watch.tensorboard, Kind.ADDED_TO),
        ],
        [asked.file, *asked.data.read, asked.masking.reinitialization.calibrate, results.apply, results.acceptance],
        overwrite=results.overwrite,
    )
    require_data_writable(output, asked.file, overwrite=results.overwrite)


def _require_blend_possible(asked: Asked) -> None:
    if asked.blend != "auto":
        return
    if not asked.holds_out:
        raise DataError(
            "blend auto chooses on validation data, and there is none", remedy="pass it, or say which blend"
        )
    if asked.training.retain_limit is not None and asked.data.retain is None:
        raise DataError(
            "a limit of retention needs data of the vendor's own task", remedy="pass retain, or leave the limit out"
        )


def _applied(asked: Asked) -> Optional[Path]:
    """Returns where the result of applying goes: where it was said, or else beside the tuned model."""
    image, applied = asked.results.apply, asked.results.applied
    if applied is not None:
        return Path(applied)
    if image is None:
        return None
    place = asked.output.with_name(f"{asked.output.stem}{APPLIED}{_suffix(image)}")
    if place.is_dir():
        require_no_link(place)
    return place


def _vendor(asked: Asked) -> Optional[Path]:
    """Returns where the vendor's file goes if it was in memory: beside the tuned model, which is proved against it."""
    return asked.output.with_name(f"{asked.output.stem}.vendor.onnx") if asked.file.in_memory else None


def _holds(path: Path, data: bytes) -> bool:
    """Whether a file is there and holds what would be written, as from an earlier run on the same model."""
    return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data


def _suffix(image: Union[StrPath, ArrayLike]) -> str:
    if not isinstance(image, (str, os.PathLike)):
        return ".npy"
    if Path(image).is_dir() or not Path(image).exists():  # or a pattern: what may be many goes into a directory
        return ""
    name = os.fspath(image).lower()
    return next((suffix for suffix in (".nii.gz", ".nii") if name.endswith(suffix)), ".npy")
