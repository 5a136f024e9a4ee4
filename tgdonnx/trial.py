"""What `tgdonnx train` will do first, done once in a temporary place: the artifacts are built, and their session is opened.

Only the runtime itself knows all that it cannot do.
"""

from __future__ import annotations

from typing import Optional

from tgdonnx import bounds
from tgdonnx.artifacts import BuildOptions, build
from tgdonnx.engines import EngineName
from tgdonnx.files.model_file import ModelFile, ModelSource
from tgdonnx.files.scratch import scratch_directory
from tgdonnx.finetuning.session import Session
from tgdonnx.masked_model import is_masked
from tgdonnx.masking import mask
from tgdonnx.runtime import Device
from tgdonnx.selection import Strategy

MOST_BYTES = 2**29
"""Of a model that is tried: what is written is a few times as much."""


def why_not_tried(file: ModelFile, nodes: int) -> Optional[str]:
    """Says why a model is not tried; None if it is.

    Args:
        file: the model.
        nodes: how many it has, its functions inlined.
    """
    size = len(file.data) + sum(tensor.length for tensor in file.outside)
    if size > MOST_BYTES:
        return f"the model has {size / 2**30:.1f} GiB, of which a copy would be written"
    if nodes > bounds.TRIED_NODES:
        return f"the model has {nodes:,} nodes; up to {bounds.TRIED_NODES:,} are tried, with everything that can train"
    return None


def try_training(
    file: ModelFile, strategy: Strategy, output: Optional[str], engine: EngineName, device: Device
) -> None:
    """Builds artifacts and opens their session, in a temporary directory.

    Args:
        file: a masked model, or one that is masked for this.
        strategy: what to select in a model without masks.
        output: the output to train on.
        engine: what shall train it.
        device: where; one of those of the engine.

    Raises:
        UntrainableError: the gradient cannot be built.
        ArtifactsError: the session cannot be opened.
        RuntimeMissingError: the runtime of the engine is not installed.
        OutputError: there is no place for temporary files.
    """
    with scratch_directory() as directory:
        masked: ModelSource = file
        if not is_masked(file):
            masked = directory / "masked.onnx"
            mask(file, masked, strategy)
        build(masked, directory / "artifacts", BuildOptions(output=output, engine=engine).in_cheapest_form())
        Session(directory / "artifacts", device=device)
