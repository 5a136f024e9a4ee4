"""The codes of what a check finds: what each means, and what helps. A code is never given another meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Code:
    """A kind of finding.

    Attributes:
        code: its name, such as ``TGD005``.
        severities: those that it may have; an ``error`` stops training, a ``warning`` may.
        meaning: what is found, in a sentence.
        remedy: what helps in general, as a clause; a finding may know more. Empty if nothing is wrong.
    """

    code: str
    severities: tuple[Severity, ...]
    meaning: str
    remedy: str


_CODES = (
    Code(
        "TGD001",
        ("error",),
        "The model's operator set cannot be converted to one that trains, or its graph cannot be taken as it is.",
        "ask for the model exported with operator set 17 to 21",
    ),
    Code(
        "TGD002",
        ("error", "warning"),
        "The model has several outputs and none was chosen, or there is no such output.",
        "choose the output that the loss compares with the target",
    ),
    Code(
        "TGD003",
        ("error", "warning"),
        "A weight is not stored as numbers that can train: it is computed, shared, or of a type that does not train; "
        "it stays frozen; an error if no weight is left.",
        "ask for the model with its weights stored as floating-point numbers",
    ),
    Code(
        "TGD004",
        ("error",),
        "A node between what trains and the output has to be written in other operators first, and this form of it cannot be.",
        "export the model with that node in another form, such as of fixed length, or retrain only filters behind it",
    ),
    Code(
        "TGD005",
        ("error",),
        "A node between what trains and the output has no gradient.",
        "retrain only filters behind it; if there are none, ask for a model without it",
    ),
    Code(
        "TGD006",
        ("error",),
        "The gradient of the whole graph cannot be built; the message says by what.",
        "retrain only filters behind the node that is named, or try the other engine",
    ),
    Code(
        "TGD007",
        ("error",),
        "The model computes with integers, which have no gradient.",
        "ask for the model as it was before quantisation, or quantised with QuantizeLinear and DequantizeLinear around Conv",
    ),
    Code(
        "TGD008",
        ("error",),
        "The training artifacts were built, but the runtime cannot open them.",
        "try the other engine; look at what the runtime says in the message",
    ),
    Code(
        "TGD010",
        ("info",),
        "A node is written in other operators before it trains; the model's own file keeps it.",
        "",
    ),
    Code("TGD011", ("info",), "A node trains as it is.", ""),
    Code(
        "TGD101",
        ("error",),
        "The runtime that would train is not installed.",
        "install it: pip install 'tgdonnx[ort]' for the engine onnxruntime, 'tgdonnx[train]' for onnxruntime-training",
    ),
    Code(
        "TGD102",
        ("error",),
        "Two runtimes are installed that overwrite each other's files, so one of them is broken.",
        "make a new environment with one of them alone",
    ),
    Code(
        "TGD103",
        ("warning",),
        "The training runtime is of another version than the one that was measured.",
        "install the version that the message names, if anything is odd",
    ),
    Code(
        "TGD104",
        ("warning",),
        "A shape that the file declares is not the shape that comes of the inputs; the latter is used.",
        "nothing, for training; other tools may trust the declaration: export the model with right shapes",
    ),
    Code(
        "TGD105",
        ("warning",),
        "The model is too large, or no runtime is there, to try what training does first.",
        "`tgdonnx.build` and `tgdonnx.dry_run` try it where it can be",
    ),
    Code(
        "TGD106",
        ("error",),
        "Training cannot be on the device that was asked for.",
        "train on the CPU, or install the runtime for that device",
    ),
)
CODES = {each.code: each for each in _CODES}
"""All of them by name, in order: below 100 of the model, from 100 of the environment and of what was tried."""
