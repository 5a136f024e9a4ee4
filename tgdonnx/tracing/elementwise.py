"""Element by element: an output element depends on the input elements at the same place, after broadcasting."""

from __future__ import annotations

from tgdonnx.graphs.operators import ELEMENTWISE, QUANTIZERS
from tgdonnx.tracing.origins import OriginIds
from tgdonnx.tracing.rule import Rule, Site, UntraceableError, of_rank

# Their further inputs hold numbers for the whole node, or one per channel, that must not come from layers.
_PARAMETRISED = ("BatchNormalization", "CastLike", *sorted(QUANTIZERS))


def _every_input(site: Site) -> OriginIds:
    aligned = [_aligned(site, index) for index in range(len(site.ids))]
    try:
        return site.table.union(*aligned)
    except ValueError:
        shapes = " and ".join(str(list(ids.shape)) for ids in aligned)
        raise UntraceableError(f"its inputs do not broadcast: {shapes}") from None


def _aligned(site: Site, index: int) -> OriginIds:
    """Returns the origins of an input with the axes that it has; a constant may have more than the activations."""
    ids = site.ids[index]
    if site.has(index) and ids.ndim == 0 and any(other.ndim for other in site.ids) and not site.table[int(ids)].opaque:
        ids = of_rank(ids, len(site.shape(index)))
    if index == 1 and site.opset < 7 and site.integer("broadcast", 0) and "axis" in site.node.attributes and ids.ndim:
        axis = site.integer("axis", 0) % max(1, site.ids[0].ndim)
        ids = ids.reshape(*ids.shape, *(1,) * max(0, site.ids[0].ndim - axis - ids.ndim))
    return ids


def _dropout(site: Site) -> list[OriginIds]:
    return [_first_input(site), site.table.constant]  # the mask does not depend on the data


def _first_input(site: Site) -> OriginIds:
    for ids in site.ids[1:]:
        origins = [site.table[int(i)] for i in ids.flat]
        if any(origin.producers or origin.opaque for origin in origins):
            raise UntraceableError("its parameters are computed by layers")
    if site.node.op_type == "BatchNormalization" and any(o.name and o.uses() for o in site.node.outputs[1:]):
        raise UntraceableError("it is in training form")
    return site.ids[0]


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _every_input),
    **dict.fromkeys(_PARAMETRISED, _first_input),
    "Dropout": _dropout,
}
