"""What a check finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tgdonnx.checking.codes import CODES, Severity
from tgdonnx.errors import (
    TgdonnxError,
)


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        code: which kind; see `tgdonnx.checking.codes`.
        severity: an ``error`` stops training, a ``warning`` may.
        node: the node that it is about; empty if it is about the model or the environment.
        op_type: its operator.
        message: what was found.
        remedy: what would help; empty if nothing is wrong.
    """

    code: str
    severity: Severity
    node: str
    op_type: str
    message: str
    remedy: str

    def __post_init__(self) -> None:
        assert self.severity in CODES[self.code].severities


def any_error(findings: Iterable[Finding]) -> bool:
    """Whether one of several findings stops training."""
    return any(finding.severity == "error" for finding in findings)


def blocked(code: str, error: TgdonnxError) -> Finding:
    """Returns an error that stops training as a finding."""
    return Finding(code, "error", error.node, error.op_type, error.problem, error.remedy)
