"""The process that makes batches; `tgdonnx.data.worker` is the other side of its pipes."""

from __future__ import annotations

import os
import pickle
import sys
from typing import IO

from tgdonnx.data.dataset import Dataset
from tgdonnx.data.opening import open_recipe
from tgdonnx.data.read_ahead import read_ahead
from tgdonnx.data.recipe import Recipe, Stream
from tgdonnx.errors import DataError


def serve() -> None:
    """The process: takes a recipe, then streams, from standard input, until that ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the batches
    try:
        recipe: Recipe = pickle.load(sys.stdin.buffer)  # noqa: S301  # from the process that started this one
        try:
            dataset: Dataset | DataError = open_recipe(recipe)
        except DataError as error:
            dataset = error
        _answer(answers, "opened")
        while True:
            try:
                stream: Stream = pickle.load(sys.stdin.buffer)  # noqa: S301
            except EOFError:
                return
            try:
                if isinstance(dataset, DataError):
                    raise dataset
                made = dataset.batches(stream.size, epoch=stream.epoch, seed=stream.seed, start=stream.start)
                for batch in read_ahead(made):
                    _answer(answers, [(array.shape, array.dtype) for array in batch])
                    for array in batch:
                        answers.write(array.tobytes())
                    answers.flush()
            except DataError as error:
                _answer(answers, DataError(str(error)))
    except (BrokenPipeError, EOFError):
        return


def _answer(answers: IO[bytes], what: object) -> None:
    content = pickle.dumps(what)
    answers.write(len(content).to_bytes(8, "little") + content)
    answers.flush()
