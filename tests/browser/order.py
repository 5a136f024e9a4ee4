"""The order of samples that the page has, written a second time: mulberry32, Fisher and Yates, every so many held out."""

from __future__ import annotations

from collections.abc import Iterator

_WORD = 2**32


def _mulberry32(seed: int) -> Iterator[float]:
    state = seed % _WORD
    while True:
        state = (state + 0x6D2B79F5) % _WORD
        mixed = (state ^ (state >> 15)) * (state | 1) % _WORD
        mixed ^= (mixed + (mixed ^ (mixed >> 7)) * (mixed | 61)) % _WORD
        yield (mixed ^ (mixed >> 14)) / _WORD


def order_of(count: int, seed: int, epoch: int) -> list[int]:
    """Returns the samples of an epoch, counted from 0."""
    random, order = _mulberry32(seed * 1000003 + epoch), list(range(count))
    for last in range(count - 1, 0, -1):
        other = int(next(random) * (last + 1))
        order[last], order[other] = order[other], order[last]
    return order


def batches(samples: list[int], batch: int, seed: int, steps: int) -> list[list[int]]:
    """Returns the samples of every step."""
    epochs = -(-steps // (len(samples) // batch))
    found = []
    for epoch in range(epochs):
        order = [samples[place] for place in order_of(len(samples), seed, epoch)]
        found += [order[start : start + batch] for start in range(0, len(samples) - batch + 1, batch)]
    return found[:steps]
