"""Arrays of a source matched to what a training step is fed: names, dtypes, shapes, numbers of samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Optional

import numpy as np

from tgdonnx.data.hints import mismatch, scale_hint, shape_hint, shape_text
from tgdonnx.data.labels import as_labels
from tgdonnx.data.layouts import SPACE, View, fits, layout_without, model_layout, view
from tgdonnx.data.lazy_arrays import Array, ArrayGroup, LazyArray, Region
from tgdonnx.data.levels import level_view
from tgdonnx.data.naming import named_arrays, naming_problems, spare_arrays
from tgdonnx.data.options import DataOptions
from tgdonnx.data.pictures import prepared
from tgdonnx.data.problems import raise_first
from tgdonnx.data.scaling import Scale
from tgdonnx.data.single import takes_one_label, target_of
from tgdonnx.data.sources import Source
from tgdonnx.data.weights import as_weights
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec, shared_inputs


@dataclass(frozen=True)
class SampleSet:
    """A group as samples of a training step.

    Attributes:
        name: of the group.
        views: one per input, in order, of the same number of samples, but for what is one value for all.
        unused: arrays that nothing takes, by their names.
        columns: what a table says of it besides; see `ArrayGroup`.
    """

    name: str
    views: tuple[View, ...]
    unused: Mapping[str, LazyArray] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Samples."""
        return next((view.count for view in self.views if view.counts_samples), 1)


def match(
    source: Source, inputs: Sequence[TensorSpec], options: DataOptions, *, ignored: Collection[str] = ()
) -> tuple[SampleSet, ...]:
    """Matches every group of a source to the inputs of a training step.

    Args:
        source: the groups.
        inputs: what a step is fed.
        options: how the data is read and varied.
        ignored: names of arrays of which nobody needs to hear that nothing takes them.

    Raises:
        DataError: an array is missing; its dtype, rank or shape does not fit; the arrays of a group differ in the number of
            samples or in how they lie in space, or are empty. What else is wrong with a group is in the error's ``also``.
    """
    names = [spec.name for spec in inputs]
    for what, given in (("layouts", options.layouts), ("scales", options.scales)):
        for name in given:
            if name not in names:
                raise DataError(f"`{what}` names {name!r}, which the model does not take; expected {', '.join(names)}")
    sets = tuple(
        _match_group(group, source.where, inputs, options, ignored, len(source.groups) > 1) for group in source.groups
    )
    if not sum(sample_set.count for sample_set in sets):
        raise DataError(f"{source.where} holds no sample")
    return sets


def scales_of(inputs: Sequence[TensorSpec], options: DataOptions) -> dict[str, Scale]:
    """Returns how each input is scaled that is."""
    found: dict[str, Scale] = {}
    shared = shared_inputs(inputs)
    general = 1.0 if options.scale is None and options.mean else options.scale
    for place, spec in enumerate(inputs):
        layout = model_layout(spec, options.layouts.get(spec.name, options.layout))
        if spec.name in options.scales:
            found[spec.name] = options.scales[spec.name]
        elif place in shared or spec.role == "weights":
            continue
        elif general is not None and spec.dtype == "float32" and (spec.shape is None or layout is not None):
            found[spec.name] = general
    return found


