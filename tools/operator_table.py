"""The guide to operators, from rules, lowerings and codes themselves: ``python tools/operator_table.py`` writes it again."""

from __future__ import annotations

import re
from pathlib import Path

import tgdonnx.gradients  # fills the table
import tgdonnx.lowering
from tgdonnx.checking.codes import CODES
from tgdonnx.gradients.rule import RULES
from tgdonnx.graphs.operators import STEPS

OPERATORS = Path(__file__).parents[1] / "tgdonnx" / "guides" / "operators.md"
_HEAD = """# Operators

Through which operators filters train: those that have a gradient, and those that are written in others first.

This guide is written by `python tools/operator_table.py`.

What is in neither table and lies between a retrained filter and the output is refused by name, with a reason and a remedy,
before anything is written: `tgdonnx check MODEL` tells. Loop, Scan and RNN are, and LSTM and GRU of open length; filters behind
them train. What stands beside the way from filters to the output only has to run.

Graphs that train are of operator set 17 to 21; others are converted. Roundings (STEPS) and comparisons end
a way: their derivative is zero.
"""
_RULES = """## With a gradient

By the modules of `tgdonnx/gradients/rules/`. An operator may be refused in a form of its own, say Dropout that drops.

| family | operators |
|---|---|
"""
_LOWERINGS = """## Written in others first

By the modules of `tgdonnx/lowering/`; of an operator that is in the table above too, the forms that its rule leaves out.

| module | operators |
|---|---|
"""
_COMMAND = {"build": "`tgdonnx build`", "dry_run": "`tgdonnx train --dry-run`"}
_CODES = """## What check finds

`tgdonnx check MODEL` answers with these codes; `tgdonnx check --explain TGD005` says what one means, `--list` says it of all.

| code | severity | meaning | what helps |
|---|---|---|---|
"""


def guide() -> str:
    """Returns the guide."""
    families: dict[str, list[str]] = {}
    for (domain, op_type), entry in RULES.items():
        if not domain:  # else it is ours, and in no file
            families.setdefault(entry.rule.__module__.rpartition(".")[2], []).append(op_type)
    lowerings = {each.__module__.rpartition(".")[2]: sorted(each.op_types) for each in tgdonnx.lowering.EVERY}
    steps = ", ".join(sorted(STEPS))
    codes = "".join(
        f"| {each.code} | {' or '.join(each.severities)} | {each.meaning} | {_spelt(each.remedy)} |\n"
        for each in CODES.values()
    )
    tables = [_RULES + _table(families), _LOWERINGS + _table(lowerings), _CODES + codes]
    return "\n".join([_HEAD.replace("STEPS", steps), *tables])


def _spelt(remedy: str) -> str:
    return re.sub(r"`tgdonnx\.(\w+)`", lambda found: _COMMAND[found[1]], remedy)


def _table(rows: dict[str, list[str]]) -> str:
    return "".join(f"| {name.replace('_', ' ')} | {', '.join(sorted(rows[name]))} |\n" for name in sorted(rows))


if __name__ == "__main__":
    OPERATORS.write_text(guide(), "utf-8")
