"""The command line: one module per command, which parses, makes one call and prints.

Exit status: 0 done, 1 the answer is no (``verify``, ``check``, ``data``, ``sweep``, ``report``), 2 wrong use or bad input, 130
and 143 stopped by SIGINT or SIGTERM (after saving: ``train``, ``finetune``, ``compare``), 141 nobody reads the output any more.
"""

from __future__ import annotations

import click

from tgdonnx.cli.helping import ANY_WIDTH
from tgdonnx.cli.lazy import LazyGroup

# What `tgdonnx --help` says of every command, in the order of work: the first sentence of its own help, without importing it.
SECTIONS = {
    "Before training": {
        "inspect": "Show the layers of MODEL, what would retrain, and what is frozen.",
        "check": "Tell whether MODEL can be trained here, operator by operator.",
        "data": "Tell whether data fits MODEL, and the command that trains.",
        "score": "Compute sparsity, entropy and KSE of all input maps of MODEL.",
        "trace": "Tell which filters made each input map, or why that is unknown.",
        "sweep": "Recommend a PHI: set filters below it to zero, look at the output.",
    },
    "All in one go": {
        "finetune": "Adapt MODEL in one go: mask, build, train, export and verify.",
        "compare": "Train several selections of MODEL at equal budget, and compare.",
        "batch": "Fine-tune many models: a job per row of JOBS.",
    },
    "Stage by stage": {
        "mask": "Choose filters of MODEL and write a model with retrain masks.",
        "build": "Make training artifacts, with masked gradients, of a MASKED model.",
        "train": "Train the artifacts in DIRECTORY.",
        "blend": "Choose how far `export` goes from start to end of a run.",
        "export": "Write the vendor's model with the filters trained in DIRECTORY.",
        "verify": "Prove that TUNED is BASE but for values in retrained filters.",
    },
    "After training": {
        "apply": "Apply MODEL to images or volumes, by tiles where they are large.",
        "gate": "Write one file of both: VENDOR for known inputs, TUNED for new.",
        "report": "Write what was done in DIRECTORY as one HTML page.",
    },
    "To read": {
        "guide": "Show a guide; without NAME, list the guides.",
    },
}
COMMANDS = {name: summary for section in SECTIONS.values() for name, summary in section.items()}

# The character \b keeps the line from being wrapped; in a docstring, which has to be a raw one here, it would be two.
_HELP = """Adapt somebody else's ONNX conv net on this machine, and change nothing else.

\b
MODEL -mask-> MASKED -build-> DIR -train-> DIR -export-> TUNED -verify-> proof

Begin with `tgdonnx inspect MODEL`; each command's own help has examples.
"""


@click.group(
    help=_HELP,
    cls=LazyGroup,
    sections=SECTIONS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": ANY_WIDTH},
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Show warnings of libraries, and where a fault of tgdonnx happened."
)
@click.version_option(package_name="tgdonnx")
def main(verbose: bool) -> None:  # Outermost reads it
    """Holds the commands."""
