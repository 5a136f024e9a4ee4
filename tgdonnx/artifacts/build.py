"""Make the artifacts directory from a masked model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Optional

import numpy as np
from numpy.typing import NDArray

from tgdonnx.artifacts import manifest as files
from tgdonnx.artifacts.forward import forward_graph
from tgdonnx.artifacts.gates import gates_of
from tgdonnx.artifacts.heads import add_heads
from tgdonnx.artifacts.losses import parse_criterion
from tgdonnx.artifacts.manifest import (
    AxisPart,
    Head,
    Manifest,
    TrainedTensor,
    WriteBack,
)
from tgdonnx.artifacts.names import rename_conflicting
from tgdonnx.artifacts.new_directory import new_directory
from tgdonnx.artifacts.opened import Artifacts
from tgdonnx.artifacts.options import BuildOptions, BuiltOptions
from tgdonnx.artifacts.thin import ThinParameter, split_parameters
from tgdonnx.artifacts.vendor_bytes import write_back_of, write_back_of_piece
from tgdonnx.artifacts.zipping import require_zip_name, write_zip
from tgdonnx.engines import (
    ENGINES,
    EngineName,
    Objective,
    Problem,
)
from tgdonnx.errors import ArtifactsError, MaskedModelError, OutputError
from tgdonnx.files.in_memory import IN_MEMORY
from tgdonnx.files.model_file import ModelSource, StrPath
from tgdonnx.files.model_writing import data_of, write_model
from tgdonnx.files.outputs import Kind, Output, optional, require_outputs
from tgdonnx.files.paths import why_no_text
from tgdonnx.graphs.collecting import seldom_collecting
from tgdonnx.graphs.tensor_specs import TensorSpec
from tgdonnx.layers import Network, Parameter
from tgdonnx.masked_model import MaskedModel, read_masked
from tgdonnx.presenting import Presented
from tgdonnx.records import encode_mask


@dataclass(frozen=True, repr=False)
class BuildReport(Presented):
    """What was built.

    Attributes:
        directory: the artifacts directory; None where it was deleted since.
        options: the fields of `BuiltOptions`.
        trained: the names of the tensors that train.
        frozen: the names of tensors that the masks let train, but on which the chosen output does not depend.
        unthinned: in form ``thin``, the names of tensors that train in the masked form, since their masks are per kernel, and
            what trains is not whole filters and whole maps.
        rho: the fraction of the weights that train, as `tgdonnx.mask` counts them.
        inputs: what a training step is fed, in order.
        heads: the outputs that train.
        engine: what trains them.
        zip: the zip with the directory and the vendor's file; None if there is none.
    """

    directory: Optional[str]
    options: Mapping[str, Any]
    trained: tuple[str, ...]
    frozen: tuple[str, ...]
    unthinned: tuple[str, ...]
    rho: float
    inputs: tuple[TensorSpec, ...]
    heads: tuple[Head, ...]
    engine: EngineName
    zip: Optional[str] = None


def build(
    masked: ModelSource,
    directory: StrPath,
    options: BuildOptions = BuildOptions(),  # noqa: B008  # frozen
    *,
    zip: Optional[StrPath] = None,  # noqa: A002  # as the option
    overwrite: bool = False,
) -> BuildReport:
    """Generates ONNX Runtime training artifacts whose gradients are masked.

    Args:
        masked: a masked model.
        directory: the artifacts directory to make.
        options: how to build.
        zip: one file to write besides, called .zip, with what is in the directory and the vendor's file, for a page or a
            device; see `tgdonnx.artifacts.zipping`.
        overwrite: whether ``directory`` and ``zip`` may exist; they are replaced.

    Raises:
        ArtifactsError: the engine lacks what an option asks for, or the zip would be too large.
        MaskedModelError: no masked model, or its masks do not go with the options.
        UntrainableError: a node on a gradient path cannot be trained.
        OutputError: the directory or the zip cannot be written.
    """
    rewritten = [Path(directory) / files.MASKED_MODEL, data_of(Path(directory) / files.MASKED_MODEL)]
    if reason := why_no_text(directory):
        raise OutputError(f"{directory} can be no artifacts directory: {reason}")
    outputs = [Output(Path(directory), Kind.ARTIFACTS), *optional(zip)]
    require_outputs(outputs, [masked], overwrite=overwrite, rewritten=rewritten)
    if zip is not None:
        require_zip_name(Path(zip))
    parse_criterion(options.loss)
    with seldom_collecting():
        model, zipped = read_masked(masked), None if zip is None else Path(zip)
        # Nor may the zip be the vendor's file, of which the masked model says no more than what is in it.
        require_outputs(optional(zip), [replace(model.base, path=IN_MEMORY)], overwrite=overwrite)
        return build_masked(model, Path(directory), options, zipped=zipped, overwrite=overwrite)[0]


@seldom_collecting()
def build_masked(
    model: MaskedModel,
    directory: Path,
    options: BuildOptions,
    *,
    zipped: Optional[Path] = None,
    overwrite: bool = False,
) -> tuple[BuildReport, Artifacts]:
    """Does what `build` does with a masked model that is open, and returns the artifacts open, too.

    Raises:
        TgdonnxError: as `build`.
    """
    criterion = parse_criterion(options.loss)
    if options.momentum and not ENGINES[options.engine].has_momentum:
        raise ArtifactsError(
            f"the engine {options.engine} has no sgd with momentum",
            remedy="build for the engine onnxruntime, or leave momentum out",
        )
    wanted = _wanted_parameters(model)
    network = model.network
    gates = gates_of(model) if options.gradient == "gate" else {}
    weights = {layer.weight.name for layer in network.layers if layer.weight}
    forward = forward_graph(network, list(wanted), options.outputs)
    built = BuiltOptions.of(options, output=str(forward.outputs[0].name))
    masks = {name: model.masks[name] for name in forward.trained}
    reached = {layer.name for layer in network.layers if layer.weight and layer.weight.name in masks}
    thin: dict[str, tuple[ThinParameter, ...]] = {}
    if built.form == "thin":
        thin = split_parameters(forward.model, masks, forward.trained, _filter_axes(model.network, forward.trained))
    renamed = rename_conflicting(forward.model)
    pieces = {
        name: tuple(
            replace(piece, name=renamed.get(piece.name, piece.name))
            for piece in thin.get(name, (ThinParameter(name, ()),))
        )
        for name in forward.trained
    }
    parameters = {piece.name: name for name in forward.trained for piece in pieces[name]}
    specs, heads = add_heads(forward, criterion, options.data_range, renamed)
    gated = {name: renamed.get(output, output) for name, output in forward.layer_outputs.items()}
    objective = Objective(
        optimizer=options.optimizer,
        momentum=options.momentum,
        l2=options.l2,
        regularised=frozenset(parameter for parameter, name in parameters.items() if name in weights),
        l2_sp=options.l2_sp,
        clip_norm=options.clip_norm,
        masks={
            parameter: masks[name]
            for parameter, name in parameters.items()
            if name not in thin and not masks[name].all()
        },
        gates={gated[name]: gate for name, gate in gates.items() if name in reached},
    )
    problem = Problem(forward.model, tuple(parameters), objective)
    write_back = write_back_of(model, [wanted[name] for name in forward.trained])
    trained = tuple(
        _trained_tensor(piece, wanted[name], masks[name], model.network, write_back[name])
        for name in forward.trained
        for piece in pieces[name]
    )
    manifest = Manifest(
        files.FORMAT,
        {name: metadata.version(name) for name in ("tgdonnx", "onnx")},
        built,
        model.base.sha256,
        model.selection,
        _rho(masks, model),
        specs,
        trained,
        heads,
        options.engine,
    )
    with new_directory(directory, overwrite=overwrite) as target:
        ENGINES[options.engine].write(problem, target)
        write_model(model.file, target / files.MASKED_MODEL, model.file.with_external_data)
        (target / files.MANIFEST).write_text(manifest.to_json(), "utf-8")
        if zipped is not None:
            write_zip(target, model, zipped)
    frozen = tuple(name for name in wanted if name not in forward.trained)
    unthinned = tuple(name for name in masks if built.form == "thin" and name not in thin and not masks[name].all())
    report = BuildReport(
        str(directory),
        built.as_dict(),
        forward.trained,
        frozen,
        unthinned,
        manifest.rho,
        specs,
        heads,
        options.engine,
        None if zipped is None else str(zipped),
    )
    return report, Artifacts(directory, manifest, model)


def _wanted_parameters(model: MaskedModel) -> dict[str, Parameter]:
    """Returns the tensors in which the masks let anything train."""
    stored = model.network.stored_parameters
    wanted = {name: stored[name] for name, values in model.masks.items() if values.any()}
    if not wanted:
        raise MaskedModelError(f"no retrain mask of {model.file.path} lets anything train", remedy="mask it again")
    return wanted


def _filter_axes(network: Network, names: Sequence[str]) -> dict[str, int]:
    """Returns for the names of tensors the axis that counts filters, where one does alone."""
    axes = {name: [axis for axis, size in enumerate(network.filter_index(name).shape) if size > 1] for name in names}
    return {name: found[0] for name, found in axes.items() if len(found) == 1}


def _trained_tensor(
    piece: ThinParameter,
    parameter: Parameter,
    mask: NDArray[np.float32],
    network: Network,
    write_back: WriteBack,
) -> TrainedTensor:
    retrain, kernels = encode_mask(mask, network, parameter.name)
    part = tuple(AxisPart(axis, indices) for axis, indices in piece.part)
    return TrainedTensor(
        name=piece.name,
        vendor_name=parameter.name,
        vendor_place=parameter.path,
        shape=parameter.shape,
        dtype=parameter.dtype.name,
        retrain=retrain,
        kernels=kernels,
        part=part or None,
        write_back=write_back_of_piece(write_back, piece, parameter.dtype),
    )


def _rho(trained: Mapping[str, NDArray[np.float32]], model: MaskedModel) -> float:
    sizes = {name: int(np.prod(model.network.stored_parameters[name].shape)) for name in model.masks}
    elements = sum(values.mean(dtype=np.float64) * sizes[name] for name, values in trained.items())
    return float(elements / (sum(sizes.values()) + sum(model.network.computed_kernels.values())))
