"""Facts about ONNX's operators, each in one place.

What ONNX's schemas say is asked of them: which inputs and outputs may hold real numbers, of which type an output is. What they
say in prose only, or not at all, is in tables here. Who learns a new operator enters it in those of its family.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal, Optional, Union

import onnx
import onnx_ir as ir

STANDARD_DOMAINS = ("", "ai.onnx")
"""Two spellings of the domain of ONNX's own operators."""

_UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish "
    "Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign "
    "Sqrt Swish Tan Tanh ThresholdedRelu"
)
UNARY = frozenset(_UNARY.split())
"""Functions of one number, element by element; the limits of Clip are numbers for the whole node."""

_BROADCASTING = (
    "Add And BitShift BitwiseAnd BitwiseOr BitwiseXor Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul "
    "Or PRelu Pow Sub Sum SwiGLU Where Xor"
)
BROADCASTING = frozenset(_BROADCASTING.split())
"""Functions of several numbers, element by element, after broadcasting."""

ELEMENTWISE = UNARY | BROADCASTING
"""An output element depends on the input elements at the same place, after broadcasting, and on nothing else."""

STEPS = frozenset({"Ceil", "Floor", "Round", "Sign"})
"""Whole numbers as real ones, constant piece by piece: the derivative is zero wherever there is one.

That of Hardmax is too, but what chooses a class between two layers lets nothing in front of it learn, and is refused.
"""

SIZES = frozenset({"Shape", "Size"})
"""What they give depends on how large their input is, not on its elements."""

RESHAPING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
"""The same elements in the same order, under other axes."""

_REDUCED = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
REDUCTIONS = frozenset(f"Reduce{kind}" for kind in _REDUCED)
"""One number for all elements along some axes."""

EXTREME_PLACES = frozenset({"ArgMax", "ArgMin"})
"""The place of the extreme along one axis."""

SOFTMAXES = frozenset({"Hardmax", "LogSoftmax", "Softmax"})
"""They weigh the elements along an axis against each other; before opset 13, along all axes from one on."""

POOLS = frozenset({"AveragePool", "LpPool", "MaxPool"})
"""One number for a window that slides over space."""

GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool"})
"""One number for all of space."""

RESIZES = frozenset({"Resize", "Upsample"})

CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
"""Operators with filters that slide over space."""

MATRIX_PRODUCTS = frozenset({"Gemm", "MatMul"})
"""Operators with filters where their second operand is stored."""

QUANTIZERS = frozenset({"DequantizeLinear", "QuantizeLinear"})
"""From real numbers to whole ones that stand for them, and back; the further inputs are the grid."""

