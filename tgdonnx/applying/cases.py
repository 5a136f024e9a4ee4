"""What a model is applied to, matched to its inputs and scaled: one case, or many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

from tgdonnx.applying.collecting import Applied, collect
from tgdonnx.applying.feeding import Case
from tgdonnx.applying.network import ImageNetwork, is_image
from tgdonnx.applying.preparing import Preparation
from tgdonnx.data.content import look_through
from tgdonnx.data.hints import shape_text
from tgdonnx.data.layouts import SPACE, model_layout
from tgdonnx.data.matching import match, scales_of
from tgdonnx.data.options import DataOptions
from tgdonnx.data.remarks import conversions, left_out
from tgdonnx.data.scaling import Linear, Scaling
from tgdonnx.data.sources import Source
from tgdonnx.errors import DataError
from tgdonnx.graphs.tensor_specs import TensorSpec


@dataclass(frozen=True)
class Cases:
    """What a model is applied to.

    Attributes:
        all: every case, at least one.
        several: whether there may be many, each with a result of its own.
        remarks: what was done to the data, and what is worth knowing.
        measured: the scaling of the image, where it was not recorded; None if it was, or nothing is scaled.
    """

    all: tuple[Case, ...]
    several: bool
    remarks: tuple[str, ...]
    measured: Optional[Linear]


def open_cases(data: Applied, network: ImageNetwork, preparation: Preparation) -> Cases:
    """Opens what a model is applied to.

    Args:
        data: where it lies.
        network: the model.
        preparation: how data is prepared.

    Raises:
        DataError: there is nothing, or it does not fit the model.
        RuntimeMissingError: the library for a format is not installed.
    """
    reading, image = _reading(network, preparation.reading), network.inputs.index(network.image)
    fixed = network.image.shape[0] if network.image.shape else None
    found = collect(data, network.inputs, reading)
    reading = _with_order(network, reading if found.named else replace(reading, map={}), found.source)
    inputs = tuple(_open(spec, reading, fixed, lead=spec is network.image) for spec in network.inputs)
    sets = match(found.source, inputs, reading)
    scaling, measured = _recorded(preparation, inputs), None
    if scaling is None and scales_of(inputs, reading):
        scaling = look_through(sets, inputs, reading, None).scaling
        measured = scaling.arrays.get(network.image.name) if scaling is not None else None
    cases = tuple(Case(each.name, inputs, each.views, image, scaling, fixed) for each in sets)
    unmapped = preparation.reading.map and not found.named
    remarks = (
        *found.source.remarks,
        *(["`map` changes nothing: the data goes by no names of arrays"] if unmapped else []),
        *left_out(sets, inputs),
        *(_shortly(text, inputs) for text in conversions(sets, inputs, reading, scaling)),
        *filter(None, (preparation.remark, preparation.unused)),
    )
    return Cases(cases, found.several, remarks, measured)


def require_sizes(case: Case, network: ImageNetwork, reason: str) -> None:
    """Checks that images have the size that the model takes, where it can only be run on whole ones.

    Raises:
        DataError: they have not.
    """
    for spec, view in zip(network.inputs, case.views):
        wanted = dict(zip(view.layout, spec.shape or ()))
        if is_image(spec) and any(wanted.get(letter) not in (None, size) for letter, size in view.space.items()):
            raise DataError(
                f"{view.stored.place}: expected {spec.name!r} to be {spec.dtype} {shape_text(spec.shape)}, found "
                f"{view.stored.dtype} {list(view.stored.shape)}; the model runs on whole images only: {reason}",
                remedy="bring pictures to that size (`resize`, `crop`), or other data before",
            )


def _reading(network: ImageNetwork, reading: DataOptions) -> DataOptions:
    """Returns options in which a layout in the model that the model itself tells is left out."""

    def shorter(said: str, name: str) -> str:
        source, _, model = said.partition(":")
        return source if model and network.letters(name, "") == model else said

    layout = reading.layout if reading.layout is None else shorter(reading.layout, network.image.name)
    return replace(
        reading,
        layout=layout,
        layouts={name: shorter(said, name) for name, said in reading.layouts.items()},
    )


def _with_order(network: ImageNetwork, reading: DataOptions, source: Source) -> DataOptions:
    """Returns options that say of arrays of numpy which axes they have, where the model takes others than channels first."""
    layouts = dict(reading.layouts)
    for spec in network.inputs:
        letters, stored = network.letters(spec.name, ""), source.groups[0].arrays.get(spec.name)
        said = reading.layout is not None or spec.name in layouts
        if said or not letters or stored is None or stored.layout is not None or len(stored.shape) != len(letters):
            continue
        if sorted(letters, key="NCDHW".index) != list(letters):
            layouts[spec.name] = letters
    return replace(reading, layouts=layouts)


def _open(spec: TensorSpec, reading: DataOptions, fixed: Optional[int], *, lead: bool) -> TensorSpec:
    """Returns an input with any number of samples, which are grouped as the model takes them, and of images any size."""
    if spec.shape is None:
        return spec
    shape = spec.shape
    said = reading.layouts.get(spec.name, reading.layout)
    axes = (said or "").partition(":")[2] or model_layout(spec, said)
    if is_image(spec) and axes is not None and len(axes) == len(shape):
        shape = tuple(None if letter in SPACE else size for letter, size in zip(axes, shape))
    grouped = fixed is not None and fixed > 1 and shape[:1] == (fixed,)
    if lead or is_image(spec) or grouped:
        shape = (None, *shape[1:])
    return replace(spec, shape=shape)


def _recorded(preparation: Preparation, inputs: Sequence[TensorSpec]) -> Optional[Scaling]:
    if not preparation.scaling:
        return None
    names = {spec.name for spec in inputs}
    return Scaling({name: linear for name, linear in preparation.scaling.items() if name in names})


def _shortly(text: str, inputs: Sequence[TensorSpec]) -> str:
    """Returns a remark without the name of the input, where there is but one."""
    name = f"{inputs[0].name}: "
    return text[len(name) :] if len(inputs) == 1 and text.startswith(name) else text
