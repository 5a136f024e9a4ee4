"""What classes are called, and who says so: the user, the run that is named, or the record of training in the model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tgdonnx.data.class_names import shown
from tgdonnx.errors import DataError


@dataclass(frozen=True)
class ClassNames:
    """What the classes are called.

    Attributes:
        names: in the order of the model's outputs; none where nobody says them.
        teller: who says them, for messages.
        remark: that others are recorded than are said; empty if none are.
    """

    names: tuple[str, ...] = ()
    teller: str = ""
    remark: str = ""

    def require_count(self, count: int) -> None:
        """Checks that every class has a name, and every name a class.

        Args:
            count: of the model's classes, 2 or more.

        Raises:
            DataError: there are more or fewer names.
        """
        if self.names and len(self.names) != count:
            named = "1 class" if len(self.names) == 1 else f"{len(self.names)} classes"
            raise DataError(
                f"{self.teller} names {named} ({shown(self.names)}), the model has {count}",
                remedy=f"name all {count} with `classes`, in the model's order",
            )

    def name(self, number: int) -> str:
        """Returns what a class is called, counted from 0: its name, or its number where nothing names it."""
        return self.names[number] if self.names else str(number)


def class_names(said: Sequence[str], recorded: Iterable[tuple[str, Sequence[str]]]) -> ClassNames:
    """Returns what classes are called: as it is said, or else as whoever comes first says it.

    Args:
        said: names that the user says; none if the user says nothing.
        recorded: who else may say names, and these.
    """
    teller, known = next(((who, tuple(names)) for who, names in recorded if names), ("", ()))
    if not said:
        return ClassNames(known, teller)
    names = tuple(said)
    remark = f"{teller} calls the classes {shown(known)}; they go by `classes` here: {shown(names)}"
    return ClassNames(names, "`classes`", remark if known and known != names else "")
