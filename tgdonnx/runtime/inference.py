"""A model opened for inference: as the standard says, whatever its IR version, with errors that are sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Optional, Union

import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common as passes

from tgdonnx.errors import DataError, ModelFileError, RuntimeMissingError
from tgdonnx.files.model_file import ModelFile, require_external_data
from tgdonnx.runtime.devices import CPU, Device, open_session
from tgdonnx.runtime.error_text import reason_of
from tgdonnx.runtime.importing import load_onnxruntime
from tgdonnx.runtime.opsets import NEWEST, as_known
from tgdonnx.runtime.options import NOTHING, session_options
from tgdonnx.runtime.packing import pack, serialize
from tgdonnx.runtime.soundness import require_sound

Array = NDArray[Any]
_DTYPES = {
    "float16": "float16",
    "float": "float32",
    "double": "float64",
    "bool": "bool",
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}


@dataclass(frozen=True)
class Port:
    """An input or output of a model.

    Attributes:
        name: its name.
        dtype: the numpy dtype of its elements; None for text, numbers that numpy lacks, and what is no tensor.
        kind: the type as the runtime writes it, such as ``tensor(float)``.
        shape: its sizes, None for an open one; None altogether if the rank is open, too.
    """

    name: str
    dtype: Optional[str]
    kind: str
    shape: Optional[tuple[Optional[int], ...]]


@dataclass(frozen=True)
class InferenceModel:
    """A model that is ready to run.

    It holds a session, with threads and the weights as the kernels want them: let go of it when done.

    Attributes:
        inputs: what it has to be fed; inputs with values of their own are left out.
        outputs: what it gives.
        what: what messages call it.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    what: str = field(repr=False)
    _session: Any = field(repr=False)

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs."""
        return tuple(port.name for port in self.outputs)

    def run(
        self,
        feeds: Mapping[str, Array],
        outputs: Optional[Sequence[str]] = None,
        *,
        given: Mapping[str, Array] = MappingProxyType({}),
    ) -> list[Array]:
        """Returns outputs for what is fed.

        Args:
            feeds: an array for the name of each input.
            outputs: the names of the outputs that are wanted; all if None.
            given: what is fed besides, and is no data: messages leave it out.

        Raises:
            DataError: the model cannot be run on the data.
        """
        options = load_onnxruntime().RunOptions()
        options.log_severity_level = NOTHING
        try:
            found: list[Array] = self._session.run(
                None if outputs is None else list(outputs), {**feeds, **given}, options
            )
        except Exception as error:  # the runtime raises its own types, which share no base
            sizes = ", ".join(f"{name} {list(array.shape)}" for name, array in feeds.items())
            raise DataError(f"{self.what} cannot be run on {sizes}: {reason_of(error)}") from error
        return found


def open_inference(
    model: Union[ModelFile, onnx.ModelProto],
    *,
    outputs: Optional[Sequence[str]] = None,
    what: str = "the model",
    device: Device = CPU,
) -> InferenceModel:
    """Opens a model for inference.

    It is opened from memory: the IR version is clamped and the operator set lowered, where that means the same, in a copy.
    Nothing is fused that would change results beyond rounding.

    Args:
        model: a file as it was read, with its external data beside it; or a model without external data. It stays as it is.
        outputs: the names of the outputs to give; all if None. What they do not need is not run, so it cannot fail.
        what: what messages call it.
        device: where to run it.

    Raises:
        RuntimeMissingError: no onnxruntime is installed, or it does not take the device.
        ModelFileError: external data is not usable, the model would crash the runtime, or the runtime cannot load it.
    """
    runtime = load_onnxruntime()
    folder = None
    if isinstance(model, ModelFile):
        require_external_data(model)
        model, folder = model.proto, model.path.parent
    require_sound(model, what)
    packed = pack(model, folder)
    known, problem = as_known(packed.model if outputs is None else _cut(packed.model, outputs))
    content = serialize(known)
    options = session_options()
    values = [runtime.OrtValue.ortvalue_from_numpy(array) for array in packed.beside.values()]
    if values:
        options.add_external_initializers(list(packed.beside), values)
    try:
        session = open_session(content, device, options)
    except RuntimeMissingError:
        raise
    except Exception as error:  # the runtime raises its own types, which share no base
        remedy = "" if problem is None else f"; {problem}: export the model with opset {NEWEST}"
        raise ModelFileError(
            f"ONNX Runtime {runtime.__version__} cannot load {what}: {reason_of(error)}{remedy}"
        ) from error
    inputs = tuple(_port(value) for value in session.get_inputs())
    return InferenceModel(inputs, tuple(_port(value) for value in session.get_outputs()), what, session)


def _cut(model: onnx.ModelProto, outputs: Sequence[str]) -> onnx.ModelProto:
    """Returns a model that gives some of the outputs of another and takes the same inputs."""
    cut = ir.from_proto(model)
    given = {value.name: value for value in cut.graph.outputs}
    cut.graph.outputs[:] = [given[name] for name in outputs]
    passes.RemoveUnusedNodesPass()(cut)
    return ir.to_proto(cut)


def _port(value: Any) -> Port:
    kind = str(value.type)
    element = kind[len("tensor(") : -1] if kind.startswith("tensor(") else ""
    sizes = tuple(size if isinstance(size, int) and size > 0 else None for size in value.shape)
    return Port(str(value.name), _DTYPES.get(element), kind, sizes or None)
