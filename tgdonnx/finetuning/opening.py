"""The data of a run, opened and held against the model; nothing is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Optional, Union

from tgdonnx.artifacts import vendor_targets
from tgdonnx.artifacts.manifest import Manifest
from tgdonnx.data import Dataset, DataSource, Prefetched, open_like, open_training
from tgdonnx.data.problems import beside, raise_first
from tgdonnx.errors import DataError
from tgdonnx.finetuning.agreement import Samples, with_agreement
from tgdonnx.finetuning.borders import border_of
from tgdonnx.finetuning.counting import require_labels
from tgdonnx.finetuning.data import RunData
from tgdonnx.finetuning.evaluation import Evaluator, evaluator
from tgdonnx.finetuning.measures import task_of
from tgdonnx.finetuning.metrics import LOSS, metric_of
from tgdonnx.finetuning.noise2noise import METRICS_OF_NOISE, Noise2Noise, open_pair, open_whole_pair
from tgdonnx.finetuning.options import DEFAULT_AGREE_SHARE, TrainOptions
from tgdonnx.finetuning.retention import Retention, open_retention
from tgdonnx.finetuning.session import Session
from tgdonnx.graphs.tensor_specs import count_inputs


def open_data(
    session: Session, run_data: RunData, options: TrainOptions
) -> tuple[Samples, Optional[Evaluator], Optional[Retention]]:
    """Opens the data of a run, as `train` describes it; nothing is written.

    Raises:
        DataError: data or an option does not fit.
        ArtifactsError: the vendor's model is needed and does not run, or its outputs cannot be targets.
    """
    inputs, reading, retain, agree = session.manifest.inputs, run_data.reading, run_data.retain, run_data.agree
    data, validation = run_data.data, run_data.validation
    require_consistent(run_data, options)
    against_noise = isinstance(data, Noise2Noise) and validation is None
    if isinstance(data, Noise2Noise):
        if validation is None:
            data, validation = open_pair(data, inputs, reading)
        else:
            data = open_whole_pair(data, inputs, reading)
    labelled, held_out = open_training(data, inputs, reading, validation=validation, seed=options.seed)
    problems = [*labelled.problems, *(() if held_out is None else held_out.problems)]
    with beside(problems):
        if reading.crop_target is True:
            reading = replace(reading, crop_target=border_of(session.manifest, labelled, session.predict))
            labelled, held_out = open_training(data, inputs, reading, validation=validation, seed=options.seed)
        _require_batch(session.manifest, options, labelled)
        if held_out is not None:
            require_whole_batches(session.manifest, options.batch, held_out, "validation")
        for dataset in (labelled, held_out):
            if dataset is not None:
                session.require_fit(dataset)
        require_labels(session, labelled)
    raise_first(problems)
    training = Prefetched(labelled) if agree is None else _agreeing(session, labelled, agree, options)
    batch, data_range = options.batch, options.metric_range
    validating = None
    if held_out is not None:
        all_values = all(task_of(head) == "values" for head in session.manifest.heads)
        metrics = options.metrics or (METRICS_OF_NOISE if against_noise and all_values else ())
        validating = evaluator(session, held_out, batch, metrics, data_range, also=options.best)
        best_of(options.best, validating)
        validating = replace(validating, trained_on=held_out.count_samples_of(labelled))
    retention = None
    if retain is not None:
        retention = open_retention(
            session, labelled, retain, batch=batch, metrics=options.metrics, data_range=data_range
        )
        require_whole_batches(session.manifest, batch, retention.dataset, "retention")
    return training, validating, retention


def require_consistent(run_data: RunData, options: TrainOptions) -> None:
    """Checks what can be known to be wrong of data and options without opening the data.

    Raises:
        DataError: an option needs data that is not named.
    """
    retain, agree = run_data.retain, run_data.agree
    validated = isinstance(run_data.data, Noise2Noise) or run_data.validated
    if options.patience is not None and not validated:
        raise DataError(
            "patience counts validations, and there is no validation data", remedy="pass it, or leave it out"
        )
    if options.best != LOSS and not validated:
        raise DataError(
            f"the best epoch by {options.best} is told by validation data, and there is none",
            remedy="pass it, or leave best out",
        )
    if options.retain_limit is not None and retain is None:
        raise DataError(
            "a limit of retention needs data of the vendor's own task", remedy="pass retain, or leave the limit out"
        )
    if (options.metrics or options.metric_range) and not validated and retain is None:
        raise DataError("metrics are taken of validation data or of data to retain", remedy="pass one of them")
    if options.agree_share is not None and agree is None:
        raise DataError("a share of images to agree on needs those images", remedy="pass agree, or leave the share out")


def best_of(best: str, validating: Optional[Evaluator]) -> str:
    """Returns the measure that says which epoch is best, as the log calls it.

    Raises:
        DataError: there is none of that name, or more than one output has it.
    """
    measured = (LOSS, *(validating.measured if validating is not None else ()))
    if best in measured:
        return best
    found = [name for name in measured if metric_of(name) == best]
    if len(found) == 1:
        return found[0]
    why = f"is measured of {len(found)} outputs" if found else "is not measured here"
    raise DataError(f"the best epoch by {best!r}: it {why}; expected best of {', '.join(found or measured)}")


def fitting_batch(manifest: Manifest, options: TrainOptions) -> TrainOptions:
    """Returns options with a batch of 1 where the model fixes that, and as many batches per step as a batch had samples."""
    if manifest.fixed_batch != 1 or options.batch == 1:
        return options
    return replace(options, batch=1, accumulate=options.batch * options.accumulate)


def batch_remarks(asked: TrainOptions, options: TrainOptions) -> tuple[str, ...]:
    """Returns what is said of a batch that is another than was asked for."""
    if asked.batch == options.batch:
        return ()
    return (
        f"the model fixes the batch size at {options.batch}: `batch={options.batch}, accumulate={options.accumulate}`, a step "
        f"is of {options.accumulate} samples as before",
    )


def class_axes(manifest: Manifest) -> tuple[str, ...]:
    """Returns what is said of outputs of which another axis than 1 counts classes."""
    return tuple(
        f"{head.output}: axis {head.class_axis} counts classes, for {head.why_class_axis}"
        for head in manifest.heads
        if head.class_axis not in (None, 1)
    )


def remarks_of(training: Samples, validating: Optional[Evaluator], retention: Optional[Retention]) -> tuple[str, ...]:
    """Returns what is worth knowing about the data of a run, everything once."""
    evaluated = [each.dataset for each in (validating, retention) if each is not None]
    said = (*training.remarks, *(remark for dataset in evaluated for remark in dataset.remarks))
    seen = "" if validating is None else validating.seen_in_training
    return (*([seen] if seen else ()), *dict.fromkeys(said))


def _agreeing(session: Session, labelled: Dataset, agree: DataSource, options: TrainOptions) -> Samples:
    """Mixes images to agree on into the training data; they are read, cut and turned as it is."""
    inputs, count = session.manifest.inputs, count_inputs(session.manifest.inputs)
    ignored = [name for spec in inputs[count:] for name in spec.array_names]
    images = open_like(labelled, agree, inputs[:count], purpose="training", ignored=ignored)
    share = DEFAULT_AGREE_SHARE if options.agree_share is None else options.agree_share
    fixed = session.manifest.fixed_batch
    vendor, shared = vendor_targets(session.artifacts, session.device), labelled.shared | images.shared
    images.require_batch(options.batch)
    return with_agreement(
        Prefetched(labelled), Prefetched(images), vendor, share=share, fixed_batch=fixed, shared=shared
    )


def _require_batch(manifest: Manifest, options: TrainOptions, dataset: Dataset) -> None:
    """Checks the batch size against the one that the model fixes, if it does.

    Raises:
        DataError: it is another, or there are fewer samples than that; or the data only goes one by one.
    """
    fixed, samples = manifest.fixed_batch, len(dataset)
    if fixed is None:
        dataset.require_batch(options.batch)
        return
    if samples < fixed:
        raise DataError(
            f"the model fixes the batch size at {fixed}; found only {samples} samples: add {fixed - samples}, or ask for the "
            "model exported with an open batch size"
        )
    if options.batch == fixed:
        dataset.require_batch(options.batch)
        return
    # As many samples per update of the weights as were asked for, or a few more.
    accumulate = max(1, -(-options.batch * options.accumulate // fixed))
    fitting = {"batch": fixed}
    if accumulate != 1 or options.accumulate != 1:
        fitting["accumulate"] = accumulate
    said = ", ".join(f"{name}={value}" for name, value in fitting.items())
    raise DataError(
        f"the model fixes the batch size at {fixed}; got a batch of {options.batch}: use `{said}`", options=fitting
    )


def require_whole_batches(manifest: Manifest, batch: int, dataset: Union[Dataset, Prefetched], role: str) -> None:
    """Checks that data to evaluate on goes into batches, whole ones where the model fixes their size.

    Raises:
        DataError: it does not.
    """
    dataset.require_batch(batch)
    fixed, found = manifest.fixed_batch, len(dataset)
    if fixed is not None and found % fixed:
        less = f"leave out {found % fixed}, or " if found > fixed else ""
        raise DataError(
            f"the model fixes the batch size at {fixed}; expected a multiple of it as {role} samples, found {found}: "
            f"{less}add {fixed - found % fixed}"
        )
