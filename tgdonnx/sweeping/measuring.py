"""How far the outputs move when filters are dropped, of one selection of filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from tgdonnx.errors import SelectionError
from tgdonnx.files.model_file import ModelFile
from tgdonnx.runtime import Device, open_inference
from tgdonnx.selection import RetrainMask
from tgdonnx.sweeping.change import Baseline, OutputChange, baseline, output_changes
from tgdonnx.sweeping.dropping import drop_filters
from tgdonnx.sweeping.running import Samples, run_all


def measure_vendor(vendor: ModelFile, samples: Samples, output: Optional[str], device: Device) -> Baseline:
    """Returns what the vendor's model gives for samples.

    Raises:
        SelectionError: it has no output of that name.
        DataError: it cannot be run on the data, or its output on it does not vary.
    """
    opened = open_inference(vendor, device=device)
    if output is not None and output not in opened.output_names:
        raise SelectionError(f"the model has no output {output!r}; its outputs are {', '.join(opened.output_names)}")
    names = opened.output_names if output is None else (output,)
    return baseline(names, run_all(opened, samples, names))


def measure_dropped(
    vendor: ModelFile, masks: Sequence[RetrainMask], samples: Samples, before: Baseline, device: Device
) -> tuple[OutputChange, ...]:
    """Returns how far the outputs move without the filters that masks select.

    Raises:
        DataError: the model cannot be run on the data.
    """
    # External data stays where it is: what runs maps it, and only what is dropped is written anew.
    changed = ModelFile(vendor.path, b"", drop_filters(vendor.proto, masks))
    opened = open_inference(changed, device=device)
    return output_changes(before, run_all(opened, samples, before.outputs))
