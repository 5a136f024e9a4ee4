"""Operators that take some elements, or write some: their gradients go back to where they lay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import numpy as np
import onnx_ir as ir

from tgdonnx.gradients.rule import Gradient, Step, rule
from tgdonnx.gradients.shapes import known_size, zeros_like


@rule("Slice")
def _slice(step: Step) -> Mapping[int, Gradient]:
    """A stretch with fixed ends is padded with zeros; anything else is written into zeros, axis by axis."""
    build, rank = step.build, step.rank(step.x)
    starts, ends, axes, steps = (step.known(place) for place in range(1, 5))
    if starts is not None and ends is not None:
        chosen = list(range(len(starts))) if axes is None else [int(axis) % rank for axis in axes]
        by = [1] * len(chosen) if steps is None else [int(each) for each in steps]
        before, behind = [0] * rank, [0] * rank
        for axis, start, end, stride in zip(chosen, starts.tolist(), ends.tolist(), by):
            ends_known = _missing(known_size(step.x, axis), start, end) if stride == 1 else None
            if ends_known is None:
                break
            before[axis], behind[axis] = ends_known
        else:
            return {0: build("Pad", step.dy, build.ints(*before, *behind))}
    return {0: _written(step)}


def _missing(size: Optional[int], start: int, end: int) -> Optional[tuple[int, int]]:
    """Returns how many elements a Slice leaves out at both ends of an axis; None if that depends on an open size."""
    if size is None:
        if start < 0 or 0 <= end < 2**31 - 1:
            return None
        return (start, 0) if end >= 0 else (start, -end)
    first = min(max(start + size if start < 0 else start, 0), size)
    last = min(max(end + size if end < 0 else end, 0), size)
    return (first, size - last) if first <= last else None


def _written(step: Step) -> ir.Value:
    """Slices the places of all elements in the same way, and writes the gradient there."""
    build = step.build
    count = build("Size", step.x)
    zero, one = (build.constant(_int(number)) for number in (0, 1))
    numbered = build("Reshape", build("Range", zero, count, one), build("Shape", step.x))
    places = build("Slice", numbered, *(step.node.inputs[1:]))
    flat = build("Expand", build.scalar(0, step.x), build("Reshape", count, build.ints(1)))
    flattened = build("Reshape", step.dy, build.ints(-1))
    written = build("ScatterElements", flat, build("Reshape", places, build.ints(-1)), flattened, axis=0)
    return build("Reshape", written, build("Shape", step.x))


def _int(number: int) -> np.ndarray:
    return np.array(number, np.int64)


@rule("GatherElements")
def _gather_elements(step: Step) -> Mapping[int, Gradient]:
    axis = step.axis(step.x, 0)
    zeros = zeros_like(step.build, step.x)
    return {0: step.build("ScatterElements", zeros, step.input(1), step.dy, axis=axis, reduction="add")}


@rule("GatherND")
def _gather_nd(step: Step) -> Mapping[int, Gradient]:
    if step.node.attributes.get_int("batch_dims", 0):
        raise step.refusal("gathers with batch_dims above 0", "export the model without them")
    return {0: step.build("ScatterND", zeros_like(step.build, step.x), step.input(1), step.dy, reduction="add")}


@rule("ScatterElements")
def _scatter_elements(step: Step) -> Mapping[int, Gradient]:
    build, places, axis = step.build, step.input(1), step.axis(step.x, 0)
    added = _require_reduction(step) == "add"
    found: dict[int, Gradient] = {}
    if step.wants(0):
        zeros = zeros_like(build, step.input(2))
        found[0] = step.dy if added else build("ScatterElements", step.dy, places, zeros, axis=axis)
    if step.wants(2):
        found[2] = build("GatherElements", step.dy, places, axis=axis)
    return found


@rule("ScatterND")
def _scatter_nd(step: Step) -> Mapping[int, Gradient]:
    build, places = step.build, step.input(1)
    added = _require_reduction(step) == "add"
    found: dict[int, Gradient] = {}
    if step.wants(0):
        found[0] = step.dy if added else build("ScatterND", step.dy, places, zeros_like(build, step.input(2)))
    if step.wants(2):
        found[2] = build("GatherND", step.dy, places)
    return found


def _require_reduction(step: Step) -> str:
    reduction = step.node.attributes.get_string("reduction", "none") or "none"
    if reduction not in ("none", "add"):
        raise step.refusal(
            f"combines values by reduction = {reduction}",
            "export the model with reduction none or add, or retrain behind it",
        )
    return reduction


@rule("TopK")
def _top_k(step: Step) -> Mapping[int, Gradient]:
    axis, places = step.axis(step.x, -1), step.node.outputs[1]
    return {0: step.build("ScatterElements", zeros_like(step.build, step.x), places, step.dy, axis=axis)}


@rule("Trilu")
def _trilu(step: Step) -> Mapping[int, Gradient]:
    return {0: step.build("Trilu", step.dy, *step.node.inputs[1:], upper=step.node.attributes.get_int("upper", 1))}