def _match_group(
    group: ArrayGroup,
    where: str,
    inputs: Sequence[TensorSpec],
    options: DataOptions,
    ignored: Collection[str],
    several: bool,
) -> SampleSet:
    if several:
        where = (
            next(iter({stored.place for stored in group.arrays.values()}), where) if _in_one_file(group) else group.name
        )
    arrays = named_arrays(group.arrays, inputs, options, where, ignored)
    problems = list(naming_problems(arrays, inputs, where, ignored))
    present = [spec for spec in inputs if spec.name in arrays]
    views, found = _views([(spec, arrays[spec.name]) for spec in present], options, scales_of(inputs, options))
    problems += found
    del found
    raise_first(problems)
    lengths = {spec.name: made.count for spec, made in zip(inputs, views) if made.counts_samples}
    if len(set(lengths.values())) > 1:
        raise DataError(f"the arrays of {where} differ in the number of samples: {lengths}")
    for spec, made in zip(inputs, views):
        if 0 in made.shape:
            raise DataError(
                f"{made.stored.place}: {spec.name!r} has samples of the shape {shape_text(made.shape)}, with nothing in them"
            )
    orientations = {made.stored.orientation for made in views} - {None}
    if len(orientations) > 1:
        said = "; ".join(f"{spec.name} {made.stored.orientation}" for spec, made in zip(inputs, views))
        raise DataError(
            f"the volumes of {where} lie differently in space ({said})", remedy="bring them to one orientation first"
        )
    unused = {name: arrays[name] for name in spare_arrays(arrays, inputs, ignored)}
    return SampleSet(group.name, views, unused, group.columns)


def _in_one_file(group: ArrayGroup) -> bool:
    return len({stored.place for stored in group.arrays.values()}) == 1


def _check_dtype(spec: TensorSpec, stored: LazyArray, scale: Optional[Scale]) -> None:
    if stored.dtype.kind in "US":
        expected = f"expected {spec.name!r} to be {spec.dtype} {shape_text(spec.shape)}"
        raise DataError(f"{stored.place}: {expected}, found text {shape_text(stored.shape)}, not numbers")
    if scale is None:
        if str(stored.dtype) != spec.dtype:
            fitting, hint = scale_hint(spec, stored)
            raise DataError(mismatch(spec, stored) + hint, options=fitting)
    elif stored.dtype.kind not in "biuf":
        raise DataError(f"{mismatch(spec, stored)}; these are no numbers to scale")
    elif spec.dtype != "float32" and not (scale == 1 and np.can_cast(stored.dtype, spec.dtype)):
        raise DataError(
            f"{mismatch(spec, stored)}; only float32 inputs can be scaled, and others, with `scales={{{spec.name!r}: 1}}`, be "
            "taken as they are where no value can change"
        )


def _views(
    pairs: Sequence[tuple[TensorSpec, LazyArray]], options: DataOptions, scales: Mapping[str, Scale]
) -> tuple[tuple[View, ...], list[DataError]]:
    """Returns every array as samples of its input, or as one value for all, and what is wrong with others."""
    shared = shared_inputs([spec for spec, _ in pairs])
    classified = takes_one_label(target_of([spec for spec, _ in pairs]))
    made: dict[int, View] = {}
    problems: list[DataError] = []
    for place, (spec, stored) in enumerate(pairs):
        if place not in shared and (stored.shape or not _takes_one(spec)):
            try:
                count = next((view.count for view in made.values()), None)
                made[place] = _sampled(spec, stored, options, scales.get(spec.name), count, classified=classified)
            except DataError as error:
                problems.append(error.with_traceback(None))
    if problems:
        return (), problems
    count = max((view.count for view in made.values()), default=1)
    for place, (spec, stored) in enumerate(pairs):
        if place in made and not (made[place].count == 1 < count and _takes_one(spec)):
            continue
        try:
            made[place] = _level(spec, stored, scales.get(spec.name), count)
        except DataError as error:
            problems.append(error.with_traceback(None))
    return (() if problems else tuple(made[place] for place in range(len(pairs)))), problems


def _sampled(
    spec: TensorSpec,
    stored: LazyArray,
    options: DataOptions,
    scale: Optional[Scale],
    count: Optional[int],
    *,
    classified: bool,
) -> View:
    """Returns an array as samples.

    Args:
        spec: the input.
        stored: the array.
        options: how it is read.
        scale: how it is scaled; None if it is not.
        count: how many samples the arrays before it have, if there are any.
        classified: whether a sample has one label.
    """
    stored = prepared(stored, spec, options.pictures)
    stored, said = as_labels(as_weights(stored, spec), spec, _said(spec, options))
    if scale is None and stored.dtype == np.float16 and spec.dtype == "float32":
        stored = _widened(stored, spec)
    _check_dtype(spec, stored, scale)
    made = _view(spec, stored, said, options, count)
    if not fits(made, _free(spec, made.layout, options)):
        options_of, hint = shape_hint(spec, stored, made, classified=classified)
        raise DataError(mismatch(spec, stored, made) + hint, options=options_of)
    return made


