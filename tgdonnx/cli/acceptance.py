"""The option that names criteria of acceptance, and what is said of them at the end."""

from __future__ import annotations

from tgdonnx.cli.helping import TRAINING, options_of
from tgdonnx.cli.output import say, styled
from tgdonnx.cli.paths import PATH
from tgdonnx.evaluating.judging import Verdict

NOT_ACCEPTED = 1

acceptance_option = options_of(TRAINING)(
    "--acceptance",
    type=PATH,
    metavar="FILE",
    help="Criteria that the tuned model has to meet on --validation, TOML or JSON, recorded before the first step. Exit 1 if "
    "it does not.",
)


def print_verdict(verdict: Verdict) -> None:
    """Says which criteria are not met, and whether all are."""
    for each in verdict.criteria:
        if not each.passed:
            where = "" if each.subgroup is None else f" ({each.subgroup}, {each.cases} cases)"
            say(f"not met: {each.criterion}{where}: {each.found}")
    if verdict.problem:
        say(f"not judged: {verdict.problem}")
    told = styled("accepted", "bold green") if verdict.passed else styled("NOT accepted", "bold red")
    count = len({each.criterion for each in verdict.criteria})  # one in several subgroups is one
    criteria = "criterion" if count == 1 else f"{count} criteria" if count else "criteria"
    say(told, f"  by the {criteria} of {verdict.file}, SHA-256 {verdict.sha256}")
