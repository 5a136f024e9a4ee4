"""What goes between server and sites, as Flower's records; keys are those that Flower's strategies and mods go by.

    to a site     arrays: the numbers           config: how it trains, the number of the round, and the server's hashes
    from a site   arrays: the numbers           metrics: num-examples, loss, steps      site: its name, its hashes, its data
    evaluation                                  metrics: num-examples, and what was found    site: its name

A site that cannot answer sends an error with its name. What is wrong with its files and its data stays in its own log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Optional

import msgspec
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from numpy.typing import NDArray

from tgdonnx.errors import DataError
from tgdonnx.federated.examining import Sent
from tgdonnx.federated.plan import RoundPlan, received, sent
from tgdonnx.federated.site import Evaluated, Trained
from tgdonnx.federated.travelling import Fingerprint, Numbers
from tgdonnx.records import PreparationPart

ARRAYS, CONFIG, METRICS, SITE = "arrays", "config", "metrics", "site"
WEIGHT = "num-examples"
_VALIDATION, _RETAIN, _RETAINED = "validation/", "retain/", "retain-examples"


def array_record(numbers: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    """Returns numbers as Flower carries them."""
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in numbers.items()})


def arrays_of(record: ArrayRecord) -> dict[str, NDArray[Any]]:
    """Undoes `array_record`.

    Raises:
        ValueError: they are no arrays.
    """
    try:
        return {name: array.numpy() for name, array in record.items()}
    except Exception as error:  # of whatever reads what anybody may have sent
        raise ValueError(f"arrays that cannot be read ({type(error).__name__})") from error


def config_record(plan: RoundPlan, wanted: Fingerprint) -> ConfigRecord:
    """Returns what a site is told besides the numbers."""
    return ConfigRecord({**sent(plan), **{f"sha256-{name}": text for name, text in asdict(wanted).items()}})


def read_request(message: Message) -> tuple[Numbers, RoundPlan, Fingerprint]:
    """Returns what a site is asked for.

    Raises:
        DataError: it is no request of ours.
    """
    try:
        config = dict(message.content[CONFIG])
        wanted = Fingerprint(*(str(config[f"sha256-{name}"]) for name in Fingerprint.__dataclass_fields__))
        return arrays_of(message.content[ARRAYS]), received(config), wanted
    except (KeyError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"what the server asks for is no round of ours: {error}") from error


def trained_reply(name: str, own: Fingerprint, found: Trained) -> RecordDict:
    """Returns what a site sends of a round."""
    preparation = "" if found.preparation is None else msgspec.json.encode(found.preparation).decode()
    about = {"name": name, **asdict(own), "classes": list(found.classes), "preparation": preparation}
    metrics = {WEIGHT: found.samples, "loss": found.loss, "steps": found.steps}
    return RecordDict({ARRAYS: array_record(found.numbers), METRICS: MetricRecord(metrics), SITE: ConfigRecord(about)})


def read_trained(message: Message) -> Sent:
    """Returns what a site sent of a round, as it sent it.

    Raises:
        ValueError: it is no reply of ours.
    """
    try:
        about, metrics = dict(message.content[SITE]), dict(message.content[METRICS])
        own = Fingerprint(*(str(about[name]) for name in Fingerprint.__dataclass_fields__))
        text = str(about["preparation"])
        preparation = msgspec.json.decode(text.encode(), type=PreparationPart) if text else None
        classes = tuple(str(each) for each in about["classes"])
        samples, loss, steps = metrics[WEIGHT], float(metrics["loss"]), int(metrics["steps"])
        return Sent(
            str(about["name"]), own, arrays_of(message.content[ARRAYS]), samples, loss, steps, classes, preparation
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no reply of ours: {error}") from error


def name_in(message: Message) -> Optional[str]:
    """Returns what a site that answered calls itself; None where that cannot be told."""
    try:
        return str(message.content[SITE]["name"])[:200]
    except (KeyError, TypeError, ValueError):
        return None


def evaluated_reply(name: str, found: Evaluated) -> RecordDict:
    """Returns what a site sends of an evaluation. A number that is infinite is left out."""
    metrics: dict[str, float] = {WEIGHT: found.samples, _RETAINED: found.retained}
    for prefix, told in ((_VALIDATION, {"loss": found.loss, **found.metrics}), (_RETAIN, found.retain)):
        metrics.update({f"{prefix}{key}": value for key, value in told.items() if value is not None})
    return RecordDict({METRICS: MetricRecord(metrics), SITE: ConfigRecord({"name": name})})


def read_evaluated(message: Message) -> Evaluated:
    """Undoes `evaluated_reply`, but for numbers that were infinite.

    Raises:
        ValueError: it is no reply of ours.
    """
    try:
        found = {name: float(value) for name, value in dict(message.content[METRICS]).items()}
        samples, retained = int(found.pop(WEIGHT)), int(found.pop(_RETAINED))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"no reply of ours: {error}") from error
    told = {
        prefix: {name[len(prefix) :]: value for name, value in found.items() if name.startswith(prefix)}
        for prefix in (_VALIDATION, _RETAIN)
    }
    loss = told[_VALIDATION].pop("loss", None)
    return Evaluated(samples, loss, told[_VALIDATION], retained, told[_RETAIN])
