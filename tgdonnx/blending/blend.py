"""What `blend` does: show a finished run between what training started from and what it came to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Optional

from tgdonnx.artifacts import read_manifest
from tgdonnx.artifacts.locking import locked
from tgdonnx.artifacts.manifest import RUN
from tgdonnx.artifacts.opened import kept_checkpoint
from tgdonnx.blending.curve import BLENDS, evaluate_blends
from tgdonnx.data import Dataset, DataSource, Scaling, open_for
from tgdonnx.data.problems import beside, raise_first
from tgdonnx.errors import ArtifactsError
from tgdonnx.files.model_file import StrPath
from tgdonnx.finetuning.evaluation import evaluator
from tgdonnx.finetuning.opening import require_whole_batches
from tgdonnx.finetuning.reports import BlendCurve
from tgdonnx.finetuning.retention import open_retention
from tgdonnx.finetuning.run_record import read_record, write_blend
from tgdonnx.finetuning.session import Session
from tgdonnx.finetuning.training import training_device
from tgdonnx.runtime import CPU_NAME


def blend(
    directory: StrPath,
    validation: DataSource,
    retain: Optional[DataSource] = None,
    *,
    at: Sequence[float] = BLENDS,
    retain_limit: Optional[float] = None,
    device: str = CPU_NAME,
    on_remark: Callable[[str], None] = lambda _: None,
) -> BlendCurve:
    """Evaluates the run in a directory at blends from 0 to 1, and chooses one; `tgdonnx.export` writes it.

    Data is read, cut and scaled as the training data was, and measured by the metrics of the run. The curve is written into
    the record of the run, ``run.json``; nothing else in the directory changes.

    Args:
        directory: a trained artifacts directory.
        validation: data of the new task that was not trained on, with ``target``.
        retain: data of the vendor's own task; without ``target``, agreement with the vendor's outputs is measured.
        at: the blends; 0 and 1 are evaluated in any case.
        retain_limit: choose the lowest validation loss with the first metric of ``retain`` no worse than this from blend 0;
            without it, the smallest blend within one standard error of the lowest loss.
        device: where models run; see `tgdonnx.TrainOptions`.
        on_remark: called with what is done to the data, and what is worth knowing about it.

    Raises:
        ArtifactsError: the directory is not usable, or holds no run.
        DataError: data or an option does not fit.
        RuntimeMissingError: the runtime of its engine is not installed, or cannot use the device.
    """
    directory = Path(directory)
    manifest = read_manifest(directory)  # no lock is put into what is no artifacts directory
    where = training_device(manifest.runtime, device)
    with locked(directory):
        record = read_record(directory)
        if record is None:
            raise ArtifactsError(f"{directory} holds no record of a run ({RUN})", remedy="train it first")
        session = Session(directory, checkpoint=kept_checkpoint(directory, manifest), device=where)
        inputs, options = session.manifest.inputs, record.options
        reading = record.data.options.for_evaluation([spec.name for spec in inputs])
        scaling = Scaling(dict(record.data.scaling)) if record.data.scaling else None
        dataset = Dataset(open_for(validation, inputs, reading), inputs, reading, scaling=scaling)
        require_whole_batches(session.manifest, options.batch, dataset, "validation")
        with beside(dataset.problems):
            session.require_fit(dataset)
        raise_first(list(dataset.problems))
        data_range = options.metric_range if record.data_range is None else record.data_range
        evaluated = evaluator(session, dataset, options.batch, options.metrics, data_range)
        retention = None
        if retain is not None:
            retention = open_retention(
                session, dataset, retain, batch=options.batch, metrics=options.metrics, data_range=options.metric_range
            )
            require_whole_batches(session.manifest, options.batch, retention.dataset, "retention")
        for remark in dict.fromkeys((*dataset.remarks, *(retention.dataset.remarks if retention is not None else ()))):
            on_remark(remark)
        curve = evaluate_blends(session, evaluated, retention, blends=at, limit=retain_limit)
        write_blend(directory, curve)
        return curve
