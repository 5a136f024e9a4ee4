"""Element by element: an output element depends on the input elements at the same place, after broadcasting."""

from __future__ import annotations

from tgdonnx.graphs.operators import ELEMENTWISE, QUANTIZERS
from tgdonnx.tracing.origins import OriginIds
from tgdonnx.tracing.rule import Rule, TracingView, UntraceableError, of_rank

# Their further inputs hold numbers for the whole node, or one per channel, that must not come from layers.
_PARAMETRISED = ("BatchNormalization", "CastLike", *sorted(QUANTIZERS))


def _every_input(view: TracingView) -> OriginIds:
    aligned = [_aligned(view, index) for index in range(len(view.ids))]
    try:
        return view.table.union(*aligned)
    except ValueError:
        shapes = " and ".join(str(list(ids.shape)) for ids in aligned)
        raise UntraceableError(f"its inputs do not broadcast: {shapes}") from None


def _aligned(view: TracingView, index: int) -> OriginIds:
    """Returns the origins of an input with the axes that it has; a constant may have more than the activations."""
    ids = view.ids[index]
    if view.has(index) and ids.ndim == 0 and any(other.ndim for other in view.ids) and not view.table[int(ids)].opaque:
        ids = of_rank(ids, len(view.shape(index)))
    if index == 1 and view.opset < 7 and view.integer("broadcast", 0) and "axis" in view.node.attributes and ids.ndim:
        axis = view.integer("axis", 0) % max(1, view.ids[0].ndim)
        ids = ids.reshape(*ids.shape, *(1,) * max(0, view.ids[0].ndim - axis - ids.ndim))
    return ids


def _dropout(view: TracingView) -> list[OriginIds]:
    return [_first_input(view), view.table.constant]  # the mask does not depend on the data


def _first_input(view: TracingView) -> OriginIds:
    for ids in view.ids[1:]:
        origins = [view.table[int(i)] for i in ids.flat]
        if any(origin.producers or origin.opaque for origin in origins):
            raise UntraceableError("its parameters are computed by layers")
    if view.node.op_type == "BatchNormalization" and any(o.name and o.uses() for o in view.node.outputs[1:]):
        raise UntraceableError("it is in training form")
    return view.ids[0]


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _every_input),
    **dict.fromkeys(_PARAMETRISED, _first_input),
    "Dropout": _dropout,
}
