"""Nodes with bodies whose numbers of inputs and outputs do not fit together: the runtime indexes one list by the other."""

from __future__ import annotations

from collections.abc import Iterator

from tgdonnx.runtime.node_protos import NodeProtoView


def if_problems(view: NodeProtoView) -> Iterator[str]:
    """Yields what is wrong with an If, to be read after its name."""
    for name in ("then_branch", "else_branch"):
        branch = view.graph(name)
        if branch is None:
            yield f"has no {name}"
        elif branch.input or len(branch.output) != len(view.node.output):
            yield (
                f"has a {name} of {len(branch.input)} inputs and {len(branch.output)} outputs; "
                f"expected 0 and {len(view.node.output)}"
            )


def loop_problems(view: NodeProtoView) -> Iterator[str]:
    """Yields what is wrong with a Loop, to be read after its name."""
    body = view.graph("body")
    inputs, outputs = len(view.node.input), len(view.node.output)
    if body is None:
        yield "has no body"
    elif len(body.input) != inputs or inputs < 2:
        yield f"has {inputs} inputs and its body {len(body.input)}; expected as many, and 2 at least"
    elif len(body.output) != outputs + 1 or outputs < inputs - 2:
        yield f"carries {inputs - 2} values and has {outputs} outputs, and its body has {len(body.output)}; expected one more"


def scan_problems(view: NodeProtoView) -> Iterator[str]:
    """Yields what is wrong with a Scan, to be read after its name."""
    body = view.graph("body")
    scanned = view.integers("num_scan_inputs")
    # Before opset 9 the first input says how long sequences are, and the body does not take it.
    inputs, outputs = len(view.node.input) - (view.opset < 9), len(view.node.output)
    if body is None:
        yield "has no body"
    elif scanned is None or not 1 <= scanned[0] <= inputs:
        yield f"has num_scan_inputs {'missing' if scanned is None else scanned[0]}; expected 1 to its {inputs} inputs"
    elif len(body.input) != inputs or len(body.output) != outputs or outputs < inputs - scanned[0]:
        yield (
            f"has {inputs} inputs and {outputs} outputs, and its body {len(body.input)} and {len(body.output)}; "
            f"expected as many, with an output for each of {inputs - scanned[0]} states"
        )
