"""Where the masked model and the artifacts of a round come from: made for it, or kept from where the same was made before."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tgdonnx.artifacts import Artifacts, BuildOptions, BuildReport, build_masked
from tgdonnx.layers import Network
from tgdonnx.masked_model import MaskedModel, read_masked
from tgdonnx.masking import MaskReport, mask_network
from tgdonnx.pipeline.asked import Asked
from tgdonnx.sensitivity import measured


class Making(Protocol):
    """Makes the masked model of a round, and its artifacts."""

    def masked(self, asked: Asked, before: Network, scratch: Path) -> tuple[MaskReport, MaskedModel]:
        """Masks a model.

        Args:
            asked: what is asked for.
            before: the model that the round starts from.
            scratch: a directory to make, which is there then as long as the result is used.

        Raises:
            TgdonnxError: as `tgdonnx.mask`.
        """
        ...

    def built(
        self, model: MaskedModel, directory: Path, building: BuildOptions, *, overwrite: bool
    ) -> tuple[BuildReport, Artifacts]:
        """Puts the artifacts of a masked model, untrained, into a directory.

        Args:
            model: what `masked` gave.
            directory: where they go.
            building: what training minimises.
            overwrite: whether artifacts may be there.

        Raises:
            TgdonnxError: as `tgdonnx.build`.
        """
        ...


class MadeAnew:
    """Makes everything."""

    def masked(self, asked: Asked, before: Network, scratch: Path) -> tuple[MaskReport, MaskedModel]:
        """Masks a model; see `Making`."""
        scratch.mkdir()
        masked_model = scratch / "masked.onnx"
        assert asked.strategy is not None  # by now, see `choosing`
        strategy = measured(asked.strategy, before, asked.data, asked.building, asked.training, asked.masking.freeze)
        masked = mask_network(before, masked_model, strategy, asked.masking)
        return masked, read_masked(masked_model)

    def built(
        self, model: MaskedModel, directory: Path, building: BuildOptions, *, overwrite: bool
    ) -> tuple[BuildReport, Artifacts]:
        """Builds artifacts; see `Making`."""
        return build_masked(model, directory, building, overwrite=overwrite)
