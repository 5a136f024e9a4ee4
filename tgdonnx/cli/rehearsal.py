"""What `finetune --dry-run` prints: all that would be done."""

from __future__ import annotations

from tgdonnx.cli.output import printing, say, styled
from tgdonnx.cli.train import print_cost
from tgdonnx.pipeline.examining import FoundArray, shape_in_words
from tgdonnx.pipeline.rehearsing import Rehearsal
from tgdonnx.reporting.tables import print_masks


def held(found: FoundArray) -> str:
    """Returns what lies in a source under a name, in words."""
    dtypes, several = " and ".join(found.dtypes), len(found.shapes) > 1
    least, largest = shape_in_words(min(found.shapes)), shape_in_words(max(found.shapes))
    shape = f"{len(found.shapes)} shapes from {least} to {largest}" if several else least
    return f"{dtypes} {shape}, {found.cases} {'case' if found.cases == 1 else 'cases'}; the first in {found.place}"


def print_rehearsal(report: Rehearsal, rounds: int) -> None:
    """Prints data, selection, training and files, in the order of work."""
    say(styled("Data", "bold"))
    for found in report.data:
        say(f"  {found.name}: {held(found)}")
    counts = {"to train on": report.cost.samples, "held out": report.cost.held_out, "vendor's": report.cost.retained}
    say(f"  samples: {', '.join(f'{count} {role}' for role, count in counts.items() if count)}")
    for remark in report.remarks:
        say(f"  {remark}")
    say(styled("Selection", "bold"), f" of the first of {rounds} rounds" if rounds > 1 else "")
    with printing() as console:
        print_masks(report.mask, console)
    say(styled("Training", "bold"))
    options = report.build.options
    say(
        f"  loss {options['loss']} on {options['output']!r}, {options['optimizer']}, form {options['form']}, "
        f"engine {report.build.engine}"
    )
    if report.resumed is not None:
        say(f"  goes on with a run of {report.resumed} steps")
    print_cost(report.cost, indent="  ")
    say(
        f"  before the first step come about {report.before:.3g} s (choosing, masks, build); what follows the last (export, "
        "proof, pages) is not counted"
    )
    say(styled("Files", "bold"))
    for each in report.files:
        say(f"  {each.path}: {each.what}{' (exists)' if each.exists else ''}")
    say("nothing was trained, nothing was written")
