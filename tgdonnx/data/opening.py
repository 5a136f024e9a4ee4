"""From a source to data sets for a training step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Literal, Optional

from tgdonnx.data.dataset import Dataset
from tgdonnx.data.finding import open_for
from tgdonnx.data.naming import resolved_map
from tgdonnx.data.options import DataOptions
from tgdonnx.data.problems import raise_first
from tgdonnx.data.recipe import Recipe
from tgdonnx.data.sources import DataSource, Source
from tgdonnx.data.splitting import split
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec

Purpose = Literal["evaluation", "training"]


def open_dataset(
    source: DataSource,
    inputs: Sequence[TensorSpec],
    options: DataOptions = DataOptions(),  # noqa: B008  # frozen
    *,
    ignored: Collection[str] = (),
) -> Dataset:
    """Opens a source as data for a training step.

    Args:
        source: see `tgdonnx.data.sources`.
        inputs: what a step is fed, in order; see `TensorSpec`.
        options: how it is read, matched and varied.
        ignored: names of arrays of which nobody needs to hear that nothing takes them.

    Raises:
        DataError: the source cannot be read, does not fit the inputs, or holds NaN or infinity.
        RuntimeMissingError: the library for a format is not installed.
    """
    if options.validation_split is not None:
        raise DataError("this data is not divided; leave out the validation split")
    options = _with_names_of_arrays(options, inputs)
    found = open_for(source, inputs, options)
    dataset = Dataset(found, inputs, replace(options, classes=found.classes), ignored=ignored)
    raise_first(list(dataset.problems))
    return dataset


def open_training(
    source: DataSource,
    inputs: Sequence[TensorSpec],
    options: DataOptions = DataOptions(),  # noqa: B008  # frozen
    *,
    validation: Optional[DataSource] = None,
    seed: int = 0,
) -> tuple[Dataset, Optional[Dataset]]:
    """Opens data to train on and data to validate with.

    What validates is scaled as what trains, is cut into tiles where that is cut into patches, and is not augmented.

    Args:
        source: see `tgdonnx.data.sources`.
        inputs: what a step is fed, in order; see `TensorSpec`.
        options: how it is read, matched, varied and divided.
        validation: another source to validate with; with neither that nor a split there is none.
        seed: of the split.

    Returns:
        Both. What is wrong with their classes is in their ``problems``, for the caller to raise with what else is wrong.

    Raises:
        DataError: as `open_dataset`; both a split and validation data are given; a part of a split would be empty.
        RuntimeMissingError: the library for a format is not installed.
    """
    if validation is not None and options.validation_split is not None:
        raise DataError("got both validation data and a validation split; expected one of them")
    options = _with_names_of_arrays(options, inputs)
    training, held_out = open_for(source, inputs, options), None
    options = replace(options, classes=training.classes)
    if options.validation_split is not None:
        training, held_out = split(training, options.validation_split, seed)
    elif validation is not None:
        held_out = open_for(validation, inputs, options)
    dataset = Dataset(training, inputs, options)
    return dataset, None if held_out is None else _open_like(dataset, held_out, inputs, "evaluation")


def open_like(
    dataset: Dataset,
    source: DataSource,
    inputs: Optional[Sequence[TensorSpec]] = None,
    *,
    purpose: Purpose = "evaluation",
    ignored: Collection[str] = (),
) -> Dataset:
    """Opens more data, which is read, cut and scaled as other data is.

    Args:
        dataset: the other data.
        source: see `tgdonnx.data.sources`.
        inputs: what of its inputs the source has, such as all but the target; all if None.
        purpose: ``evaluation``: tiles in place of random patches, no augmentation; ``training``: as the other data.
        ignored: names of arrays of which nobody needs to hear that nothing takes them.

    Raises:
        DataError: as `open_dataset`.
    """
    inputs = dataset.inputs if inputs is None else inputs
    opened = _open_like(dataset, open_for(source, inputs, dataset.options), inputs, purpose, ignored)
    raise_first(list(opened.problems))
    return opened


def _with_names_of_arrays(options: DataOptions, inputs: Sequence[TensorSpec]) -> DataOptions:
    """Returns options whose names are those of arrays, before some of the inputs are left out."""
    return replace(options, map=resolved_map(options.map, inputs))


def _open_like(
    dataset: Dataset, source: Source, inputs: Sequence[TensorSpec], purpose: Purpose, ignored: Collection[str] = ()
) -> Dataset:
    names = [spec.name for spec in inputs]
    options = dataset.options.for_inputs(names) if purpose == "training" else dataset.options.for_evaluation(names)
    return Dataset(source, inputs, options, scaling=dataset.scaling, ignored=ignored)


def open_recipe(recipe: Recipe) -> Dataset:
    """Opens data again in another process, without looking at it again.

    Raises:
        DataError: the files have changed.
    """
    source = open_for(recipe.path, recipe.inputs, recipe.options)
    groups = tuple(group for group in source.groups if group.name in recipe.groups)
    if tuple(group.name for group in groups) != recipe.groups:
        raise DataError(f"files of {recipe.path} have changed since it was opened")
    dataset = Dataset(
        replace(source, groups=groups),
        recipe.inputs,
        recipe.options,
        scaling=recipe.scaling,
        ignored=recipe.ignored,
        examined=True,
    )
    for limits in recipe.target_limits:
        dataset.require_target(limits)
    return dataset
