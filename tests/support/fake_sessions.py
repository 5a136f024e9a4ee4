"""Training sessions that do what a test wants at some of their calls: they stand in an engine's place behind the protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional
from unittest.mock import patch

import numpy as np
import pytest

from tests.support.models import Array
from tgdonnx.engines import ENGINES, Batch, BatchLoss, TrainingSession
from tgdonnx.finetuning.evaluation import Evaluation, Evaluator
from tgdonnx.finetuning.state import RunState

Parameters = dict[str, Array]


def _nothing(*_: object) -> None:
    """Nothing happens."""


@dataclass
class FakeSession:
    """Hands everything on to a real session.

    Attributes:
        real: the session.
        batch: every batch of a step goes through it, in its turn.
        before_evaluation: called before every batch that is evaluated.
        loss: what is told instead of the loss of such a batch.
        before_save: called with the name of a checkpoint and the state of the run before it is written.
        after_save: called likewise behind that.
        told: what is told instead of the parameters.
    """

    real: TrainingSession
    batch: Callable[[Any], Any] = lambda batch: batch
    before_evaluation: Callable[[], None] = _nothing
    loss: Callable[[float], float] = lambda loss: loss
    before_save: Callable[[str, RunState], None] = _nothing
    after_save: Callable[[str, RunState], None] = _nothing
    told: Callable[[Parameters], Parameters] = lambda parameters: parameters

    @property
    def run(self) -> Optional[str]:
        return self.real.run

    def step(self, batches: Iterable[Batch], learning_rate: float) -> list[BatchLoss]:
        return self.real.step(map(self.batch, batches), learning_rate)

    def evaluate(self, batch: Batch) -> tuple[float, Array]:
        self.before_evaluation()
        loss, output = self.real.evaluate(batch)
        return self.loss(loss), output

    def parameters(self) -> Parameters:
        return self.told(self.real.parameters())

    def set_parameters(self, values: Mapping[str, Array]) -> None:
        self.real.set_parameters(values)

    def save(self, path: Path, run: str) -> None:
        state = RunState.from_json(run, str(path))
        self.before_save(path.name, state)
        self.real.save(path, run)
        self.after_save(path.name, state)


@contextmanager
def sessions(fake: Callable[[TrainingSession, Path], FakeSession]) -> Iterator[None]:
    """Lets every engine open what a function makes of the real session and its directory."""

    def opening(real: Any) -> Callable[..., FakeSession]:
        return lambda directory, *rest: fake(real(directory, *rest), directory)

    with pytest.MonkeyPatch.context() as patch:
        for name, engine in list(ENGINES.items()):
            patch.setitem(ENGINES, name, replace(engine, open=opening(engine.open)))  # type: ignore[arg-type]
        yield


@contextmanager
def hooked(**hooks: Any) -> Iterator[None]:
    """Lets every session be one with these hooks; see `FakeSession`."""
    with sessions(lambda real, _: FakeSession(real, **hooks)):
        yield


@contextmanager
def validated_as(losses: Iterable[float], batches: int = 2) -> Iterator[None]:
    """Lets the data that is evaluated, of so many batches, have these losses, one after the other."""
    left = iter([loss for loss in losses for _ in range(batches)])
    with hooked(loss=lambda _: next(left)):
        yield


def not_a_number(parameters: Parameters) -> Parameters:
    return {name: np.full_like(values, np.nan) for name, values in parameters.items()}


@contextmanager
def evaluated_as(found: Iterable[tuple[float, Mapping[str, Optional[float]]]]) -> Iterator[None]:
    """Lets the validation data have these losses and metrics, one after the other."""
    left = iter(found)

    def evaluate(*_: Any) -> Evaluation:
        loss, metrics = next(left)
        return Evaluation(loss, metrics, (loss,))

    with patch.object(Evaluator, "__call__", evaluate):
        yield
