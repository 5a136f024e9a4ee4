"""Names of arrays brought to the names of what a training step is fed.

An array goes by its own name, or by what the user maps it to. Three things are taken for what they obviously are, and said:
where there is no ``target``, an array named like the output that trains, or else of a usual name for a target; and the only
array that is left for the only input.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from tgdonnx.data.lazy_arrays import LazyArray
from tgdonnx.data.options import DataOptions
from tgdonnx.errors import DataError, MissingArrayError
from tgdonnx.graphs.tensor_specs import TARGET, TensorSpec

USUAL_TARGETS = ("clean", "label", "labels", "mask", "masks", "gt")


def is_usual_target(name: str) -> bool:
    """Whether an array is named as targets usually are; ``target`` itself is."""
    return name.lower() in (TARGET, *USUAL_TARGETS)


def targets_among(names: Collection[str], inputs: Sequence[TensorSpec]) -> list[str]:
    """Returns the names that may be of the target: that of the output that trains, or else those that are usual."""
    outputs = {spec.vendor_name for spec in inputs if spec.name == TARGET and spec.role == "target"}
    return [name for name in names if name in outputs] or [name for name in names if is_usual_target(name)]


def resolved_map(given: Mapping[str, str], inputs: Sequence[TensorSpec]) -> Mapping[str, str]:
    """Returns what arrays are mapped to, in the names of arrays.

    Where the model itself has an input ``target``, an array that is mapped to ``target`` is for that input, and the array
    ``target`` is what the output is compared with; unless another array is mapped to that input by its name as an array.
    """
    other = next((spec.name for spec in inputs if spec.role == "input" and spec.vendor_name == TARGET), None)
    if other is None or other in given.values():
        return given
    return {array: other if name == TARGET else name for array, name in given.items()}


def named_arrays(
    arrays: Mapping[str, LazyArray],
    inputs: Sequence[TensorSpec],
    options: DataOptions,
    where: str,
    ignored: Collection[str],
) -> dict[str, LazyArray]:
    """Returns the arrays of a group by the names of what a step is fed, and those that are not asked for by their own.

    Args:
        arrays: of the group.
        inputs: what a step is fed.
        options: which array is for which input.
        where: the group, for messages.
        ignored: names of arrays of which nobody needs to hear that nothing takes them; with ``target``, those of usual targets.

    Raises:
        DataError: an array that is mapped is missing, or two are for the same input.
    """
    found = _mapped(arrays, resolved_map(options.map, inputs), where)
    expected = [spec.name for spec in inputs]
    targets = targets_among([name for name in found if name not in expected], inputs)
    if TARGET in expected and TARGET not in found and len(targets) == 1:
        _take(found, targets[0], TARGET)
    only = [spec for spec in inputs if spec.role == "input"]
    missing = [spec.name for spec in only if spec.name not in found]
    others = spare_arrays(found, inputs, ignored)
    # A model that has an input called target needs to be told what is what.
    if missing and len(only) == 1 and only[0].vendor_name is None and len(others) == 1:
        _take(found, others[0], missing[0])
    return found


def naming_problems(
    arrays: Mapping[str, LazyArray], inputs: Sequence[TensorSpec], where: str, ignored: Collection[str]
) -> Iterator[DataError]:
    """Yields what is wrong with the names of a group: the arrays that are missing.

    Args:
        arrays: as `named_arrays` gives them.
        inputs: what a step is fed.
        where: the group, for messages.
        ignored: as of `named_arrays`.
    """
    expected = [spec.name for spec in inputs]
    missing = [name for name in expected if name not in arrays]
    spare = spare_arrays(arrays, inputs, ignored)
    for name in missing:
        targets = targets_among(spare, inputs)
        candidates = targets if name == TARGET and targets else spare
        said = " or ".join(f"`map={{{array!r}: {name!r}}}`" for array in candidates[:3])
        yield MissingArrayError(
            f"{where} has no array {name!r}; expected {', '.join(expected)}, found {names_of(arrays)}{_hint(inputs)}",
            name,
            remedy=f"if it goes by another name, say which: {said}" if said else "",
            options={"map": {candidates[0]: name}} if len(candidates) == 1 and len(missing) == 1 else None,
        )


def spare_arrays(
    arrays: Mapping[str, LazyArray], inputs: Sequence[TensorSpec], ignored: Collection[str]
) -> tuple[str, ...]:
    """Returns the names of arrays that nothing takes.

    Args:
        arrays: as `named_arrays` gives them.
        inputs: what a step is fed.
        ignored: as of `named_arrays`.
    """
    expected = {spec.name for spec in inputs}
    return tuple(name for name in arrays if name not in expected and not _may_be_there(name, ignored))


def names_of(arrays: Mapping[str, LazyArray]) -> str:
    """Returns names of arrays, in words."""
    names = sorted(arrays)
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return (", ".join(names[:10]) or "none") + more


def _may_be_there(name: str, ignored: Collection[str]) -> bool:
    return name in ignored or (TARGET in ignored and is_usual_target(name))


def _take(found: dict[str, LazyArray], array: str, name: str) -> None:
    stored = found.pop(array)
    what = "the target" if name == TARGET else f"the only array for the only input, {name!r}"
    found[name] = replace(stored, remarks=(*stored.remarks, f"{array}: taken as {what}"))


def _mapped(arrays: Mapping[str, LazyArray], mapped: Mapping[str, str], where: str) -> dict[str, LazyArray]:
    for array_name, input_name in mapped.items():
        if array_name not in arrays:
            raise MissingArrayError(
                f"{where} has no array {array_name!r} to map to {input_name!r}; it has {names_of(arrays)}", input_name
            )
    result: dict[str, LazyArray] = {}
    for name, array in arrays.items():
        new = mapped.get(name, name)
        if new in result:
            raise DataError(f"{where} has two arrays for the input {new!r}, with what is mapped to it")
        result[new] = array
    return result


def _hint(inputs: Sequence[TensorSpec]) -> str:
    spec = next((spec for spec in inputs if spec.role == "input" and spec.vendor_name is not None), None)
    if spec is None:
        return ""
    return (
        f"; {spec.name!r} is for the model's input {spec.vendor_name!r} (`map={{'ARRAY': {spec.vendor_name!r}}}`), and the "
        f"array {TARGET!r} for what the output is compared with"
    )
