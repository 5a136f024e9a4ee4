"""Names, values and numbers that no honest file has."""

from __future__ import annotations

from typing import Any

NAMES = (
    "[/bold]",
    "[link=http://example.com]x",
    "[bold red]",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "a\nError: b",
    "a\tb\rc",
    "\u202egnp.exe",
    "\u200b",
    "zero\u200dwidth\ufeff",
    "\x00",
    "\x9b31m",
    "n" * 100_000,
    "$x^2$",
    "<script>alert(1)</script>",
    "' onload='x",
    "../../../etc/passwd",
    "权重:0",
    "{{ 7*7 }}",
    "%s%n{0}",
    "loss",
    "target",
    "labels",
    "",
    " ",
    "w1.retrain_mask",
    "tgdonnx.x",
    "x_grad",
)
JUNK: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    2**63,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "\x1b[31m",
    "\ud800",
    "n" * 100_000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    ["x", 1],
    {"x": [1]},
    [[[[[[[[]]]]]]]],
)
NUMBERS = (0, 1, -1, 2, 3, 7, 999, 2**31, 2**40, -(2**40), 2**63 - 1, -(2**63))
OURS = ("tgdonnx.format", "tgdonnx.selection", "tgdonnx.base_sha256", "tgdonnx.provenance", "tgdonnx.tuned")
