"""The option that says where models run; every command that runs one has it."""

from __future__ import annotations

from tgdonnx.cli.helping import MODEL, options_of
from tgdonnx.runtime.devices import CPU_NAME

device_option = options_of(MODEL)(
    "--device",
    default=CPU_NAME,
    show_default=True,
    help="Where models run: cpu, cuda, or cuda:1 for the second GPU (extra gpu).",
)
