"""Give a gradient the shape of what it is the gradient of."""

from __future__ import annotations

from typing import Optional

import onnx_ir as ir

from tgdonnx.graphs.builder import Builder


def known_size(value: ir.Value, axis: int) -> Optional[int]:
    """Returns the size of an axis, or None where any goes."""
    size = None if value.shape is None else value.shape[axis]
    return size if isinstance(size, int) else None


def reshape_like(build: Builder, gradient: ir.Value, value: ir.Value) -> ir.Value:
    """Returns a gradient in the shape of a value with as many elements.

    One open size is left to Reshape, so that the value need not be kept for its shape.
    """
    sizes = None if value.shape is None else [s if isinstance(s, int) else -1 for s in value.shape]
    if sizes is not None and sizes.count(-1) <= 1 and 0 not in sizes:
        return build("Reshape", gradient, build.ints(*sizes))
    return build("Reshape", gradient, build("Shape", value))


def expand_like(build: Builder, gradient: ir.Value, value: ir.Value) -> ir.Value:
    """Returns a gradient spread over the shape of a value, against which it broadcasts."""
    return build("Expand", gradient, shape_of(build, value))


def shape_of(build: Builder, value: ir.Value) -> ir.Value:
    """Returns the shape of a value, as numbers where it is known."""
    sizes = None if value.shape is None else [s for s in value.shape if isinstance(s, int)]
    if sizes is not None and value.shape is not None and len(sizes) == len(value.shape):
        return build.ints(*sizes)
    return build("Shape", value)


def zeros_like(build: Builder, value: ir.Value) -> ir.Value:
    """Returns zeros in the shape of a value."""
    return build("Expand", build.scalar(0, value), shape_of(build, value))


def sum_to(build: Builder, gradient: ir.Value, source: ir.Value, target: ir.Value) -> ir.Value:
    """Undoes a broadcast: sums a gradient over the axes along which ``target`` was repeated.

    Args:
        build: writes nodes.
        gradient: of the shape of ``source``.
        source: what the broadcast gave.
        target: what went into it.
    """
    axes = _repeated(source, target)
    if axes is None:
        return _sum_to_while_running(build, gradient, target)
    if not axes:
        return gradient
    assert target.shape is not None
    assert source.shape is not None
    added = len(source.shape) - len(target.shape)
    if added:
        gradient = build.sum(gradient, axes, keepdims=False)
        return gradient if len(axes) == added else reshape_like(build, gradient, target)
    return build.sum(gradient, axes, keepdims=True)


def _repeated(source: ir.Value, target: ir.Value) -> Optional[list[int]]:
    """Returns the axes of the source along which the target was repeated; None if that is known only while running."""
    if source is target:
        return []
    if source.shape is None or target.shape is None:
        return None
    added = len(source.shape) - len(target.shape)
    axes = list(range(added))
    for axis, size in enumerate(target.shape):
        given = source.shape[axis + added]
        if size == 1:
            if given != 1:
                axes.append(axis + added)
        elif not isinstance(size, int) and not _same_size(size, given):
            return None
    return axes


def _same_size(size: object, given: object) -> bool:
    """Whether two open sizes are known to be the same: they have the same name."""
    name = getattr(size, "value", None)
    return name is not None and name == getattr(given, "value", None)


def _sum_to_while_running(build: Builder, gradient: ir.Value, target: ir.Value) -> ir.Value:
    shape, given = build("Shape", target), build("Shape", gradient)
    missing = build("Sub", build("Shape", given), build("Shape", shape))
    padded = build("Concat", build("Expand", build.ints(1), missing), shape, axis=0)
    ones = build("NonZero", build("Equal", padded, build.ints(1)))
    axes = build("Reshape", ones, build.ints(-1))
    return build("Reshape", build.sum(gradient, axes, keepdims=True), shape)
