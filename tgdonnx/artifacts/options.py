"""How to build: everything that a user chooses about what ONNX Runtime trains, checked.

An option that is recorded is a field of `RecordedOptions`; then `build`, `finetune`, `compare` and ``manifest.json`` have it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from math import isfinite
from typing import Literal, Optional

from tgdonnx.artifacts.losses import parse_criterion
from tgdonnx.engines import DEFAULT_ENGINE, ENGINES, GRADIENTS, OPTIMIZERS, EngineName, GradientKind, OptimizerName
from tgdonnx.errors import ArtifactsError

Form = Literal["masked", "thin"]
FORMS: tuple[Form, ...] = ("masked", "thin")


@dataclass(frozen=True)
class RecordedOptions:
    """What is chosen and recorded alike.

    Attributes:
        loss: what training minimises: a name, with parameters as in ``ce(ignore=255)``, a weighted sum such as
            ``0.8*l1+0.2*ssim``, or one of these for each of several outputs, as in ``boxes: l1, scores: 2*bce``; see
            `tgdonnx.artifacts.losses`.
        data_range: difference between the largest and the least value that the output may have, for the losses charbonnier
            and ssim.
        optimizer: ``adamw`` or ``sgd``.
        momentum: of sgd, at least 0 and less than 1: the weights move by ``u <- momentum * u + gradient``. The engine
            onnxruntime has it alone.
        l2: ``l2 * W`` is added to the gradient of every weight W of a layer, before the mask.
        l2_sp: ``l2_sp * (W - W0)`` is added to the gradient of everything that trains, W0 the values that training starts
            from (the vendor's, but for what was reinitialised), before the mask (L2-SP; Li, Grandvalet, Davoine, ICML 2018).
        clip_norm: largest Euclidean norm of all gradients together; None for no limit.
        gradient: ``mask``: the true gradient, masked (TGD, eq. 4). ``gate``: besides, no gradient flows through frozen
            filters to earlier layers; no descent direction of the loss, offered for fidelity to the paper.
    """

    loss: str = "mse"
    data_range: float = 1.0
    optimizer: OptimizerName = "adamw"
    momentum: float = 0.0
    l2: float = 0.0
    l2_sp: float = 0.0
    clip_norm: Optional[float] = None
    gradient: GradientKind = "mask"

    def __post_init__(self) -> None:
        parse_criterion(self.loss)
        _require_one_of("optimizer", self.optimizer, OPTIMIZERS)
        _require_one_of("gradient", self.gradient, GRADIENTS)
        if not 0 <= self.momentum < 1:
            raise ArtifactsError(f"expected a momentum of at least 0 and less than 1, got {self.momentum:g}")
        if self.momentum and self.optimizer != "sgd":
            raise ArtifactsError(
                f"momentum is of the optimizer sgd; got {self.momentum:g} for {self.optimizer}, which has moments of its own: "
                "leave it out, or choose sgd"
            )
        for name in ("l2", "l2_sp"):
            factor = getattr(self, name)
            if not (isfinite(factor) and factor >= 0):
                raise ArtifactsError(f"expected {name} >= 0, got {factor:g}")
        if not (isfinite(self.data_range) and self.data_range > 0):
            raise ArtifactsError(f"expected a data range > 0, got {self.data_range:g}")
        if self.clip_norm is not None and not (isfinite(self.clip_norm) and self.clip_norm > 0):
            raise ArtifactsError(f"expected a clip norm > 0, got {self.clip_norm:g}")

    def _require_form(self, form: Form) -> None:
        _require_one_of("form", form, FORMS)
        if form == "thin" and self.gradient == "gate":
            raise ArtifactsError(
                "form 'thin' computes gradient 'mask' only", remedy="use form 'masked' for gradient 'gate'"
            )


@dataclass(frozen=True)
class BuildOptions(RecordedOptions):
    """How to build; the fields of `RecordedOptions`, and these.

    Attributes:
        form: ``masked``: parameters are the vendor's tensors, and their gradients are multiplied by the masks. ``thin``:
            parameters, gradients and optimizer state hold only the filters that train, and only their gradients are
            computed, with faster nodes; the results are the same. Where a mask is per kernel (mode ``readers``), the
            kernels that read a map in the other filters are a parameter of their own. Tensors of which anything but
            whole filters and whole maps trains stay as in ``masked``. None: `tgdonnx.build` takes ``masked``,
            `tgdonnx.finetune` and `tgdonnx.compare` take ``thin`` where there is that form.
        output: the output to train on, when the model has several, and the loss names none.
        engine: ``onnxruntime``: plain ONNX models, which any ONNX Runtime trains; building them needs no runtime at all.
            ``onnxruntime-training``: what ONNX Runtime's on-device training API loads.

    Raises:
        ArtifactsError: an option is out of range.
    """

    form: Optional[Form] = None
    output: Optional[str] = None
    engine: EngineName = DEFAULT_ENGINE

    def __post_init__(self) -> None:
        super().__post_init__()
        named = parse_criterion(self.loss).outputs
        if named and self.output is not None:
            raise ArtifactsError(
                f"the loss {self.loss!r} names its outputs, and so does output {self.output!r}", remedy="leave one out"
            )
        _require_one_of("engine", self.engine, ENGINES)
        if self.form is not None:
            self._require_form(self.form)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The outputs to train on, those of the loss in its order; none where the model has one."""
        return parse_criterion(self.loss).outputs or (() if self.output is None else (self.output,))

    @property
    def shown_output(self) -> Optional[str]:
        """The output that is looked at where one is: the first of those to train on; None where the model has one."""
        return next(iter(self.outputs), None)

    def in_cheapest_form(self) -> BuildOptions:
        """Returns these options in the form that trains at the lowest price, if none is said: ``thin``, which `gate` lacks."""
        return replace(self, form=self.form or ("masked" if self.gradient == "gate" else "thin"))


@dataclass(frozen=True)
class BuiltOptions(RecordedOptions):
    """What was chosen, as ``manifest.json`` and ``run.json`` record it.

    Attributes:
        form: see `BuildOptions`.
        output: the output that trains; of several the first. The loss names them all.
    """

    form: Form = "masked"
    output: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_form(self.form)
        if not self.output:
            raise ArtifactsError("expected the name of the output that trains")

    @classmethod
    def of(cls, options: BuildOptions, *, output: str) -> BuiltOptions:
        """Returns the record of what was chosen.

        Args:
            options: what was chosen.
            output: the output that trains; of several the first.
        """
        chosen = {field.name: getattr(options, field.name) for field in fields(RecordedOptions)}
        return cls(
            **{**chosen, "loss": str(parse_criterion(options.loss))},
            form=options.form or "masked",
            output=output,
        )

    def as_dict(self) -> dict[str, object]:
        """Returns what is recorded, by name."""
        return asdict(self)


def _require_one_of(what: str, value: str, known: Iterable[str]) -> None:
    """Raises ArtifactsError if a value is none of those that are known."""
    if value not in known:
        raise ArtifactsError(f"expected {what} to be one of {', '.join(known)}; got {value!r}")
