"""A round of an earlier call, opened again: only if it was asked for the same."""

from __future__ import annotations

from pathlib import Path

from tgdonnx.artifacts import Artifacts, BuildOptions, BuildReport, open_artifacts
from tgdonnx.artifacts.options import BuiltOptions
from tgdonnx.errors import ArtifactsError
from tgdonnx.masked_model import MaskedModel


def open_again(directory: Path, masked: MaskedModel, building: BuildOptions) -> tuple[BuildReport, Artifacts]:
    """Opens the artifacts of an earlier call.

    Args:
        directory: where they are.
        masked: the masked model that is asked for now.
        building: how it is built now.

    Raises:
        ArtifactsError: they are of another model, selection or build, or not usable.
    """
    artifacts = open_artifacts(directory)
    manifest, theirs = artifacts.manifest, artifacts.masked
    remedy = "resume it with the same model and options, or leave `resume` out and choose another output"
    if theirs.base.sha256 != masked.base.sha256:
        raise ArtifactsError(f"the run in {directory} is of another model", remedy=remedy)
    if theirs.file.data != masked.file.data:
        raise ArtifactsError(
            f"the run in {directory} is of another selection: {dict(theirs.selection)}, now {dict(masked.selection)}",
            remedy=remedy,
        )
    asked = BuiltOptions.of(building, output=manifest.options.output).as_dict()
    for name, was in manifest.options.as_dict().items():
        if was != asked[name]:
            raise ArtifactsError(
                f"the run in {directory} was built with {name} {was}, not {asked[name]}", remedy=remedy
            )
    if manifest.engine != building.engine:
        raise ArtifactsError(
            f"the run in {directory} is of the engine {manifest.engine}, not {building.engine}", remedy=remedy
        )
    return report_of(artifacts), artifacts


def report_of(artifacts: Artifacts) -> BuildReport:
    """Returns what `tgdonnx.build` said when it made artifacts."""
    manifest, masks = artifacts.manifest, artifacts.masked.masks
    trained = tuple(dict.fromkeys(tensor.vendor_name for tensor in manifest.trained))
    whole = {tensor.vendor_name for tensor in manifest.trained if tensor.part is None}
    return BuildReport(
        str(artifacts.directory),
        manifest.options.as_dict(),
        trained,
        tuple(name for name, values in masks.items() if values.any() and name not in trained),
        tuple(name for name in trained if name in whole and manifest.options.form == "thin" and not masks[name].all()),
        manifest.rho,
        manifest.inputs,
        manifest.heads,
        manifest.engine,
    )
