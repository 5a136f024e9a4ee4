"""Do the files of an artifacts directory belong together? Each says again what others say, and one may have been exchanged."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from tgdonnx.artifacts.manifest import MANIFEST, Manifest
from tgdonnx.errors import ArtifactsError
from tgdonnx.graphs.builder import PREFIX
from tgdonnx.graphs.tensor_specs import TensorSpec
from tgdonnx.masked_model import MaskedModel
from tgdonnx.records import encode_mask


def require_masked_of(manifest: Manifest, masked: MaskedModel, directory: Path) -> None:
    """Checks that a manifest says of the tensors that train what the masked model says.

    Raises:
        ArtifactsError: it does not.
    """
    if masked.base.sha256 != manifest.base_sha256:
        raise ArtifactsError(
            f"{directory} holds the masked model of another file than it was built from", remedy="build it again"
        )
    stored = masked.network.stored_parameters
    for tensor in manifest.trained:
        name = tensor.vendor_name
        if name not in stored or name not in masked.masks:
            _refuse(directory, f"the tensor {name!r} trains, which has no retrain mask")
        parameter, (retrain, kernels) = stored[name], encode_mask(masked.masks[name], masked.network, name)
        for what, said, found in (
            ("the place", tensor.vendor_place, parameter.path),
            ("the shape", tensor.shape, parameter.shape),
            ("the type", tensor.dtype, parameter.dtype.name),
            ("the filters", tensor.retrain, retrain),
            ("the kernels", tensor.kernels, kernels),
        ):
            if said != found:
                _refuse(directory, f"{what} of {name!r} {'are' if what.endswith('s') else 'is'} {_short(said)}", found)


def require_inputs_of(manifest: Manifest, directory: Path) -> None:
    """Checks that a manifest says of the inputs what the models take.

    Raises:
        ArtifactsError: it does not, or the eval model cannot be read.
    """
    path = directory / manifest.runtime.eval_model
    try:
        graph = onnx.load(path, load_external_data=False).graph
        found = [TensorSpec.of(ir.serde.deserialize_value_info_proto(value, None)) for value in graph.input]
    except Exception as error:  # of protobuf and onnx_ir, which share no base
        raise ArtifactsError(f"{path} cannot be read", remedy="build the artifacts again") from error
    for spec, value in zip(manifest.inputs, found):
        # In our graphs a vendor's input may have a name of ours, see `tgdonnx.artifacts.names`.
        named = value.name in (spec.name, spec.vendor_name) or value.name.startswith(PREFIX)
        if not named or (spec.dtype, spec.shape) != (value.dtype, value.shape):
            _refuse(directory, f"a step is fed {spec}", value)
    if len(found) < len(manifest.inputs):
        _refuse(directory, f"a step is fed {len(manifest.inputs)} arrays", len(found))


def _refuse(directory: Path, said: str, found: object = None) -> None:
    other = "" if found is None else f", and the models say {_short(found)}"
    raise ArtifactsError(f"{directory / MANIFEST} says that {said}{other}", remedy="build the artifacts again")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
