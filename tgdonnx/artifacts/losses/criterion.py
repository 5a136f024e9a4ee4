"""What training minimises: the loss of one output, or the sum of those of several.

    criterion = part { "," part }
    part = [ output ":" ] loss

Where there are several parts each names its output. The name of an output that has a comma or a quote in it stands between
quotes, ``'`` or ``"``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

from tgdonnx.artifacts.losses.formula import Loss, parse_loss, quoted
from tgdonnx.errors import ArtifactsError

# Quoted names and brackets hold commas and colons that separate nothing.
_SOLID = re.compile(r"'[^']*'|\"[^\"]*\"|\([^()]*\)|\[[^\[\]]*\]")
_PLAIN = re.compile(r"[^\s,'\"()\[\]](?:[^,'\"()\[\]]*[^\s,'\"()\[\]])?")


@dataclass(frozen=True)
class Part:
    """The loss of one output.

    Attributes:
        output: its name; None for the only one of a model, or the one that is chosen otherwise.
        loss: what is minimised of it.
    """

    output: Optional[str]
    loss: Loss

    def __str__(self) -> str:
        if self.output is None:
            return str(self.loss)
        quote = "" if _PLAIN.fullmatch(self.output) else "'" if "'" not in self.output else '"'
        return f"{quote}{self.output}{quote}: {self.loss}"


@dataclass(frozen=True)
class Criterion:
    """What training minimises: the sum of the losses of all parts.

    Attributes:
        parts: in the order in which they were written; with an output each where there are several.
    """

    parts: tuple[Part, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.parts))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs that it names."""
        return tuple(part.output for part in self.parts if part.output is not None)


def parse_criterion(text: str) -> Criterion:
    """Reads what training minimises, such as ``l1`` or ``boxes: l1, scores: 2*bce``.

    >>> [(part.output, str(part.loss)) for part in parse_criterion("boxes: l1, scores: 2*bce").parts]
    [('boxes', 'l1'), ('scores', '2.0*bce')]

    Raises:
        ArtifactsError: it is none.
    """
    flat = _SOLID.sub(lambda match: "_" * len(match[0]), text)
    ends = [*(place for place, letter in enumerate(flat) if letter == ","), len(text)]
    starts = [0, *(end + 1 for end in ends[:-1])]
    parts = [_part(text[start:end], flat[start:end]) for start, end in zip(starts, ends)]
    names = [part.output for part in parts]
    if len(parts) > 1 and None in names:
        raise ArtifactsError(
            f"expected every part of the loss {quoted(text)} to name its output, as in 'boxes: l1, scores: 2*bce'; "
            f"{str(parts[names.index(None)])!r} names none"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ArtifactsError(
            f"expected every output once in the loss {quoted(text)}; {twice!r} is there twice: add its losses (+)"
        )
    return Criterion(tuple(parts))


def _part(text: str, flat: str) -> Part:
    place = flat.rfind(":")  # names of outputs may have colons, losses have none
    if place < 0:
        return Part(None, parse_loss(text))
    name = text[:place].strip()
    if len(name) > 1 and name[0] in "'\"" and name[-1] == name[0]:
        name = name[1:-1]
    if not name:
        raise ArtifactsError(f"expected the name of an output before the colon in the loss {quoted(text.strip())}")
    return Part(name, parse_loss(text[place + 1 :]))
