"""What people type out of habit, or misspelt, and what they mean by it here.

An option or command that does not exist is answered with the one that does the same: known from other tools by the tables
below, spelt nearly so, or of another command.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping

import click

# By what an option is here, what others call it. Some are of a few commands only; then the next does it.
_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "-o": (
        "output-dir",
        "out",
        "out-dir",
        "output-file",
        "output-path",
        "output",
        "save",
        "save-to",
        "save-path",
        "dest",
    ),
    "--data": ("train", "train-data", "training-data", "dataset", "input", "input-dir", "images", "image", "data-dir"),
    "--validation": ("val-data", "valid", "valid-data", "eval-data", "test", "test-data", "dev"),
    "--validation-split": ("val-split", "val-fraction", "test-size", "holdout"),
    "--retain": ("old", "old-data", "replay", "vendor-data", "base-data"),
    "--epochs": ("epoch", "num-epochs", "n-epochs", "max-epochs", "num-train-epochs", "nepochs"),
    "--steps": ("max-steps", "iterations", "iters", "num-steps", "n-steps", "max-iter", "updates"),
    "--max-time": ("time", "timeout", "time-limit"),
    "--batch": ("bs", "batchsize", "per-device-train-batch-size", "train-batch-size", "mini-batch"),
    "--learning-rate": ("rate", "eta", "step-size", "base-lr", "lr0"),
    "--schedule": ("scheduler", "lr-scheduler", "lr-schedule", "lr-policy", "lr-scheduler-type"),
    "--warmup": ("warmup-steps", "warm-up", "num-warmup-steps"),
    "--accumulate": (
        "accumulation-steps",
        "gradient-accumulation-steps",
        "grad-accum",
        "grad-acc",
        "accumulate-grad-batches",
    ),
    "--patience": ("early-stopping", "early-stop", "early-stopping-patience"),
    "--seed": ("random-seed", "random-state", "manual-seed"),
    "--device cuda": ("gpu", "gpus", "cuda", "use-gpu", "use-cuda"),
    "--device": ("provider", "execution-provider", "accelerator", "cpu"),
    "--loss": ("criterion", "objective", "loss-fn", "loss-function"),
    "--optimizer": ("optim", "opt", "optimiser", "solver"),
    "--l2": ("wd", "decay", "regularization"),
    "--clip-norm": ("clip", "clip-grad", "grad-clip", "max-grad-norm", "gradient-clip-val", "clip-grad-norm"),
    "--engine": ("backend", "framework", "runtime"),
    "--tensorboard": ("log-dir", "logdir", "tb", "logging-dir"),
    "--artifacts": ("run-dir", "work-dir", "workdir", "save-dir", "checkpoint-dir", "project"),
    "--checkpoint": ("ckpt", "weights", "checkpoint-path"),
    "--resume": ("continue", "resume-from", "resume-from-checkpoint", "restart"),
    "--dry-run": ("simulate", "plan", "what-if", "test-run", "fast-dev-run"),
    "--overwrite": ("force", "yes", "replace", "exist-ok", "clobber"),
    "--config": ("cfg", "config-file", "hparams", "params", "options"),
    "--phi": ("threshold", "cutoff", "sparsity"),
    "--percentile": ("ratio", "amount", "pruning-ratio", "fraction", "quantile"),
    "--freeze": ("frozen", "freeze-layers", "freeze-layer", "exclude", "ignore-layers", "fixed", "keep-frozen"),
    "--last": ("head", "last-layers", "freeze-backbone", "head-only", "unfreeze"),
    "--first": ("first-layers",),
    "--all": ("full", "unfreeze-all", "all-layers"),
    "--mode adapter": ("lora", "adapter", "peft", "use-lora"),
    "--rank": ("lora-rank", "lora-r", "r"),
    "--resize": ("image-size", "img-size", "imgsz", "size", "input-size"),
    "--crop": ("crop-size", "center-crop"),
    "--patch": ("patch-size", "tile-size", "roi-size"),
    "--tile": ("patch-size", "tile-size", "roi-size", "sliding-window"),
    "--scale": ("normalize", "normalise", "normalization", "rescale"),
    "--colour": ("color", "color-mode", "channels"),
    "--colour grey": ("grayscale", "greyscale", "gray", "grey"),
    "--augment": ("augmentation", "augmentations", "aug", "transforms"),
    "--metric": ("metrics", "eval-metric"),
}
_COMMANDS: Mapping[str, tuple[str, ...]] = {
    "finetune": ("fit", "fine-tune", "fine_tune", "tune", "adapt", "retrain", "ft", "learn", "all"),
    "apply": ("predict", "infer", "inference", "run", "denoise", "segment", "classify", "test"),
    "inspect": (
        "info",
        "show",
        "summary",
        "summarize",
        "layers",
        "describe",
        "list",
        "view",
        "visualize",
        "plot",
        "graph",
    ),
    "check": ("validate", "diagnose", "doctor", "lint", "env"),
    "mask": ("select", "prune", "freeze"),
    "build": ("compile", "prepare", "artifacts"),
    "export": ("convert", "save", "merge"),
    "verify": ("diff", "prove", "proof"),
    "score": ("kse", "importance", "rank"),
    "compare": ("evaluate", "eval", "benchmark", "bench"),
    "guide": ("docs", "doc", "manual", "man", "guides", "readme"),
    "train --resume": ("resume", "continue"),
    "--help": ("help",),
    "--version": ("version",),
}
_NEAR = 0.7


def option_meant(typed: str, running: click.Command, others: Mapping[str, click.Command]) -> str:
    """Returns what is said of an option that a command lacks: which one does it, or which commands have it.

    Args:
        typed: the option, with its dashes.
        running: the command.
        others: all commands by name; those that are not imported are so only where the running one has nothing to offer.

    Returns:
        A sentence, as in ``Did you mean '--device cuda'?``; empty if nothing is known.
    """
    name = _plain(typed)
    own = _options(running)
    meant = next(_having(_ours(name), own), "") or _nearest(name, own)
    if meant:
        return f"Did you mean {meant!r}?"
    for wanted in (f"--{name}", *_ours(name)):
        having = [each for each, command in others.items() if wanted.split()[0] in _options(command)]
        if having:
            what = "It" if wanted == typed else f"{wanted!r}"
            return f"{what} is of {_listed(having)}."
    return ""


def command_meant(typed: str, names: Iterable[str]) -> str:
    """Returns what is said of a command that does not exist, as `option_meant` does."""
    name = typed.lower()
    near = difflib.get_close_matches(name, list(names), 1, _NEAR)
    meant = next((ours for ours, habits in _COMMANDS.items() if name in habits), near[0] if near else "")
    return f"Did you mean 'tgdonnx {meant}'?" if meant else ""


def _plain(typed: str) -> str:
    return typed.lstrip("-").lower().replace("_", "-")


def _ours(name: str) -> Iterator[str]:
    return (ours for ours, habits in _OPTIONS.items() if name in habits)


def _having(wanted: Iterable[str], options: set[str]) -> Iterator[str]:
    return (each for each in wanted if each.split()[0] in options)


def _nearest(name: str, options: set[str]) -> str:
    """Returns the option that is spelt most alike; a beginning of one stands for it where it is of no other."""
    long = sorted(option for option in options if option.startswith("--"))
    begun = [option for option in long if option.startswith(f"--{name}")]
    near = difflib.get_close_matches(f"--{name}", long, 1, _NEAR)
    return begun[0] if len(begun) == 1 and len(name) > 1 else near[0] if near else ""


def _options(command: click.Command) -> set[str]:
    return {
        name for each in command.params if isinstance(each, click.Option) for name in (*each.opts, *each.secondary_opts)
    }


def _listed(names: list[str]) -> str:
    quoted = [f"`tgdonnx {name}`" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