_INTEGER_ARITHMETIC = frozenset(
    {"ConvInteger", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat", "QGemm"}
)

ChannelRole = Literal["scale", "offset", "mean", "variance", "divisor", "slope"]

CHANNEL_INPUTS: Mapping[str, Mapping[int, ChannelRole]] = {
    "BatchNormalization": {1: "scale", 2: "offset", 3: "mean", 4: "variance"},
    "GroupNormalization": {1: "scale", 2: "offset"},
    "InstanceNormalization": {1: "scale", 2: "offset"},
    "LayerNormalization": {1: "scale", 2: "offset"},
    "RMSNormalization": {1: "scale"},
    "PRelu": {1: "slope"},
    "Add": {0: "offset", 1: "offset"},
    "Mul": {0: "scale", 1: "scale"},
    "Sub": {1: "mean"},
    "Div": {1: "divisor"},
}
"""Inputs that may hold one number per channel, and what the number is for."""

CHANNEL_AXES: Mapping[str, int] = {
    "BatchNormalization": 1,
    "GroupNormalization": 1,
    "InstanceNormalization": 1,
    "LayerNormalization": -1,
    "RMSNormalization": -1,
}
"""The axis of the channels, of norms; in arithmetic, broadcasting says which it is."""

DTYPE_ATTRIBUTES = frozenset(
    {
        ("Bernoulli", "dtype"),
        ("Cast", "to"),
        ("EyeLike", "dtype"),
        ("RandomNormal", "dtype"),
        ("RandomNormalLike", "dtype"),
        ("RandomUniform", "dtype"),
        ("RandomUniformLike", "dtype"),
    }
)
"""Attributes that say of which type of real numbers an output is."""

# By schema these inputs may be real numbers, and no small change of them is one of the output: they are read for their size,
# their type, or as places, counts, factors of sizes and probabilities.
_NO_VALUES: Mapping[str, tuple[int, ...]] = {
    "Bernoulli": (0,),
    "CastLike": (1,),
    "Dropout": (1,),
    "EyeLike": (0,),
    "OneHot": (0, 1),
    "RandomNormalLike": (0,),
    "RandomUniformLike": (0,),
    "Range": (1,),
    "Resize": (1, 2),
    "Upsample": (1,),
}


def opset_of(graph: ir.Graph) -> int:
    """Returns the version of ONNX's operator set that a graph imports; that of the first, if it imports none."""
    return max(graph.opset_imports.get(domain, 1) for domain in STANDARD_DOMAINS)


def is_standard(node: ir.Node, op_types: Union[str, frozenset[str], None] = None) -> bool:
    """Whether a node is of one of ONNX's own operators; of these, if any are named."""
    if node.domain not in STANDARD_DOMAINS:
        return False
    return op_types is None or (node.op_type == op_types if isinstance(op_types, str) else node.op_type in op_types)


def is_integer_arithmetic(node: ir.Node) -> bool:
    """Whether a node computes with integers, or with a grid that it chooses itself, and so has no gradient."""
    return node.op_type.startswith("QLinear") or node.op_type in _INTEGER_ARITHMETIC


def value_inputs(node: ir.Node) -> tuple[int, ...]:
    """Returns the places of the inputs that a node computes with; others are sizes, places, or conditions, or left out.

    Whole numbers that stand for real ones count as values. Of an operator that ONNX does not know, all inputs are.
    """
    places = [place for place, value in enumerate(node.inputs) if value is not None]
    known = _known_ports(node)
    if known is None:
        return tuple(places)
    if node.op_type in STEPS:
        return ()
    real, last = known[0], len(known[0]) - 1  # the last may be of any number
    excluded = _NO_VALUES.get(node.op_type, ())
    return tuple(place for place in places if place not in excluded and real[min(place, last)])


def value_outputs(node: ir.Node) -> tuple[int, ...]:
    """Returns the places of the outputs that may change by a small change of an input; others are places or conditions."""
    known = _known_ports(node)
    if known is None:
        return tuple(range(len(node.outputs)))
    real, last = known[1], len(known[1]) - 1
    return tuple(place for place in range(len(node.outputs)) if real[min(place, last)])


def rounds(node: ir.Node) -> bool:
    """Whether a node is a cast of real numbers to others, whole ones or truth values."""
    return is_standard(node, "Cast") and not ir.DataType(node.attributes["to"].as_int()).is_floating_point()


def _known_ports(node: ir.Node) -> Optional[tuple[tuple[bool, ...], tuple[bool, ...]]]:
    """Says of each input and output whether it may be real; None of a node of which no schema tells."""
    if not is_standard(node) or is_integer_arithmetic(node) or node.op_type in QUANTIZERS:
        return None
    return _real_ports(node.op_type)


@cache
def _real_ports(op_type: str) -> Optional[tuple[tuple[bool, ...], tuple[bool, ...]]]:
    schema = schema_of(op_type)
    if schema is None:
        return None
    inputs, outputs = (tuple(_is_real(formal) for formal in ports) for ports in (schema.inputs, schema.outputs))
    return inputs, outputs


# Numbers of 8 bits and less are what real ones are quantised to.
_REAL = re.compile(r"\b(b?float16|float|double|complex\d+)\b")


def _is_real(formal: onnx.defs.OpSchema.FormalParameter) -> bool:
    return any(_REAL.search(kind) for kind in formal.types)


@cache
def schema_of(op_type: str, version: Optional[int] = None) -> Optional[onnx.defs.OpSchema]:
    """Returns what ONNX says of one of its own operators, in an operator set or in the newest; None where it has none."""
    try:
        return onnx.defs.get_schema(op_type, "") if version is None else onnx.defs.get_schema(op_type, version, "")
    except onnx.defs.SchemaError:
        return None


def output_types(node: ir.Node, version: int) -> Sequence[Optional[ir.DataType]]:
    """Returns the types of the outputs of a node, as far as its operator, attributes and the types of its inputs tell them.

    Args:
        node: the node.
        version: of the default operator set.
    """
    if is_standard(node) and node.op_type in _TYPED_BY_ATTRIBUTE:
        named = next(
            (node.attributes[name] for op, name in _TYPE_NAMES if op == node.op_type and name in node.attributes), None
        )
        if named is not None:
            return [ir.DataType(named.as_int())] * len(node.outputs)
    ports = _typed_ports(node.op_type, version) if is_standard(node) else None
    if ports is None:
        return [None] * len(node.outputs)
    inputs, outputs = ports
    known = {
        inputs[min(place, len(inputs) - 1)]: value.dtype
        for place, value in reversed(list(enumerate(node.inputs)))
        if value is not None and value.dtype is not None
    }
    found = [outputs[min(place, len(outputs) - 1)] for place in range(len(node.outputs))]
    return [known.get(variable, only) for variable, only in found]


_TYPE_NAMES = DTYPE_ATTRIBUTES | {("QuantizeLinear", "output_dtype")}
_TYPED_BY_ATTRIBUTE = frozenset(op_type for op_type, _ in _TYPE_NAMES)


@cache
def _typed_ports(
    op_type: str, version: int
) -> Optional[tuple[tuple[str, ...], tuple[tuple[str, Optional[ir.DataType]], ...]]]:
    """Returns the type variables of the inputs; and those of the outputs, with their type where there is only one."""
    schema = schema_of(op_type, version)
    if schema is None:
        return None
    outputs = [(formal.type_str, [_TYPES.get(kind) for kind in formal.types]) for formal in schema.outputs]
    return tuple(formal.type_str for formal in schema.inputs), tuple(
        (variable, kinds[0] if len(kinds) == 1 else None) for variable, kinds in outputs
    )


_TYPES = {
    "tensor(bool)": ir.DataType.BOOL,
    "tensor(double)": ir.DataType.DOUBLE,
    "tensor(float)": ir.DataType.FLOAT,
    "tensor(int32)": ir.DataType.INT32,
    "tensor(int64)": ir.DataType.INT64,
}
