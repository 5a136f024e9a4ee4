"""The geometry of a sliding window: Conv, ConvTranspose and pooling alike."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from tgdonnx.gradients.rule import Step
from tgdonnx.gradients.shapes import known_size
from tgdonnx.graphs.builder import Builder

_DAMAGED = "the file is damaged; ask for it again"


@dataclass(frozen=True)
class Window:
    """A window that slides over the axes of space.

    Attributes:
        kernel: its size along each axis.
        strides: by how much it moves.
        dilations: the distance of its elements.
        pads: elements added to the input, all begins before all ends.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]

    @staticmethod
    def of(step: Step, kernel: tuple[int, ...] = ()) -> Window:
        """Reads the attributes of a node.

        Args:
            step: at the node.
            kernel: the size of the filters; of a node without any, the node says it.

        Raises:
            UntrainableError: pads are left to the runtime, and depend on a size that is open; or attributes contradict one
                another or the filters.
        """
        attributes = step.node.attributes
        if "kernel_shape" in attributes:
            said = tuple(attributes["kernel_shape"].as_ints())
            if kernel and said != kernel:
                raise step.refusal(f"has filters of {kernel}, but says kernel_shape = {said}", _DAMAGED)
            kernel = said
        ones = (1,) * len(kernel)
        strides = tuple(attributes["strides"].as_ints()) if "strides" in attributes else ones
        dilations = tuple(attributes["dilations"].as_ints()) if "dilations" in attributes else ones
        pads = tuple(attributes["pads"].as_ints()) if "pads" in attributes else (0,) * 2 * len(kernel)
        mode = attributes.get_string("auto_pad", "NOTSET") or "NOTSET"
        if mode.startswith("SAME"):
            pads = _same_pads(step, kernel, strides, dilations, upper=mode == "SAME_UPPER")
        elif mode == "VALID":
            pads = (0,) * 2 * len(kernel)
        if not len(kernel) == len(strides) == len(dilations) == len(pads) / 2:
            raise step.refusal(
                f"slides along {len(kernel)} axes, but has {len(strides)} strides, {len(dilations)} dilations and "
                f"{len(pads)} pads",
                _DAMAGED,
            )
        return Window(kernel, strides, dilations, pads)

    @property
    def reach(self) -> tuple[int, ...]:
        """How far the last element of the window is from the first, along each axis."""
        return tuple((size - 1) * dilation for size, dilation in zip(self.kernel, self.dilations))

    @property
    def turned_pads(self) -> tuple[int, ...]:
        """The pads with which a window over the output sees all that an element of the input went into (strides 1)."""
        return tuple(reach - pad for reach, pad in zip(self.reach * 2, self.pads))

    @property
    def overlaps(self) -> bool:
        """Whether an element may lie in several windows."""
        return any(reach >= stride for reach, stride in zip(self.reach, self.strides))

    def transposed(self, build: Builder, dy: ir.Value, weight: ir.Value, *, group: int) -> ir.Value:
        """Spreads what each window gave over its elements; the result is as large as the input, or larger at the ends.

        An input may have up to ``strides - 1`` elements behind the last window, which nobody read.
        """
        more = [stride - 1 for stride in self.strides]
        return build(
            "ConvTranspose",
            dy,
            weight,
            kernel_shape=list(self.kernel),
            strides=list(self.strides),
            dilations=list(self.dilations),
            pads=list(self.pads),
            output_padding=more,
            group=group,
        )

    @property
    def may_leave_out(self) -> bool:
        """Whether an input may have elements behind the last window."""
        return any(stride > 1 for stride in self.strides)


def filter_sizes(step: Step) -> tuple[int, ...]:
    """Returns the shape of the filters of a Conv or ConvTranspose.

    Raises:
        UntrainableError: a size is open; or the filters do not fit the groups, or the channels of what is read.
    """
    sizes, group = step.sizes(step.input(1)), step.node.attributes.get_int("group", 1)
    shape = tuple(size for size in sizes if size is not None)
    if len(shape) < len(sizes):
        raise step.refusal("has filters of open size", "export the model with constant filters")
    if len(shape) < 3 or group < 1 or shape[0] % group:
        raise step.refusal(f"has filters of shape {shape} in {group} groups", _DAMAGED)
    channels = shape[0] if step.node.op_type == "ConvTranspose" else shape[1] * group
    if known_size(step.x, 1) not in (None, channels):
        raise step.refusal(f"reads {known_size(step.x, 1)} channels, but has filters for {channels}", _DAMAGED)
    return shape


def _same_pads(
    step: Step, kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...], *, upper: bool
) -> tuple[int, ...]:
    begins, ends = [], []
    for axis, (size, stride, dilation) in enumerate(zip(kernel, strides, dilations)):
        length = known_size(step.x, axis + 2)
        reach = (size - 1) * dilation
        if length is None and stride > 1:
            raise step.refusal("leaves its pads to the runtime, for sizes that are open", "this is lowered before")
        total = reach if length is None else max(reach + 1 + (-(-length // stride) - 1) * stride - length, 0)
        begins.append(total // 2 if upper else total - total // 2)
        ends.append(total - begins[-1])
    return (*begins, *ends)


def crop_like(build: Builder, value: ir.Value, like: ir.Value, rank: int) -> ir.Value:
    """Cuts a value down to the size that another has along the axes of space, at the end of each."""
    sizes = [known_size(like, axis + 2) for axis in range(rank)]
    if all(size is not None for size in sizes):
        ends = build.ints(*(size or 0 for size in sizes))
    else:
        ends = build("Shape", like, start=2)
    return build("Slice", value, build.ints(*[0] * rank), ends, build.ints(*range(2, rank + 2)))
