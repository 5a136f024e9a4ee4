"""Pad with a constant: the gradient without the margins."""

from __future__ import annotations

from collections.abc import Mapping

from tgdonnx.gradients.rule import Gradient, Step, rule


@rule("Pad", carries=(0,))
def _pad(step: Step) -> Mapping[int, Gradient]:
    if step.node.attributes.get_string("mode", "constant") != "constant":
        raise step.refusal("pads with what is inside", "this is lowered before")
    build, known = step.build, step.known(1)
    pads = build("Neg", step.input(1)) if known is None else build.ints(*(-int(size) for size in known))
    # Pad takes negative sizes: it cuts off.
    axes = step.optional(3)
    return {0: step.build("Pad", step.dy, pads, None, axes) if axes is not None else step.build("Pad", step.dy, pads)}
