"""From a source to data sets for a training step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Optional

from tgdonnx.artifacts.manifest import TensorSpec
from tgdonnx.data.dataset import Dataset
from tgdonnx.data.options import DataOptions
from tgdonnx.data.reading import Recipe
from tgdonnx.data.sources import DataSource, Source, open_source
from tgdonnx.data.splitting import split
from tgdonnx.errors import DataError


def open_dataset(
    source: DataSource,
    inputs: Sequence[TensorSpec],
    options: DataOptions = DataOptions(),  # noqa: B008  # frozen
) -> Dataset:
    """Opens a source as data for a training step.

    Args:
        source: see `tgdonnx.data.sources`.
        inputs: what a step is fed, in order; the last is the target.
        options: how it is read, matched and varied.

    Raises:
        DataError: the source cannot be read, does not fit the inputs, or holds NaN or infinity.
        RuntimeMissingError: the library for a format is not installed.
    """
    if options.validation_split is not None:
        raise DataError("this data is not divided; leave out the validation split")
    return Dataset(open_source(source), inputs, options)


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
        inputs: what a step is fed, in order; the last is the target.
        options: how it is read, matched, varied and divided.
        validation: another source to validate with; with neither that nor a split there is none.
        seed: of the split.

    Raises:
        DataError: as `open_dataset`; both a split and validation data are given; a part of a split would be empty.
        RuntimeMissingError: the library for a format is not installed.
    """
    if validation is not None and options.validation_split is not None:
        raise DataError("got both validation data and a validation split; expected one of them")
    training, held_out = open_source(source), None
    if options.validation_split is not None:
        training, held_out = split(training, options.validation_split, seed)
        said = f"held out for validation: {', '.join(case.name for case in held_out.cases)}"
        held_out = replace(held_out, remarks=(said,))
    elif validation is not None:
        held_out = open_source(validation)
    dataset = Dataset(training, inputs, options)
    return dataset, None if held_out is None else _evaluated_like(dataset, held_out, inputs)


def open_like(dataset: Dataset, source: DataSource, inputs: Optional[Sequence[TensorSpec]] = None) -> Dataset:
    """Opens more data to evaluate on: read, cut into tiles and scaled as other data is.

    Args:
        dataset: the other data.
        source: see `tgdonnx.data.sources`.
        inputs: what of its inputs the source has, such as all but the target; all if None.

    Raises:
        DataError: as `open_dataset`.
    """
    return _evaluated_like(dataset, open_source(source), dataset.inputs if inputs is None else inputs)


def _evaluated_like(dataset: Dataset, source: Source, inputs: Sequence[TensorSpec]) -> Dataset:
    names = {spec.name for spec in inputs}
    options = replace(
        dataset.options,
        renamed={array: name for array, name in dataset.options.renamed.items() if name in names},
        layouts={name: layout for name, layout in dataset.options.layouts.items() if name in names},
        scales={name: scale for name, scale in dataset.options.scales.items() if name in names},
        patches_per_epoch=None,
        augmentation=(),
        validation_split=None,
    )
    return Dataset(source, inputs, options, scaling=dataset.scaling)


def open_recipe(recipe: Recipe) -> Dataset:
    """Opens data again in another process, without looking at it again.

    Raises:
        DataError: the files have changed.
    """
    source = open_source(recipe.path)
    cases = tuple(case for case in source.cases if case.name in recipe.cases)
    if tuple(case.name for case in cases) != recipe.cases:
        raise DataError(f"files of {recipe.path} have changed since it was opened")
    dataset = Dataset(replace(source, cases=cases), recipe.inputs, recipe.options, scaling=recipe.scaling, settled=True)
    if recipe.target_limits is not None:
        dataset.require_target(*recipe.target_limits)
    return dataset
