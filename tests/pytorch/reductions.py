"""Reductions, normalisations, products of matrices, and losses."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from tests.pytorch.interpreter import OPERATORS, Node, operator

_REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceL1": lambda x, axes, keep: torch.linalg.vector_norm(x, 1, axes, keep),
    "ReduceL2": lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep),
    "ReduceLogSum": lambda x, axes, keep: torch.log(torch.sum(x, axes, keep)),
    "ReduceLogSumExp": lambda x, axes, keep: torch.logsumexp(x, axes, keep),
    "ReduceMax": lambda x, axes, keep: torch.amax(x, axes, keep),
    "ReduceMean": lambda x, axes, keep: torch.mean(x, axes, keep),
    "ReduceMin": lambda x, axes, keep: torch.amin(x, axes, keep),
    "ReduceSum": lambda x, axes, keep: torch.sum(x, axes, keep),
    "ReduceSumSquare": lambda x, axes, keep: torch.sum(x * x, axes, keep),
}


def _product(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keep)
    return x


_REDUCTIONS["ReduceProd"] = _product


def _reduce(node: Node, x: Tensor, axes: Tensor | None = None) -> Tensor:
    along = node.integers("axes", axes)
    if not along:
        if node.get("noop_with_empty_axes", 0):
            return x
        along = list(range(x.ndim))
    return _REDUCTIONS[node.proto.op_type](x, along, bool(node.get("keepdims", 1)))


for _name in _REDUCTIONS:
    OPERATORS[_name] = _reduce


@operator("ArgMax", "ArgMin")
def _extreme(node: Node, x: Tensor) -> Tensor:
    assert not node.get("select_last_index", 0)
    function = torch.argmax if node.proto.op_type == "ArgMax" else torch.argmin
    return function(x, node.get("axis", 0), keepdim=bool(node.get("keepdims", 1)))


@operator("CumSum")
def _cumulative(node: Node, x: Tensor, axis: Tensor) -> Tensor:
    along = int(axis)
    turned = x.flip(along) if node.get("reverse", 0) else x
    sums = torch.cumsum(turned, along)
    if node.get("exclusive", 0):
        sums = sums - turned
    return sums.flip(along) if node.get("reverse", 0) else sums


@operator("Softmax", "LogSoftmax")
def _softmax(node: Node, x: Tensor) -> Tensor:
    function = torch.softmax if node.proto.op_type == "Softmax" else torch.log_softmax
    if node.opset >= 13:
        return function(x, node.get("axis", -1))
    axis = node.get("axis", 1) % x.ndim
    return function(x.flatten(axis), -1).reshape(x.shape)  # all axes from this one on are one


@operator("MatMul")
def _matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.matmul(a, b)


@operator("Gemm")
def _gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a, b = a.T if node.get("transA", 0) else a, b.T if node.get("transB", 0) else b
    product = node.get("alpha", 1.0) * (a @ b)
    return product if c is None else product + node.get("beta", 1.0) * c


@operator("Einsum")
def _einsum(node: Node, *given: Tensor) -> Tensor:
    return torch.einsum(node.text("equation", ""), *given)


def _column(x: Tensor, value: Tensor) -> Tensor:
    return value.reshape(-1, *[1] * (x.ndim - 2))


@operator("BatchNormalization")
def _batch_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    assert not node.get("training_mode", 0)
    return functional.batch_norm(x, mean, variance, scale, bias, eps=node.get("epsilon", 1e-5))


@operator("InstanceNormalization")
def _instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return functional.group_norm(x, x.shape[1], scale, bias, node.get("epsilon", 1e-5))


@operator("GroupNormalization")
def _group_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = node.get("num_groups")
    if node.opset < 21:  # one of each for a group
        scale, bias = (value.repeat_interleave(x.shape[1] // groups) for value in (scale, bias))
    return functional.group_norm(x, groups, scale, bias, node.get("epsilon", 1e-5))


@operator("LayerNormalization")
def _layer_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    axes, epsilon = list(range(node.get("axis", -1) % x.ndim, x.ndim)), node.get("epsilon", 1e-5)
    normal = functional.layer_norm(x, x.shape[axes[0] :], eps=epsilon)
    variance = x.var(axes, correction=0, keepdim=True)
    y = normal * scale if bias is None else normal * scale + bias
    return y, x.mean(axes, keepdim=True), torch.rsqrt(variance + epsilon)


@operator("RMSNormalization")
def _rms_norm(node: Node, x: Tensor, scale: Tensor) -> Tensor:
    axis = node.get("axis", -1) % x.ndim
    return functional.rms_norm(x, x.shape[axis:], eps=node.get("epsilon", 1e-5)) * scale


@operator("GlobalLpPool")
def _global_norm(node: Node, x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, node.get("p", 2), list(range(2, x.ndim)), keepdim=True)


@operator("MeanVarianceNormalization")
def _mean_variance_norm(node: Node, x: Tensor) -> Tensor:
    axes = node.integers("axes") or [0, 2, 3]
    return (x - x.mean(axes, keepdim=True)) / (x.std(axes, correction=0, keepdim=True) + 1e-9)


@operator("LpNormalization")
def _lp_norm(node: Node, x: Tensor) -> Tensor:
    return functional.normalize(x, p=float(node.get("p", 2)), dim=node.get("axis", -1))


@operator("LRN")
def _local_response_norm(node: Node, x: Tensor) -> Tensor:
    size, alpha = node.get("size"), node.get("alpha", 1e-4)
    squares = functional.pad((x * x).flatten(2).unsqueeze(1), (0, 0, (size - 1) // 2, size // 2))
    sums = squares.unfold(2, size, 1).sum(-1).reshape(x.shape)
    return x / (node.get("bias", 1.0) + alpha / size * sums) ** node.get("beta", 0.75)


@operator("SoftmaxCrossEntropyLoss")
def _cross_entropy(node: Node, x: Tensor, labels: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    log_probability = torch.log_softmax(x, 1)
    return _likelihood(node, log_probability, labels, weights), log_probability


@operator("NegativeLogLikelihoodLoss")
def _likelihood(node: Node, x: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    ignored = node.get("ignore_index", -100)
    return functional.nll_loss(
        x, labels.long(), weights, ignore_index=ignored, reduction=node.text("reduction", "mean")
    )
