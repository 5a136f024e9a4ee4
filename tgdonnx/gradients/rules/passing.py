"""Operators that hand a number on as it is."""

from __future__ import annotations

from collections.abc import Mapping

from tgdonnx.gradients.rule import Gradient, Step, rule


@rule("Identity")
def _identity(step: Step) -> Mapping[int, Gradient]:
    return {0: step.dy}


@rule("Dropout")
def _dropout(step: Step) -> Mapping[int, Gradient]:
    """Nets are tuned as they run, without dropping."""
    training = step.known(2)
    if step.optional(2) is not None and (training is None or bool(training)):
        raise step.refusal("drops values at random while the model runs", "export the model for inference")
    return {0: step.dy}


@rule("Cast", "CastLike")
def _cast(step: Step) -> Mapping[int, Gradient]:
    """Between floating-point types; whole numbers end the path."""
    if step.y.dtype is not None and not step.y.dtype.is_floating_point():
        return {}
    if step.x.dtype is None or step.x.dtype == step.y.dtype:
        return {0: step.dy}
    return {0: step.build.cast(step.dy, step.x)}
