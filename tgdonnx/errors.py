"""The errors a user can cause, and nothing else.

Each is also a builtin error, so code that does not know tgdonnx can still catch it. Messages say what was expected,
what came, where, and the remedy, and name options and functions as Python does, see `tgdonnx.calls`; the command line prints
them in its own words and exits with 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Optional


class TgdonnxError(Exception):
    """Base of everything that tgdonnx raises on purpose.

    Attributes:
        problem: what is wrong.
        remedy: what would help; empty where ``problem`` says it, or nothing would.
        node: the node that it is about; empty if it is about none.
        op_type: its operator.
    """

    def __init__(self, problem: str = "", *, remedy: str = "", node: str = "", op_type: str = "") -> None:
        super().__init__(f"{problem}; {remedy}" if remedy else problem)
        self.problem, self.remedy, self.node, self.op_type = problem, remedy, node, op_type

    def __reduce__(self) -> tuple[object, ...]:
        # Without this an error could not come back from another process: its arguments are not those of Exception.
        return _restored, (type(self), self.args), self.__dict__

    def add(self, text: str) -> None:
        """Puts more behind the message: what an outer layer knows of where things are, and how to go on."""
        self.args = (f"{self}; {text}",)


def _restored(kind: type[TgdonnxError], arguments: tuple[object, ...]) -> TgdonnxError:
    """Returns an error as it was raised; its attributes are put back by whoever unpickles it."""
    error = kind.__new__(kind)
    error.args = arguments
    return error


class ModelFileError(TgdonnxError, ValueError):
    """The file is no ONNX model that can be worked with: damaged, empty, without a layer, or lacking its data."""


class IntegerArithmeticError(ModelFileError):
    """The model has no layer to work with because its convolutions compute with integers."""


class NonFiniteWeightError(TgdonnxError, ValueError):
    """A weight holds NaN or infinity, so it cannot be scored."""


class SelectionError(TgdonnxError, ValueError):
    """The selection is wrong in itself or selects no filter."""


class NothingLeftError(SelectionError):
    """All that is selected was trained by an earlier round, which is to be protected."""


class MaskedModelError(TgdonnxError, ValueError):
    """The model lacks retrain masks, or they do not fit its tensors."""


class UntrainableError(TgdonnxError, ValueError):
    """A node on a gradient path cannot be differentiated, or the model cannot be adapted to the training runtime."""


class ArtifactsError(TgdonnxError, ValueError):
    """The artifacts directory is incomplete, of another format, or not in the state that the command needs."""


class DataError(TgdonnxError, ValueError):
    """The data does not fit the model: names, rank, shape, dtype, or values.

    Attributes:
        options: options with which it would fit, by the names that Python gives them; empty where none is known.
        also: what else was found to be wrong with the same data.
    """

    def __init__(self, problem: str = "", *, remedy: str = "", options: Optional[Mapping[str, object]] = None) -> None:
        super().__init__(problem, remedy=remedy)
        self.options: Mapping[str, object] = {} if options is None else options
        self.also: tuple[DataError, ...] = ()


class MissingArrayError(DataError):
    """The data lacks an array that the model needs.

    Attributes:
        array: its name.
    """

    def __init__(
        self, message: str, array: str, *, remedy: str = "", options: Optional[Mapping[str, object]] = None
    ) -> None:
        super().__init__(message, remedy=remedy, options=options)
        self.array = array


class StoppedError(TgdonnxError, RuntimeError):
    """A signal stopped the work before its result was there. What was done is kept where the message says.

    Attributes:
        signal: its number.
    """

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


class KeptError(TgdonnxError, RuntimeError):
    """Something that nobody foresaw failed after training; what was trained is kept.

    Attributes:
        directory: the artifacts.
        call: what goes on from there.
    """

    def __init__(self, message: str, directory: Path, call: str) -> None:
        super().__init__(message)
        self.directory = directory
        self.call = call


class DivergedError(TgdonnxError, ArithmeticError):
    """Training reached a loss that is not finite. The last good checkpoint is kept."""


class FederationError(TgdonnxError, RuntimeError):
    """Too few sites took part in federated training, or what they sent did not count."""


class OutputError(TgdonnxError, OSError):
    """The result cannot be written where it was asked for."""


class RuntimeMissingError(TgdonnxError, ImportError):
    """A runtime or library that this command needs is not installed."""


class ClusterError(TgdonnxError, RuntimeError):
    """The workers that were asked for are not there, are not alike, or died."""
