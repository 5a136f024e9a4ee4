"""Einsum of one or two operands, as a MatMul between transposes.

The letters of two operands are of four kinds: in both and in the result (batch), in both only (contracted), in one
and in the result (free), in one only (summed first). With the axes of each operand ordered by kind, the Einsum is a
MatMul of (batch, free, contracted) by (batch, contracted, free), where the letters of a kind but batch are one axis.
Nothing contracted makes it a product of broadcast operands. The dimensions that "..." stands for are letters too.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from tgdonnx.lowering.arithmetic import Arithmetic, Number, attribute
from tgdonnx.lowering.emitting import Emitter, Lowering

_Letters = Sequence[str]


class LowerEinsum(Lowering):
    """Replaces Einsum nodes of one or two operands."""

    op_types = frozenset({"Einsum"})

    def rewrite(self, emit: Emitter, node: ir.Node) -> ir.Value:
        """Writes the products and transposes."""
        a = Arithmetic(emit)
        operands = [value for value in node.inputs if value is not None]
        equation = str(attribute(node, "equation", "")).replace(" ", "")
        terms, result = _parse(a, equation, operands)
        if len(operands) > 2:
            raise a.refusal(
                f"has {len(operands)} operands; one or two can be trained through", "split it into Einsums of two"
            )
        for term in terms:
            if len(set(term)) < len(term):
                raise a.refusal(f"takes a diagonal: {equation!r} repeats a letter", "export the model without it")
        strangers = set(result) - {letter for term in terms for letter in term}
        if strangers or len(terms) < len(operands):
            raise a.refusal(f"has the equation {equation!r}, which does not fit its operands", "correct it")
        if len(operands) == 1:
            return _ordered(emit, _summed(emit, operands[0], terms[0], result), terms[0], result)
        return a.tidy(_product(emit, a, operands, terms, result))


def _parse(a: Arithmetic, equation: str, operands: Sequence[ir.Value]) -> tuple[list[list[str]], list[str]]:
    """Returns the letters of each operand and of the result; dimensions under "..." are called ".1", ".2", ..."""
    left, arrow, right = equation.partition("->")
    terms: list[list[str]] = []
    for term, operand in zip(left.split(","), operands):
        if operand.shape is None:
            raise a.refusal("has an input whose rank is not known", "declare the shapes of the inputs of the model")
        hidden = len(operand.shape) - len(term.replace("...", ""))
        if hidden < 0 or (hidden and "..." not in term):
            raise a.refusal(
                f"has the equation {equation!r}, which does not fit rank {len(operand.shape)}", "correct it"
            )
        terms.append(_letters(term, hidden))
    hidden = max((int(letter[1:]) for term in terms for letter in term if letter[0] == "."), default=0)
    if arrow:
        return terms, _letters(right, hidden)
    flat = [letter for term in terms for letter in term]
    named = sorted(letter for letter in set(flat) if flat.count(letter) == 1 and letter[0] != ".")
    return terms, [*_letters("...", hidden), *named]


def _letters(term: str, hidden: int) -> list[str]:
    head, dots, tail = term.partition("...")
    return [*head, *(f".{n}" for n in range(hidden, 0, -1) if dots), *tail]


def _summed(emit: Emitter, x: ir.Value, letters: list[str], kept: _Letters) -> ir.Value:
    """Sums over the letters that are not kept, and takes them off the list."""
    axes = [axis for axis, letter in enumerate(letters) if letter not in kept]
    if not axes:
        return x
    letters[:] = [letter for letter in letters if letter in kept]
    return emit.reduce("ReduceSum", x, axes, keepdims=False)


def _ordered(emit: Emitter, x: ir.Value, letters: _Letters, order: _Letters) -> ir.Value:
    """Transposes ``x`` from one order of letters to another."""
    if list(letters) == list(order):
        return x
    return emit("Transpose", x, perm=[list(letters).index(letter) for letter in order])


def _product(
    emit: Emitter, a: Arithmetic, operands: Sequence[ir.Value], terms: list[list[str]], result: list[str]
) -> ir.Value:
    sizes: dict[str, Number] = {}
    for operand, term in zip(operands, terms):
        for axis, letter in enumerate(term):
            size = a.size(operand, axis)
            known = sizes.get(letter, size)
            if not isinstance(known, ir.Value) and not isinstance(size, ir.Value) and int(known) != int(size):
                raise a.refusal(
                    f"repeats a dimension of size 1 to size {max(known, size)}", "expand it before the Einsum"
                )
            sizes[letter] = known if isinstance(size, ir.Value) else size
    first, second = terms
    x = _summed(emit, operands[0], first, [*second, *result])
    y = _summed(emit, operands[1], second, [*first, *result])
    batch = [letter for letter in result if letter in first and letter in second]
    contracted = [letter for letter in first if letter in second and letter not in result]
    rows = [letter for letter in result if letter in first and letter not in second]
    columns = [letter for letter in result if letter in second and letter not in first]

    def size_of(letters: _Letters) -> Number:
        return a.product([sizes[letter] for letter in letters])

    batch_sizes = [sizes[letter] for letter in batch]
    left = a.reshape(
        _ordered(emit, x, first, [*batch, *rows, *contracted]), [*batch_sizes, size_of(rows), size_of(contracted)]
    )
    right = a.reshape(
        _ordered(emit, y, second, [*batch, *contracted, *columns]),
        [*batch_sizes, size_of(contracted), size_of(columns)],
    )
    joined = emit("MatMul" if contracted else "Mul", left, right)
    found = [*batch, *rows, *columns]
    joined = a.reshape(joined, [sizes[letter] for letter in found])
    return _ordered(emit, joined, found, result)
