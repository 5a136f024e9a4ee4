"""All stages in one go."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Optional, Union

from tgdonnx.artifacts import BuildOptions
from tgdonnx.data import DataSource
from tgdonnx.files.model_file import ModelSource, StrPath
from tgdonnx.files.scratch import scratch_directory
from tgdonnx.finetuning import Noise2Noise, RunData, TrainOptions, Watch
from tgdonnx.keeping import kept
from tgdonnx.masking import MaskOptions
from tgdonnx.pipeline.asked import Asked, Results, asked_of
from tgdonnx.pipeline.checks import checked
from tgdonnx.pipeline.choosing import with_choice
from tgdonnx.pipeline.ending import finish
from tgdonnx.pipeline.making import MadeAnew, Making
from tgdonnx.pipeline.reports import FinetuneReport
from tgdonnx.pipeline.rounds import run_rounds
from tgdonnx.selection import Strategy


def finetune(
    model: ModelSource,
    data: Union[RunData, DataSource, Noise2Noise],
    output: StrPath,
    strategy: Optional[Strategy] = None,
    training: TrainOptions = TrainOptions(),  # noqa: B008  # frozen
    *,
    building: BuildOptions = BuildOptions(),  # noqa: B008  # frozen
    masking: MaskOptions = MaskOptions(),  # noqa: B008  # frozen
    rounds: int = 1,
    results: Results = Results(),  # noqa: B008  # frozen
    watch: Watch = Watch(),  # noqa: B008  # frozen
) -> FinetuneReport:
    """Masks, builds, trains, exports and verifies. The arguments are those of the stages.

    Args:
        model: the vendor's file, or a model in memory, whose bytes are written as ``STEM.vendor.onnx`` beside the tuned model.
        data: what to train on, and what to look at besides; a source alone is what to train on. In later rounds images to
            agree on are those of the model that the round starts from.
        output: the tuned model to write.
        strategy: which filters to retrain. If None that, and the mode, is chosen by the drop test on the data, see
            `tgdonnx.pipeline.choosing`, and said in a remark and the records; in mode ``adapter`` it is all layers.
        training: how to train.
        building: what training minimises, and how gradients are treated. Without a form it is ``thin`` where there is that
            form, which is not of gradient ``gate``.
        masking: what of the selected filters trains, and from where; the tolerance of a reinitialisation is of each round.
        rounds: how often to score, mask and train; each round starts from what the one before wrote.
        results: how far the tuned model goes, and what else to write.
        watch: who looks on, and what stops training; nothing is exported then.

    Raises:
        StoppedError: a signal stopped training.
        KeptError: what nobody foresaw, after training.
        TgdonnxError: as the stages do; after training, with the call that goes on.
    """
    asked = asked_of(
        model,
        data,
        output,
        strategy,
        training,
        building=building,
        masking=masking,
        rounds=rounds,
        results=results,
        watch=watch,
    )
    with scratch_directory() as work:
        return finetune_asked(asked, MadeAnew(), work)


def finetune_asked(asked: Asked, making: Making, work: Path) -> FinetuneReport:
    """Does what `finetune` does.

    Args:
        asked: its arguments.
        making: gives the masked model and the artifacts of the first round.
        work: an empty directory for what is not needed afterwards.

    Raises:
        TgdonnxError: as `finetune`.
    """
    job = checked(asked)
    job = replace(job, asked=with_choice(asked))
    with kept(job.place, signals=bool(asked.watch.stop_on)), ExitStack() as held:
        return finish(job, run_rounds(job, work, held, making))
