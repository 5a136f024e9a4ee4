"""The command line: one module per command, which parses, makes one call and prints.

Exit status: 0 done, 1 the answer is no (``verify``, ``check``, ``data``, ``sweep``, ``report``), 2 wrong use or bad input, 130
and 143 stopped by SIGINT or SIGTERM (after saving: ``train``, ``finetune``, ``compare``), 141 nobody reads the output any more.
"""

from __future__ import annotations

import click

from tgdonnx.cli.lazy import LazyGroup

# What `tgdonnx --help` says of every command: the first sentence of its own help, without importing it.
COMMANDS = {
    "inspect": "Show the layers of MODEL: scores, what would retrain, what is frozen and why.",
    "score": "Compute sparsity, entropy and KSE of every input map of every layer of MODEL.",
    "trace": "Tell which filters of earlier layers made each input map, or why that cannot be told.",
    "check": "Tell whether MODEL, masked or not, can be trained here, operator by operator; exit 1 if it cannot.",
    "data": "Tell whether data fits MODEL: all that is wrong at once, and the command that trains; exit 1 if it does not fit.",
    "sweep": "Drop test: set the filters of MODEL below each PHI to zero, look at the output, recommend a PHI.",
    "mask": "Choose filters of MODEL and write a masked model: the same graph and outputs, with retrain masks in it.",
    "build": "Make ONNX Runtime training artifacts from a MASKED model; its gradients are masked.",
    "train": "Train the artifacts in DIRECTORY; leaves a newer checkpoint and log.jsonl there.",
    "export": "Write the vendor's model with the filters trained in DIRECTORY; every other byte is the vendor's.",
    "blend": "Show the run in DIRECTORY between what it started from and what it came to, and choose a blend for `export`.",
    "gate": "Write one file that answers as VENDOR where an input is the vendor's, and as TUNED where it is new.",
    "verify": "Prove that TUNED is BASE with other values in retrained filters only; exit 1 if it is not.",
    "finetune": "Adapt MODEL in one go: mask, build, train, export and verify.",
    "compare": "Train several selections of MODEL at equal budget; show new and old task along every run.",
    "apply": "Apply MODEL to an image, a volume or a stack of images, by tiles that overlap as far as it looks.",
    "report": "Write what was done in DIRECTORY as one self-contained HTML page; exit 1 if the tuned model is not verified.",
    "guide": "Show a guide; without NAME, list the guides.",
}

# The character \b keeps the line from being wrapped; in a docstring, which has to be a raw one here, it would be two.
_HELP = """Adapt somebody else's ONNX conv net on this machine, and change nothing else.

\b
MODEL --mask--> MASKED --build--> DIR --train--> DIR --export--> TUNED --verify--> proof
"""


@click.group(
    help=_HELP,
    cls=LazyGroup,
    summaries=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "-v", "--verbose", is_flag=True, help="Show warnings of libraries, and where a fault of tgdonnx happened."
)
@click.version_option(package_name="tgdonnx")
def main(verbose: bool) -> None:  # Outermost reads it
    """Holds the commands."""
