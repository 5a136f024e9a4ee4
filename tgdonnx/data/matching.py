"""Arrays of a source matched to what a training step is fed: names, dtypes, shapes, numbers of samples."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

import numpy as np

from tgdonnx.data.labels import as_labels, takes_labels
from tgdonnx.data.layouts import SPACE, View, fits, layouts_that_fit, model_layout, view
from tgdonnx.data.lazy_arrays import ArrayGroup, LazyArray
from tgdonnx.data.levels import level_view
from tgdonnx.data.options import DataOptions
from tgdonnx.data.scaling import Scale
from tgdonnx.data.sources import Source
from tgdonnx.errors import DataError, MissingArrayError
from tgdonnx.graphs.tensor_specs import TARGET, TensorSpec, shared_inputs


@dataclass(frozen=True)
class SampleSet:
    """A group as samples of a training step.

    Attributes:
        name: of the group.
        views: one per input, in order, of the same number of samples, but for what is one value for all.
    """

    name: str
    views: tuple[View, ...]

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
        ignored: names of arrays that may be there although they are not asked for.

    Raises:
        DataError: an array is missing or not asked for; its dtype, rank or shape does not fit; the arrays of a group differ in
            the number of samples or in how they lie in space, or are empty; without patches, groups differ in size.
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
    if options.patch is None:
        _require_one_size(sets, inputs)
    return sets


def renamed_for(renamed: Mapping[str, str], inputs: Sequence[TensorSpec]) -> Mapping[str, str]:
    """Returns what arrays are mapped to, in the names of arrays.

    Where the model itself has an input ``target``, an array that is mapped to ``target`` is for that input, and the array
    ``target`` is what the output is compared with; unless another array is mapped to that input by its name as an array.
    """
    other = next((spec.name for spec in inputs if spec.vendor_name == TARGET), None)
    if other is None or other in renamed.values():
        return renamed
    return {array: other if name == TARGET else name for array, name in renamed.items()}


def scales_of(inputs: Sequence[TensorSpec], options: DataOptions) -> dict[str, Scale]:
    """Returns how each input is scaled that is."""
    found: dict[str, Scale] = {}
    shared = shared_inputs(inputs)
    for place, spec in enumerate(inputs):
        layout = model_layout(spec, options.layouts.get(spec.name, options.layout))
        if spec.name in options.scales:
            found[spec.name] = options.scales[spec.name]
        elif place in shared:
            continue
        elif options.scale is not None and spec.dtype == "float32" and (spec.shape is None or layout is not None):
            found[spec.name] = options.scale
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
    arrays = _rename(group.arrays, renamed_for(options.renamed, inputs), where)
    expected = [spec.name for spec in inputs]
    for name in expected:
        if name not in arrays:
            raise MissingArrayError(
                f"{where} has no array {name!r}; expected {', '.join(expected)}, found {_names(arrays)}{_hint(inputs)}",
                name,
            )
    for name in arrays:
        if name not in expected and name not in ignored:
            raise DataError(
                f"{where} has an array {name!r} that the model does not take; expected {', '.join(expected)}"
            )
    scales = scales_of(inputs, options)
    views = _views([(spec, arrays[spec.name]) for spec in inputs], options, scales)
    lengths = {spec.name: made.count for spec, made in zip(inputs, views) if made.counts_samples}
    if len(set(lengths.values())) > 1:
        raise DataError(f"the arrays of {where} differ in the number of samples: {lengths}")
    for spec, made in zip(inputs, views):
        if 0 in made.shape:
            raise DataError(
                f"{made.stored.place}: {spec.name!r} has samples of the shape {_shape(made.shape)}, with nothing in them"
            )
    orientations = {made.stored.orientation for made in views} - {None}
    if len(orientations) > 1:
        said = "; ".join(f"{spec.name} {made.stored.orientation}" for spec, made in zip(inputs, views))
        raise DataError(
            f"the volumes of {where} lie differently in space ({said})", remedy="bring them to one orientation first"
        )
    return SampleSet(group.name, views)


def _hint(inputs: Sequence[TensorSpec]) -> str:
    spec = next((spec for spec in inputs if spec.vendor_name is not None), None)
    if spec is None:
        return ""
    return (
        f"; {spec.name!r} is for the model's input {spec.vendor_name!r} (`renamed={{'ARRAY': {spec.vendor_name!r}}}`), and the "
        f"array {TARGET!r} for what the output is compared with"
    )


def _in_one_file(group: ArrayGroup) -> bool:
    return len({stored.place for stored in group.arrays.values()}) == 1


def _rename(arrays: Mapping[str, LazyArray], renamed: Mapping[str, str], where: str) -> dict[str, LazyArray]:
    for array_name, input_name in renamed.items():
        if array_name not in arrays:
            raise MissingArrayError(
                f"{where} has no array {array_name!r} to map to {input_name!r}; it has {_names(arrays)}", input_name
            )
    result: dict[str, LazyArray] = {}
    for name, array in arrays.items():
        new = renamed.get(name, name)
        if new in result:
            raise DataError(f"{where} has two arrays for the input {new!r}, with what is mapped to it")
        result[new] = array
    return result


def _check_dtype(spec: TensorSpec, stored: LazyArray, scale: Optional[Scale]) -> None:
    if scale is None:
        if str(stored.dtype) != spec.dtype:
            raise DataError(_mismatch(spec, stored), remedy=f"convert it, or say how: {_scale_hint(spec, stored)}")
    elif stored.dtype.kind not in "biuf":
        raise DataError(f"{_mismatch(spec, stored)}; these are no numbers to scale")
    elif spec.dtype != "float32" and not (scale == 1 and np.can_cast(stored.dtype, spec.dtype)):
        raise DataError(
            f"{_mismatch(spec, stored)}; only float32 inputs can be scaled, and others, with `scales={{{spec.name!r}: 1}}`, be "
            "taken as they are where no value can change"
        )


def _scale_hint(spec: TensorSpec, stored: LazyArray) -> str:
    if spec.dtype == "float32" and stored.dtype in (np.uint8, np.uint16):
        return f"`scale={np.iinfo(stored.dtype).max}` divides by it, `scale=1` takes the numbers as they are"
    return f"`scales={{{spec.name!r}: 1}}` takes the numbers as they are"


def _views(
    pairs: Sequence[tuple[TensorSpec, LazyArray]], options: DataOptions, scales: Mapping[str, Scale]
) -> tuple[View, ...]:
    """Returns every array as samples of its input, or as one value for all."""
    shared = shared_inputs([spec for spec, _ in pairs])
    made: dict[int, View] = {}
    for place, (spec, stored) in enumerate(pairs):
        if place not in shared and (stored.shape or not _takes_one(spec)):
            labels, said = as_labels(stored, spec, _said(spec, options))
            _check_dtype(spec, labels, scales.get(spec.name))
            made[place] = _view(spec, labels, said, options)
    count = max((view.count for view in made.values()), default=1)
    for place, (spec, stored) in enumerate(pairs):
        if place in made and not (made[place].count == 1 < count and _takes_one(spec)):
            continue
        level = level_view(stored, spec, count)
        if level is None:
            raise DataError(
                f"{_mismatch(spec, stored)}; the model takes one value of it for a whole batch: give that, or one for "
                f"each of the {count} samples"
            )
        _require_number(spec, stored, scales.get(spec.name))
        made[place] = level
    return tuple(made[place] for place in range(len(pairs)))


def _takes_one(spec: TensorSpec) -> bool:
    """Whether an input, no image, has one sample at a time, so that one value of it may be meant for all of them."""
    is_image = model_layout(spec, None) is not None
    return spec.name != TARGET and spec.shape is not None and spec.shape[:1] == (1,) and not is_image


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


def _view(spec: TensorSpec, stored: LazyArray, said: Optional[str], options: DataOptions) -> View:
    made = view(stored, spec, said, f"{stored.place}: {spec.name!r}")
    if not fits(made, spec if options.patch is None else _open_space(spec, made)):
        raise DataError(_mismatch(spec, stored, made) + _shape_hint(spec, stored, made))
    return made


def _open_space(spec: TensorSpec, made: View) -> TensorSpec:
    """Returns the input without its sizes in space, which patches bring along."""
    if spec.shape is None or len(spec.shape) != len(made.layout):
        return spec
    return TensorSpec(spec.name, spec.dtype, tuple(None if x in SPACE else s for x, s in zip(made.layout, spec.shape)))


def _mismatch(spec: TensorSpec, stored: LazyArray, made: Optional[View] = None) -> str:
    found = f"{stored.dtype} {_shape(stored.shape)}"
    if made is not None and made.source != made.layout:
        found += f", which as {made.source} gives samples of {_shape(made.shape)}"
    return f"{stored.place}: expected {spec.name!r} to be {spec.dtype} {_shape(spec.shape)}, found {found}"


def _shape_hint(spec: TensorSpec, stored: LazyArray, made: View) -> str:
    others = [layout for layout in layouts_that_fit(stored, spec) if layout != made.source]
    if others:
        said = " or ".join(f"`layouts={{{spec.name!r}: {layout!r}}}`" for layout in others)
        return f"; it would fit as {said}, if that is what it is"
    if takes_labels(spec):
        one_hot = f", or one-hot with {spec.classes} classes" if spec.classes is not None else ""
        return f"; the loss ce takes class indices{one_hot}: build with `loss='mse'` or `loss='l1'` to train on values"
    if spec.shape is not None and made.layout[0] == "N" and len(spec.shape) == len(made.layout):
        want = dict(zip(made.layout, spec.shape))
        space = {letter: size for letter, size in want.items() if letter in SPACE}
        sizes = dict(zip(made.axes, made.shape))
        if want.get("C") in (None, sizes.get("C")) and all(s and s <= sizes[letter] for letter, s in space.items()):
            return f"; `patch={tuple(space.values())}` trains on patches of that size"
    return ""


def _require_one_size(sets: Sequence[SampleSet], inputs: Sequence[TensorSpec]) -> None:
    for position, spec in enumerate(inputs):
        first = sets[0].views[position]
        for sample_set in sets[1:]:
            other = sample_set.views[position]
            if other.shape != first.shape:
                raise DataError(
                    f"{spec.name!r} differs in size: {first.stored.place} has samples of {_shape(first.shape)}, "
                    f"{other.stored.place} of {_shape(other.shape)}",
                    remedy="bring them to one size, or train on patches (`patch`)",
                )


def _shape(shape: Optional[Sequence[Optional[int]]]) -> str:
    return "of any shape" if shape is None else "[" + ", ".join("?" if d is None else str(d) for d in shape) + "]"


def _names(arrays: Mapping[str, LazyArray]) -> str:
    names = sorted(arrays)
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return (", ".join(names[:10]) or "none") + more
