"""The record of training that export adds to a file: what the round was asked for, what it trained on, and what changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

import msgspec
import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import Manifest
from tgdonnx.finetuning.federation import Federation
from tgdonnx.finetuning.run_record import DataRecord
from tgdonnx.layers import Network, Parameter
from tgdonnx.masked_model import MaskedModel
from tgdonnx.records import (
    PreparationPart,
    ScalingPart,
    SetElements,
    encode_mask,
    encode_set,
    format_of,
)
from tgdonnx.versions import own_version

Array = NDArray[Any]


def provenance_of(
    manifest: Manifest,
    checkpoint: str,
    blend: float,
    data: Optional[DataRecord],
    federation: Optional[Federation],
) -> dict[str, Any]:
    """Returns what the record says of how the round was trained.

    Args:
        manifest: of the artifacts.
        checkpoint: the checkpoint that is exported.
        blend: how far it goes from what training started from (0) to what it came to (1).
        data: what was trained on; None where no run says it.
        federation: at which sites it trained; None where it trained in one place.
    """
    blended = {} if blend == 1 else {"blend": float(blend)}
    classes = data.options.classes if data is not None else ()
    preparation = preparation_of(data) if data is not None else None
    trained_at = None
    if federation is not None:  # the data is at the sites, and what lies here is none of it
        classes, preparation, trained_at = federation.classes, federation.preparation, federation.part
    return {
        "format": format_of(blended.get("blend"), classes, preparation, trained_at),
        "tgdonnx": own_version(),
        "base_sha256": manifest.base_sha256,
        "selection": manifest.selection,
        "options": manifest.options.as_dict(),
        "checkpoint": checkpoint,
        **blended,
        **({"classes": list(classes)} if classes else {}),
        **({"preparation": msgspec.to_builtins(preparation)} if preparation is not None else {}),
        **({"federation": msgspec.to_builtins(trained_at)} if trained_at is not None else {}),
    }


def preparation_of(data: DataRecord) -> Optional[PreparationPart]:
    """Returns how the data of a run was scaled, and pictures made ready; None if neither was done."""
    if not data.scaling and not data.options.pictures.changes:
        return None
    scaling = {
        name: ScalingPart(each.offset, each.divisor, each.how, each.every, list(each.mean), list(each.std))
        for name, each in data.scaling.items()
    }
    told = data.options
    return PreparationPart(scaling, list(told.resize or ()), told.resample, list(told.crop or ()), told.colour)


def trained_parts(manifest: Manifest, new: Mapping[Parameter, Array], network: Network) -> dict[str, Any]:
    """Returns what the record says of what trained: of the file that is written, so of side paths only where they stay."""
    trained = {t.vendor_name: {"retrain": t.retrain, "kernels": t.kernels} for t in manifest.trained}
    names = [parameter.name for parameter in new]
    if not names or names[0] in trained:
        return {name: trained[name] for name in names}
    whole = {name: encode_mask(whole_mask(parameter), network, name) for parameter in new for name in [parameter.name]}
    return {name: {"retrain": rows, "kernels": kernels} for name, (rows, kernels) in whole.items()}


def reinitialized_parts(masked: MaskedModel, manifest: Manifest) -> dict[str, Any]:
    """Returns what the record says of values that are not the vendor's, though they did not train."""
    trained = {tensor.vendor_name for tensor in manifest.trained}
    stored, masks = masked.network.stored_parameters, masked.masks
    reinitialized = {
        name: encode_mask(masks[name], masked.network, name)
        for name in masked.vendor_values
        if name not in trained and name in masks and masks[name].any()
    }
    sets = {name: SetElements(mask, stored[name].numpy()) for name, mask in masked.set_masks.items()}
    found: dict[str, Any] = {}
    if reinitialized:
        found["reborn"] = {
            name: {"retrain": rows, "kernels": kernels} for name, (rows, kernels) in reinitialized.items()
        }
    if sets:
        found["set"] = {name: encode_set(elements) for name, elements in sets.items()}
    return found


def whole_mask(parameter: Parameter) -> NDArray[np.float32]:
    """Returns the mask of a tensor of which everything may differ."""
    return np.ones((1,) * len(parameter.shape), np.float32)
