"""What is worth knowing of a detector, in words."""

from __future__ import annotations

from collections.abc import Iterator

from tgdonnx.gating.separation import Separation

_FAR = 2.0
"""Old inputs lie far beyond the new ones if the nearest has so many times the residual of the farthest new one."""


def remarks_on(separation: Separation) -> tuple[str, ...]:
    """Returns sentences on how a detector separates: where it falls short of what was asked for, and whether there is room."""
    return tuple(_remarks(separation))


def _remarks(separation: Separation) -> Iterator[str]:
    held_out, nearest = separation.held_out, separation.nearest_old
    if held_out is not None and held_out < separation.accept:
        more = "a larger `accept`, or " if separation.has_room else ""
        yield (
            f"fewer of the held-out new inputs are accepted ({separation.percent(held_out)}) than was asked for "
            f"({separation.asked_for}): {more}more new inputs to fit on would help"
        )
    if separation.retain is None:
        yield "how inputs of the vendor's kind fare is not known: name some with `retain`"
    elif nearest is not None and nearest >= _FAR * max(separation.farthest_new, 1.0):
        line = f"the nearest old input has {_times(nearest)} times the residual at the threshold"
        if separation.has_room:
            line += (
                f", the farthest new one {_times(separation.farthest_new)} times: in front of this layer a larger `accept` "
                "lets none of these old ones through"
            )
        yield line


def _times(factor: float) -> str:
    return f"{factor:.1f}" if factor < 10 else f"{factor:,.0f}"
