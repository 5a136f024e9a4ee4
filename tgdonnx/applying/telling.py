"""What is said of results: what their files lost, and which network of a gated model answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from tgdonnx.applying.deciding import GateDecision
from tgdonnx.applying.reports import Result


def rounded(results: Sequence[Result]) -> Iterator[str]:
    """Yields what was lost where results were written in whole numbers."""
    clipped = [each for each in results if each.clipped]
    if clipped:
        low, high = min(each.low or 0 for each in clipped), max(each.high or 0 for each in clipped)
        count, files = sum(each.clipped for each in clipped), f" in {len(clipped)} files" if len(clipped) > 1 else ""
        yield f"{count} values{files} were clipped to what pixels hold: they go from {low:g} to {high:g}"
    error = max((each.error for each in results), default=0.0)
    if error:
        yield f"values are stored in whole numbers, to within {error:.3g}"


def decided(results: Sequence[Result]) -> Iterator[str]:
    """Yields what a gated model came to."""
    decisions = [each.gate for each in results]
    if len(decisions) <= 1:
        yield answered(decisions[0] if decisions else None)
        return
    new = sum(each is None or each.is_new for each in decisions)
    yield f"the tuned network answers for {new} of {len(decisions)} files, the vendor's for the others"


def answered(decision: Optional[GateDecision]) -> str:
    """Returns which network of a gated model answers; without a decision, an input says it."""
    if decision is None:
        return "the model is gated by an input, which is 1 here: the tuned network answers"
    who = "the tuned network" if decision.is_new else "the vendor's network"
    return f"{decision.new} of {decision.judged} samples are new to the detector, so {who} answers for all of them"