def _widened(stored: LazyArray, spec: TensorSpec) -> LazyArray:
    """Returns float16, as models of half precision take it, in float32, which holds every value of it."""

    def read(region: Region) -> Array:
        return stored.read(region).astype(np.float32)

    remark = f"{spec.name}: float16 to float32, every value as it is"
    return replace(stored, dtype=np.dtype(np.float32), read=read, remarks=(*stored.remarks, remark))


def _level(spec: TensorSpec, stored: LazyArray, scale: Optional[Scale], count: int) -> View:
    level = level_view(stored, spec, count)
    if level is None:
        raise DataError(
            f"{mismatch(spec, stored)}; the model takes one value of it for a whole batch: give that, or one for "
            f"each of the {count} samples"
        )
    _require_number(spec, stored, scale)
    return level


def _takes_one(spec: TensorSpec) -> bool:
    """Whether an input, no image, has one sample at a time, so that one value of it may be meant for all of them."""
    is_image = model_layout(spec, None) is not None
    return spec.role == "input" and spec.shape is not None and spec.shape[:1] == (1,) and not is_image


def _require_number(spec: TensorSpec, stored: LazyArray, scale: Optional[Scale]) -> None:
    """Checks the dtype of single values. They are few, and usually plain Python numbers: what can hold them will do."""
    kinds = "biuf" if np.dtype(spec.dtype).kind == "f" else "biu"
    if stored.dtype.kind not in kinds:
        _check_dtype(spec, stored, scale)


def _said(spec: TensorSpec, options: DataOptions) -> Optional[str]:
    """Returns the layout that the user says of an input's array."""
    said = options.layouts.get(spec.name)
    if said is None and (spec.shape is None or model_layout(spec, None) is not None):
        return options.layout
    return said


def _view(spec: TensorSpec, stored: LazyArray, said: Optional[str], options: DataOptions, count: Optional[int]) -> View:
    said = said or layout_without(stored, _free(spec, model_layout(spec, None), options), count)
    return view(stored, spec, said, f"{stored.place}: {spec.name!r}")


def _free(spec: TensorSpec, layout: Optional[str], options: DataOptions) -> TensorSpec:
    """Returns the input without its sizes in space where samples need not have them, since they will be cut."""
    cut = options.patch is not None or (options.crop_target and spec.role != "input")
    if not cut or spec.shape is None or layout is None or len(spec.shape) != len(layout):
        return spec
    return replace(spec, shape=tuple(None if x in SPACE else size for x, size in zip(layout, spec.shape)))


def differing_sizes(sets: Sequence[SampleSet], inputs: Sequence[TensorSpec]) -> Optional[DataError]:
    """Returns what is to be said where groups differ in the size of samples, which then cannot share a batch; None if not."""
    for position, spec in enumerate(inputs):
        first = sets[0].views[position]
        for sample_set in sets[1:]:
            other = sample_set.views[position]
            if other.shape != first.shape:
                resize = ""
                if takes_one_label(target_of(inputs)) and first.stored.layout in ("HW", "HWC"):
                    resize = " (pictures with `resize`)"
                return DataError(
                    f"{spec.name!r} differs in size: {first.stored.place} has samples of {shape_text(first.shape)}, "
                    f"{other.stored.place} of {shape_text(other.shape)}",
                    remedy=f"bring them to one size{resize}, train on patches (`patch`), or one by one: `batch=1` (with "
                    "`accumulate=8`, a step is of 8 samples all the same)",
                    options={"batch": 1, "accumulate": 8},
                )
    return None
