"""The option that asks for the record of a tuned model."""

from __future__ import annotations

from tgdonnx.cli.helping import OUTPUT, options_of
from tgdonnx.cli.paths import OutputPath

card_option = options_of(OUTPUT)(
    "--card",
    type=OutputPath(),
    metavar="FILE.json",
    help="Write a record for machines: hashes, selection, data, measures, proof. FILE.cdx.json: as CycloneDX 1.6.",
)
