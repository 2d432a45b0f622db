"""Before a run: where it goes, what it continues, and whether it can run at all."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from cellscribble.bundle import MODEL_FILE, int8_path
from cellscribble.config import TrainConfig, config_from_mapping, method_settings
from cellscribble.core.errors import InputError, OutputError
from cellscribble.methods.base import Method
from cellscribble.methods.registry import get_method
from cellscribble.nn.build import NETWORKS
from cellscribble.nn.resnet_unet import DEPTHS
from cellscribble.train.checkpoint import BEST, LAST
from cellscribble.train.inputs import TrainingSet
from cellscribble.train.run_folder import CONFIG, INPUTS


def choose_run_folder(out: Path | None, method: str | None, date: datetime) -> Path:
    """The run folder: as given, or a new runs/<date>_<method>; without a method, to resume, the newest in runs/."""
    if out is not None:
        return out
    if method is not None:
        name = f"{date:%Y-%m-%d_%H%M%S}_{method}"
        names = itertools.chain([name], (f"{name}_{n}" for n in itertools.count(2)))
        return next(folder for folder in (Path("runs") / name for name in names) if not folder.exists())
    found = sorted(Path("runs").glob(f"*/{LAST}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InputError("there is no run to resume in ./runs; give its folder with -o")
    return found[-1].parent


def resumed_config(folder: Path, flags: Mapping[str, Any]) -> TrainConfig:
    """The settings of the run in `folder`.

    Raises
    ------
    InputError
        If there is no run, or a flag contradicts it: the run would no longer be what it was.
    """
    path = folder / CONFIG
    try:
        stored = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder} holds no run to resume ({error}); give its folder with -o") from error
    for key, value in flags.items():
        if stored.get(key, value) != value:
            raise InputError(
                f"the run in {folder} has {key} {stored[key]!r}, not {value!r}; "
                f"leave --{key.replace('_', '-')} out to resume it, or start a new run"
            )
    # Version 0.1.0 did not store how images were read.
    return config_from_mapping({**flags, **stored}, str(path))


def check_run(config: TrainConfig, folder: Path, resume: bool, has_masks: bool = False) -> None:
    """Refuse what cannot run, before any data is read and before anything is written.

    Raises
    ------
    InputError
        As `check_settings`, or if there is no run to resume.
    OutputError
        If the folder holds a run or a model already and `resume` is not given.
    """
    check_settings(config, has_masks)
    if resume and not (folder / LAST).exists():
        raise InputError(f"{folder} holds no run to resume; give its folder with -o, or leave --resume out")
    if resume:
        return
    if (folder / LAST).exists():
        raise OutputError(f"{folder} holds a run already; continue it with --resume, or choose another folder with -o")
    for path in (folder / BEST, folder / MODEL_FILE, int8_path(folder / MODEL_FILE)):
        if path.exists():
            raise OutputError(
                f"{folder} holds {path.name} already, which training would replace; choose another folder with -o"
            )


def check_settings(config: TrainConfig, has_masks: bool) -> None:
    """Refuse settings that cannot run.

    has_masks : whether dense labels are given to learn from

    Raises
    ------
    InputError
        If a name or a method's setting is unknown, the device is missing, or the method needs labels that
        are not given, or must not see those that are.
    """
    method = make_method(config, 2)
    if method.needs_masks and not has_masks:
        raise InputError(
            f"method {config.method} learns from dense labels and none are given; give their folder with --labels, "
            "or choose a method that learns from strokes ('cellscribble methods' lists them)"
        )
    if has_masks and not method.needs_masks:
        raise InputError(
            f"labels are given but method {config.method} learns from strokes alone; leave --labels out "
            "('cellscribble evaluate' scores against labels), or give --method full_supervision"
        )
    if method.n_refreshes() is not None and config.refresh_every_epochs is not None:
        raise InputError(
            f"refresh_every_epochs is {config.refresh_every_epochs} but method {config.method} has its own number of "
            "ensembling steps (n_recursions); leave refresh_every_epochs out"
        )
    choose_device(config.device)
    if config.network not in NETWORKS:
        raise InputError(f"network {config.network!r} is unknown; choose one of {', '.join(NETWORKS)}")
    if config.encoder_weights is not None and config.network not in DEPTHS:
        raise InputError(f"encoder_weights needs a ResNet, not {config.network!r}; give --network resnet34")


def check_same_inputs(folder: Path, training_set: TrainingSet) -> None:
    """A run goes on with the very images and strokes it began with, or it is another run."""
    try:
        before = dict(json.loads((folder / INPUTS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{folder / INPUTS} cannot be read ({error}); start a new run") from error
    now_ = training_set.hashes
    changed = sorted(name for name in before.keys() | now_.keys() if before.get(name) != now_.get(name))
    if changed:
        shown = ", ".join(changed[:3]) + (" ..." if len(changed) > 3 else "")
        raise InputError(
            f"{len(changed)} images or strokes are not those the run in {folder} began with ({shown}); "
            "put them back to resume it, or start a new run"
        )


def make_method(config: TrainConfig, n_classes: int) -> Method:
    """The method with its own settings, checked."""
    method_class = get_method(config.method)
    return method_class(method_settings(config, method_class.Config), n_classes)


def choose_device(name: str) -> torch.device:
    """The device to train on; "auto" takes CUDA where torch can use it.

    Raises
    ------
    InputError
        If CUDA is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "device is 'cuda' but torch finds no CUDA device; use --device cpu, or run 'cellscribble doctor'"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
