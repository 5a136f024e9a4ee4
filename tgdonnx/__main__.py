"""``python -m tgdonnx``: the same as the command ``tgdonnx``."""

from tgdonnx.cli import main

main(prog_name="tgdonnx")
