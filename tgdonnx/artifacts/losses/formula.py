"""What a loss is made of, and what it asks of outputs and targets.

    loss = term { "+" term }
    term = [ weight "*" ] name [ "(" parameter "=" value { "," parameter "=" value } ")" ]
    value = number | "[" number { "," number } "]" | name | "'" name "'"

A weight is a positive decimal number; every name occurs once. Spaces do not matter. Losses of class indices do not go with
others in one sum: the targets of the others are arrays like the output.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import Any, Optional, Union, get_type_hints

import msgspec

from tgdonnx.artifacts.losses.function import LossFunction, Targets
from tgdonnx.artifacts.losses.functions import BY_NAME, LOSSES
from tgdonnx.errors import ArtifactsError

_TERM = re.compile(
    r"\s*(?:(?P<weight>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*\*\s*)?(?P<name>[A-Za-z_]\w*)"
    r"(?:\s*(?P<parameters>\((?:'[^']*'|[^()'])*\)))?\s*(?P<end>\+|$)"
)
_PARAMETER = re.compile(
    r"\s*(?P<key>[A-Za-z_]\w*)\s*=\s*(?P<value>\[[^\[\]]*\]\s*|'[^']*'\s*|[^,'\[\]]+)(?P<end>,|$)",
)
_WORD = re.compile(r"[A-Za-z_][\w.]*")
_INTEGER = re.compile(r"[-+]?\d+")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")

_SHOWN = 200

Written = Union[int, float, str, tuple[Union[int, float], ...]]


@dataclass(frozen=True)
class Term:
    """One loss in a sum.

    Attributes:
        weight: its factor, positive.
        function: which loss, with its parameters.
    """

    weight: float
    function: LossFunction

    def __str__(self) -> str:
        said = ",".join(
            f"{name}={_text(value)}"
            for name, default in _parameters(type(self.function)).items()
            if (value := getattr(self.function, name)) != default
        )
        factor = "" if self.weight == 1 else f"{self.weight!r}*"
        return f"{factor}{self.function.name}{f'({said})' if said else ''}"


@dataclass(frozen=True)
class Loss:
    """A sum of losses of one output.

    Attributes:
        terms: in the order in which they were written.
    """

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return "+".join(map(str, self.terms))

    @property
    def functions(self) -> tuple[LossFunction, ...]:
        """Which losses occur."""
        return tuple(term.function for term in self.terms)

    @property
    def targets(self) -> Targets:
        """What targets are: the narrowest of what the losses ask for."""
        asked = {function.targets for function in self.functions}
        return "classes" if "classes" in asked else "probabilities" if "probabilities" in asked else "values"

    @property
    def ignore(self) -> Optional[int]:
        """The class index that does not count; None if all do."""
        return self._common("ignore")

    @property
    def axis(self) -> Optional[int]:
        """The axis of classes, as it is said, perhaps counted from the end; None if it is not."""
        return self._common("axis")

    @property
    def weights(self) -> tuple[str, ...]:
        """The arrays of the data that say what elements count, each once."""
        named = (getattr(function, "weight", None) for function in self.functions)
        return tuple(dict.fromkeys(name for name in named if name is not None))

    def target_shape(self, output: tuple[int, ...], class_axis: int = 1) -> tuple[int, ...]:
        """Returns the shape of the targets for an output of this shape."""
        return output[:class_axis] + output[class_axis + 1 :] if self.targets == "classes" else output

    def target_limit(self, output: tuple[int, ...], class_axis: int = 1) -> Optional[int]:
        """Returns the largest value of a target, where the least is 0; None where any value goes."""
        if self.targets == "classes":
            return output[class_axis] - 1 if len(output) > 1 else 0
        return 1 if self.targets == "probabilities" else None

    def output_problem(self, output: Optional[Sequence[object]], class_axis: int = 1) -> Optional[str]:
        """Returns why an output of this shape cannot be compared, with a remedy, or None.

        Args:
            output: the sizes of its axes; what is no whole number is not known. None if not even the rank is known.
            class_axis: the axis that counts classes, of losses of class indices.
        """
        sizes = None if output is None else [size if isinstance(size, int) and size > 0 else None for size in output]
        problems = (function.problem(sizes, class_axis) for function in self.functions)
        return next((problem for problem in problems if problem is not None), None)

    def _common(self, name: str) -> Optional[int]:
        values = [getattr(function, name) for function in self.functions if hasattr(function, name)]
        return values[0] if values else None


def parse_loss(text: str) -> Loss:
    """Reads the loss of one output, such as ``l1``, ``0.8*l1+0.2*ssim`` or ``ce(ignore=255)``.

    >>> str(parse_loss("0.8*l1 + 0.2*ssim"))
    '0.8*l1+0.2*ssim'
    >>> parse_loss("huber(delta=0.5)").terms
    (Term(weight=1.0, function=Huber(delta=0.5, weight=None)),)

    Raises:
        ArtifactsError: it is none.
    """
    terms: list[Term] = []
    position, more = 0, True
    while more:
        match = _TERM.match(text, position)
        if match is None or match["name"] not in LOSSES:
            raise ArtifactsError(
                f"expected loss to be one of {', '.join(LOSSES)}, or a weighted sum such as 0.8*l1+0.2*ssim; got {quoted(text)}"
            )
        weight = 1.0 if match["weight"] is None else float(match["weight"])
        if not (math.isfinite(weight) and weight > 0):
            raise ArtifactsError(
                f"expected weights > 0 in the loss {quoted(text)}; got {match['weight']} for {match['name']}"
            )
        terms.append(Term(weight, _function(BY_NAME[match["name"]], match["parameters"])))
        position, more = match.end(), match["end"] == "+"
    loss = Loss(tuple(terms))
    _require_sum(loss, text)
    return loss


def quoted(text: str) -> str:
    """Returns what a user wrote, for a message: of a long text the beginning."""
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _require_sum(loss: Loss, text: str) -> None:
    if len({function.name for function in loss.functions}) < len(loss.terms):
        raise ArtifactsError(f"expected every loss once; got {quoted(text)}")
    kinds = {function.targets == "classes": function.name for function in loss.functions}
    if len(kinds) > 1:
        raise ArtifactsError(
            f"the losses {kinds[True]} and {kinds[False]} do not go together: the targets of one are class indices, those of "
            f"the other are like the output; got {quoted(text)}"
        )
    for name in ("ignore", "axis"):
        said = [getattr(function, name) for function in loss.functions if hasattr(function, name)]
        if len(set(said)) > 1:
            raise ArtifactsError(
                f"expected the same {name} in all losses of one sum, for they have one target; got {quoted(text)}"
            )
    if len(loss.weights) > 1:
        raise ArtifactsError(
            f"expected one array as weight in one sum, got {' and '.join(loss.weights)}; got {quoted(text)}"
        )


def _function(kind: type[LossFunction], written: Optional[str]) -> LossFunction:
    known = _parameters(kind)
    values: dict[str, Any] = {}
    inside, position = (written or "()")[1:-1], 0
    more = bool(inside.strip())
    while more:
        match = _PARAMETER.match(inside, position)
        if match is None:
            raise ArtifactsError(
                f"expected parameters such as (ignore=255, class_weights=[1, 2.5]) behind {kind.name}; got {quoted(inside)}"
            )
        key = match["key"]
        if key not in known:
            takes = f"expected {', '.join(known)}" if known else "it takes none"
            raise ArtifactsError(f"the loss {kind.name} has no parameter {key!r}; {takes}")
        if key in values:
            raise ArtifactsError(f"the loss {kind.name} has {key} twice in {quoted(inside)}; leave one out")
        values[key] = _value(kind, key, match["value"].strip())
        position, more = match.end(), match["end"] == ","
    return kind(**values)


def _value(kind: type[LossFunction], key: str, text: str) -> Any:
    try:
        return msgspec.convert(_read(text), get_type_hints(kind, include_extras=True)[key])
    except (msgspec.ValidationError, ValueError) as error:
        wanted = _wanted(kind, key)
        raise ArtifactsError(f"the loss {kind.name} expects {key} to be {wanted}, got {quoted(text)[1:-1]}") from error


def _read(text: str) -> Written:
    if text.startswith("["):
        inside = text[1:-1].strip()
        return tuple(_number(part.strip()) for part in inside.split(",")) if inside else ()
    if text.startswith("'"):
        return text[1:-1]
    return text if _WORD.fullmatch(text) else _number(text)


def _wanted(kind: type[LossFunction], key: str) -> str:
    """Returns what a parameter is, for a message."""
    hint = get_type_hints(kind, include_extras=True)[key]
    told = msgspec.inspect.type_info(hint)
    several = isinstance(told, msgspec.inspect.VarTupleType)
    item = told.item_type if isinstance(told, msgspec.inspect.VarTupleType) else told
    if isinstance(item, msgspec.inspect.UnionType):
        item = next(each for each in item.types if not isinstance(each, msgspec.inspect.NoneType))
    if isinstance(item, msgspec.inspect.IntType):
        what = "a whole number"
    elif isinstance(item, msgspec.inspect.FloatType):
        bounds = ((">", item.gt), (">=", item.ge), ("<", item.lt))
        limits = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
        what = f"a number {limits}"
    else:
        what = "the name of an array"
    return f"a list such as [1, 2.5], each {what}" if several else what


def _number(text: str) -> Union[int, float]:
    if _INTEGER.fullmatch(text):
        return int(text)
    if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    raise ValueError(f"{quoted(text)} is no number")


def _text(value: Written) -> str:
    if isinstance(value, tuple):
        return f"[{','.join(map(repr, value))}]"
    if isinstance(value, str):
        return value if _WORD.fullmatch(value) else f"'{value}'"
    return repr(value)


@cache
def _parameters(kind: type[LossFunction]) -> dict[str, Any]:
    """Returns the parameters of a loss, with what they are if not said."""
    return {field.name: field.default for field in fields(kind)}
