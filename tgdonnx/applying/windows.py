"""Rules of receptive fields for operators that slide a window over the image: convolutions and pools."""

from __future__ import annotations

from collections.abc import Iterator

from tgdonnx.applying import reach as reaches
from tgdonnx.applying.node_view import Axes, NotLocal, ReceptiveView
from tgdonnx.applying.reach import Reach


def _window(view: ReceptiveView, kernel: list[int]) -> Iterator[tuple[Reach, int, int, int, int, int]]:
    """Yields per axis of space: reach, kernel, stride, dilation, padding in front and behind."""
    axes = view.image()
    count = len(kernel)
    if len(axes) != count + 2 or axes[0] is not None or axes[1] is not None:
        raise NotLocal("slides over other axes than those of space")
    strides, dilations = view.integers("strides") or [1] * count, view.integers("dilations") or [1] * count
    pads, auto = view.integers("pads") or [0] * 2 * count, view.text("auto_pad")
    for i in range(count):
        reach, begin, end = axes[i + 2], pads[i], pads[i + count]
        if reach is None:
            raise NotLocal("slides over other axes than those of space")
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            if strides[i] != 1 or view.node.op_type == "ConvTranspose":
                raise NotLocal(f"pads by auto_pad = {auto}, which depends on the size of the image")
            span = dilations[i] * (kernel[i] - 1)
            begin, end = (span // 2, span - span // 2) if auto == "SAME_UPPER" else (span - span // 2, span // 2)
        elif auto == "VALID":
            begin = end = 0
        yield reach, kernel[i], strides[i], dilations[i], begin, end


def _kernel(view: ReceptiveView) -> list[int]:
    weight = view.input(1)
    if weight in view.known:
        raise NotLocal("computes its weight from the image")
    return list(view.shape(weight)[2:])


def conv(view: ReceptiveView) -> Axes:
    """The rule of Conv."""
    return (None, None, *(reaches.convolved(*window[:-1]) for window in _window(view, _kernel(view))))


def pool(view: ReceptiveView) -> Axes:
    """The rule of MaxPool, AveragePool and LpPool."""
    if len(view.node.outputs) > 1 and view.node.outputs[1].uses():
        raise NotLocal("gives places in the image")
    windows = _window(view, view.integers("kernel_shape") or [])
    return (None, None, *(reaches.convolved(*window[:-1]) for window in windows))


def conv_transpose(view: ReceptiveView) -> Axes:
    """The rule of ConvTranspose."""
    if "output_shape" in view.node.attributes:
        raise NotLocal("has a fixed output_shape")
    kernel = _kernel(view)
    extra = view.integers("output_padding") or [0] * len(kernel)
    windows = zip(_window(view, kernel), extra)
    return (None, None, *(reaches.transposed(*window, more) for window, more in windows))
