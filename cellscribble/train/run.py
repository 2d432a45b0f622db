"""One training run, from files to a run folder that can be exported."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from cellscribble.bundle import ModelMetadata
from cellscribble.config import TrainConfig, config_from_mapping, method_settings
from cellscribble.core.blocks import padded_shape
from cellscribble.core.errors import InputError, OutputError
from cellscribble.data.batch import collate
from cellscribble.data.holdout import Holdout, hold_out_strokes
from cellscribble.data.patches import PatchSource
from cellscribble.data.samples import Sample
from cellscribble.io.atomic import save_json
from cellscribble.methods.base import Method, Progress
from cellscribble.methods.registry import METHODS, get_method
from cellscribble.nn.build import NETWORKS, build_network
from cellscribble.nn.resnet_unet import DEPTHS, ResNetUNet
from cellscribble.provenance import command, now, versions
from cellscribble.train.calibrate import Calibration, calibrate
from cellscribble.train.checkpoint import BEST, LAST, load_state
from cellscribble.train.inputs import TrainingSet, samples_of
from cellscribble.train.loop import Fit, Tick
from cellscribble.train.pictures import save_curves, save_seen
from cellscribble.train.plan import Schedule, Speed, budget_schedule, crops_in, epochs_schedule
from cellscribble.train.predictor import Predictor
from cellscribble.train.run_folder import CONFIG, INPUTS, save_facts, save_tiles
from cellscribble.train.score import scoring_windows

LIGHT_PATCH_PX, RESNET_PATCH_PX = 128, 256
PATCH_3D_SHARE = 3 / 8
"""The edge of a 3D patch as a share of the 2D one: 48 px for 128, seven times the pixels."""
RESERVE_S_PER_MPIX = 0.5
RESERVE_S = 4.0
MAX_RESERVE_MPIX = 8.0
"""Of a time budget kept for calibration, pictures and export."""


class Reporter(Protocol):
    """What the caller hears while a run goes on."""

    def say(self, text: str) -> None: ...
    def tick(self, tick: Tick) -> None: ...


@dataclass(frozen=True, slots=True)
class RunResult:
    """Where the run is and how it ended."""

    folder: Path
    holdout: Holdout
    score: dict[str, Any] | None
    calibration: Calibration
    interrupted: bool
    n_epochs: int


def train(
    training_set: TrainingSet,
    config: TrainConfig,
    folder: Path,
    reporter: Reporter,
    *,
    resume: bool = False,
    masks: Sequence[np.ndarray] | None = None,
) -> RunResult:
    """Train into `folder`; afterwards `export.onnx.export(folder, ...)` writes the model.

    Raises
    ------
    InputError
        If settings and data do not fit together.
    OutputError
        If the folder holds a run already and `resume` is not given.
    """
    began = time.monotonic()
    check_run(config, folder, resume)
    folder.mkdir(parents=True, exist_ok=True)
    device = choose_device(config.device)
    torch.manual_seed(config.seed)
    samples = samples_of(training_set)
    method = make_method(config, len(training_set.classes))
    rng = np.random.default_rng([config.seed, 1])
    holdout = hold_out_strokes(samples, len(training_set.classes), config.holdout_share, rng)
    fit = _make_fit(training_set, config, folder, reporter, samples, method, device)
    if resume:
        _check_same_inputs(folder, training_set)
        fit.resume()
        reporter.say(f"resumed after epoch {fit.epoch} of {fit.schedule.n_epochs}")
    else:
        save_json(folder / CONFIG, config.to_json(), overwrite=True)
        save_json(folder / INPUTS, training_set.hashes, overwrite=True)
        method.prepare(samples)
        _plan(fit, config, began)
    save_tiles(folder, samples)
    fit.run()
    return _finish(fit, training_set, holdout, reporter)


def choose_run_folder(out: Path | None, method: str, resume: bool, date: datetime) -> Path:
    """The run folder: as given, or runs/<date>_<method>; with `resume` the newest run in runs/."""
    if out is not None:
        return out
    if not resume:
        return Path("runs") / f"{date:%Y-%m-%d_%H%M%S}_{method}"
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
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{folder} holds no run to resume ({error}); give its folder with -o") from error
    for key, value in flags.items():
        if stored.get(key) != value:
            raise InputError(
                f"the run in {folder} has {key} {stored.get(key)!r}, not {value!r}; "
                f"leave --{key.replace('_', '-')} out to resume it, or start a new run"
            )
    return config_from_mapping(stored, str(path))


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


def patch_shape(config: TrainConfig, training_set: TrainingSet, multiple: Sequence[int]) -> tuple[int, ...]:
    """The patch, px, on the network's stride; in 3D flattened along z by the voxel's own anisotropy."""
    image = training_set.pairs[0].image
    # Small patches around strokes hold more labelled pixels for the same work: in a minute on two cores
    # 128 px learnt far more than 256 (docs/accuracy.md). A ResNet sees 256 px at once, as published.
    patch_px = config.patch_px or (LIGHT_PATCH_PX if config.network == "light" else RESNET_PATCH_PX)
    if image.ndim == 2:
        return padded_shape((patch_px,) * 2, multiple)
    edge = max(32, int(patch_px * PATCH_3D_SHARE))
    size = image.pixel_size_um
    ratio = 1.0 if size is None else max(1.0, size[0] / min(size[1:]))
    depth = min(edge, max(8, round(edge / ratio / 8) * 8))
    return padded_shape((depth, edge, edge), multiple)


def _make_fit(
    training_set: TrainingSet,
    config: TrainConfig,
    folder: Path,
    reporter: Reporter,
    samples: list[Sample],
    method: Method,
    device: torch.device,
) -> Fit:
    image = training_set.pairs[0].image
    network = build_network(config.network, image.n_channels, method.out_channels(), image.ndim, image.pixel_size_um)
    if config.encoder_weights is not None and isinstance(network, ResNetUNet):
        network.load_encoder(Path(config.encoder_weights))
    layout = torch.channels_last if image.ndim == 2 else torch.channels_last_3d
    network = network.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    patch_px = patch_shape(config, training_set, network.stride_multiple)
    n_classes = len(training_set.classes)
    source = PatchSource(samples, n_classes, patch_px, config.anywhere_share, config.augment)
    predictor = Predictor(network, image.n_channels, n_classes, device)
    windows = scoring_windows(samples, n_classes, patch_px)
    return Fit(
        config=config,
        method=method,
        network=network,
        samples=samples,
        source=source,
        windows=windows,
        predictor=predictor,
        schedule=Schedule(1, 1, 1, 0, 1),
        folder=folder,
        on_tick=reporter.tick,
        on_refresh=lambda epoch: None,
    )


def _plan(fit: Fit, config: TrainConfig, began: float) -> None:
    patch_px = fit.source.patch_px
    if config.epochs is not None:
        n_crops = crops_in([s.scribbles.shape for s in fit.samples], patch_px)
        fit.schedule = epochs_schedule(config, n_crops, fit.method.two_stages)
        return
    assert config.minutes is not None
    speed = measure_speed(fit)
    n_pixels = sum(s.scribbles.size for s in fit.samples)
    reserve_s = RESERVE_S + min(MAX_RESERVE_MPIX, n_pixels / 1e6) * RESERVE_S_PER_MPIX
    fit.started = began
    fit.budget_s = max(1.0, config.minutes * 60 - reserve_s)
    left_s = max(1.0, fit.budget_s - (time.monotonic() - began))
    fit.schedule = budget_schedule(left_s, speed, fit.method.two_stages)


def measure_speed(fit: Fit) -> Speed:
    """Time a few steps and predictions on a copy of the network; the run itself is untouched."""
    network = copy.deepcopy(fit.network)
    optimiser = torch.optim.RAdam(network.parameters(), lr=1e-6)
    rng = np.random.default_rng([fit.config.seed, 2])
    times = []
    for _ in range(4):
        began = time.perf_counter()
        batch = collate(fit.source.draw_batch(fit.config.batch_size, rng), fit.predictor.device)
        terms = fit.method.loss(network, batch, Progress(0, True))
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        times.append(time.perf_counter() - began)
    sample = min(fit.samples, key=lambda s: s.scribbles.size)
    fit.predictor(sample)
    began = time.perf_counter()
    fit.predictor(sample)
    per_pixel_s = (time.perf_counter() - began) / sample.scribbles.size
    n_window_px = len(fit.windows) * int(np.prod(fit.source.patch_px))
    n_pixels = sum(s.scribbles.size for s in fit.samples)
    began = time.perf_counter()
    fit.method.refresh([replace(sample, memory={})], fit.predictor, Progress(0, True))
    refresh_s = (time.perf_counter() - began) / sample.scribbles.size * n_pixels
    return Speed(min(times[1:]), max(refresh_s, 1e-3), per_pixel_s * n_window_px)


def _finish(fit: Fit, training_set: TrainingSet, holdout: Holdout, reporter: Reporter) -> RunResult:
    tensors, best = load_state(fit.folder / BEST, fit.predictor.device)
    fit.network.load_state_dict(tensors["network"])
    reporter.say("measuring where the edges are and how objects are told apart")
    rng = np.random.default_rng([fit.config.seed, 3])
    calibration = calibrate(fit.samples, fit.predictor, rng)
    metadata = describe_model(fit, training_set, calibration, best["score"])
    save_json(fit.folder / "calibration.json", asdict(calibration), overwrite=True)
    save_facts(fit.folder, metadata)
    save_curves(fit.folder / "curves.png", fit.history, fit.schedule.warmup_epochs)
    save_seen(fit.folder / "seen.png", fit.samples, fit.predictor, calibration.edge_level, training_set.colors)
    return RunResult(fit.folder, holdout, best["score"], calibration, fit.stop_asked, fit.epoch)


def describe_model(
    fit: Fit, training_set: TrainingSet, calibration: Calibration, score: dict[str, Any] | None
) -> ModelMetadata:
    """Everything the model file says about itself."""
    config, image = fit.config, training_set.pairs[0].image
    entry = METHODS[config.method]
    return ModelMetadata(
        name=fit.folder.name,
        classes=training_set.classes,
        colors=training_set.colors,
        axes=image.axes,
        channels=channel_names(image.n_channels, image.is_rgb, image.channel_names),
        is_rgb=image.is_rgb,
        pixel_size_um=training_set.pixel_size_um,
        intensity=training_set.rule,
        stride_multiple=fit.network.stride_multiple,
        halo_px=fit.predictor.halo_px,
        segmenter=fit.method.segmenter,
        segmenter_parameters=calibration.segmenter_parameters,
        edge_threshold=calibration.edge_level,
        method=config.method,
        config=config.to_json(),
        seed=config.seed,
        versions=versions("torch", "onnx"),
        data_hashes=training_set.hashes,
        holdout=score,
        license="",
        citation=f"{entry.paper} (method {config.method})",
        created=now(),
        command=command(),
    )


def channel_names(n: int, is_rgb: bool, given: Sequence[str]) -> tuple[str, ...]:
    if given and len(given) == n:
        return tuple(given)
    return ("red", "green", "blue") if is_rgb else tuple(f"channel {i + 1}" for i in range(n))


def _check_same_inputs(folder: Path, training_set: TrainingSet) -> None:
    """A run goes on with the very images and strokes it began with, or it is another run."""
    try:
        before = json.loads((folder / INPUTS).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(f"{folder / INPUTS} cannot be read ({error}); start a new run") from error
    now_ = training_set.hashes
    changed = sorted(name for name in before.keys() | now_.keys() if before.get(name) != now_.get(name))
    if changed:
        shown = ", ".join(changed[:3]) + (" ..." if len(changed) > 3 else "")
        raise InputError(
            f"{len(changed)} images or strokes are not those the run in {folder} began with ({shown}); "
            "put them back to resume it, or start a new run"
        )


def check_run(config: TrainConfig, folder: Path, resume: bool) -> None:
    """Refuse what cannot run, before any data is read and before anything is written.

    Raises
    ------
    InputError
        If a name or a method's setting is unknown, the device is missing, or there is no run to resume.
    OutputError
        If the folder holds a run already and `resume` is not given.
    """
    make_method(config, 2)
    choose_device(config.device)
    if config.network not in NETWORKS:
        raise InputError(f"network {config.network!r} is unknown; choose one of {', '.join(NETWORKS)}")
    if config.encoder_weights is not None and config.network not in DEPTHS:
        raise InputError(f"encoder_weights needs a ResNet, not {config.network!r}; give --network resnet34")
    if resume and not (folder / LAST).exists():
        raise InputError(f"{folder} holds no run to resume; give its folder with -o, or leave --resume out")
    if not resume and (folder / LAST).exists():
        raise OutputError(f"{folder} holds a run already; continue it with --resume, or choose another folder with -o")
