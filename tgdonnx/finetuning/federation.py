"""What a checkpoint of federated training says of it: rounds, sites, and how they prepared their data.

It lies in the settings of the run's state, so it is in the checkpoint that it is of, and under the same hash. A run that goes
on at one place has other settings, and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import msgspec

from tgdonnx.errors import ArtifactsError
from tgdonnx.finetuning.state import RunState
from tgdonnx.records import FederationPart, PreparationPart

_KEY = "federation"


@dataclass(frozen=True)
class Federation:
    """What federated training was.

    Attributes:
        part: its rounds and sites.
        classes: names of classes on which all sites agree; none where they do not, or did not say.
        preparation: how data was prepared, likewise.
    """

    part: FederationPart
    classes: tuple[str, ...] = ()
    preparation: Optional[PreparationPart] = None


def settings_of_federation(federation: Federation) -> dict[str, Any]:
    """Returns the settings of a run's state that say so."""
    return {_KEY: msgspec.to_builtins(federation)}


def federation_of(run: Optional[str]) -> Optional[Federation]:
    """Returns what the state of a run says of federated training; None where it was none.

    Args:
        run: the state, as JSON; None if there is none.

    Raises:
        ArtifactsError: it is not as it was written.
    """
    if run is None:
        return None
    found = RunState.from_json(run, "the checkpoint").settings.get(_KEY)
    if found is None:
        return None
    try:
        return msgspec.convert(found, Federation)
    except msgspec.ValidationError as error:
        raise ArtifactsError(f"what the checkpoint says of federated training is damaged ({error})") from error
