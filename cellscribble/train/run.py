"""One training run, from files to a run folder that can be exported."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from cellscribble.config import TrainConfig
from cellscribble.core.blocks import padded_shape
from cellscribble.core.errors import TrainingError
from cellscribble.core.progress import Work
from cellscribble.core.volume import plane_distance
from cellscribble.data.holdout import Holdout, hold_out_strokes
from cellscribble.data.patches import PatchSource
from cellscribble.data.samples import Sample
from cellscribble.io.atomic import save_json
from cellscribble.io.averages import save_averages
from cellscribble.methods.base import Method
from cellscribble.nn.build import build_network
from cellscribble.nn.resnet_unet import DEPTHS, ResNetUNet
from cellscribble.train.calibrate import Calibration, calibrate
from cellscribble.train.checkpoint import BEST, load_state
from cellscribble.train.inputs import TrainingSet, samples_of
from cellscribble.train.loop import Fit, Tick
from cellscribble.train.model_facts import describe_model
from cellscribble.train.pictures import save_curves
from cellscribble.train.plan import Schedule
from cellscribble.train.predictor import Predictor
from cellscribble.train.run_folder import CONFIG, INPUTS, MODEL_JSON, save_facts, save_tiles
from cellscribble.train.score import scoring_windows
from cellscribble.train.seen import Color, save_seen
from cellscribble.train.start import check_run, check_same_inputs, choose_device, make_method
from cellscribble.train.timing import plan_run

LIGHT_PATCH_PX, RESNET_PATCH_PX = 128, 256
PATCH_3D_SHARE = 3 / 8
"""The edge of a 3D patch as a share of the 2D one: 48 px for 128, seven times the pixels."""

LATE = 0.5
"""Of a time budget, which is a warning where it has gone before the first step."""


class Reporter(Protocol):
    """What the caller hears while a run goes on."""

    def say(self, text: str) -> None: ...
    def tick(self, tick: Tick) -> None: ...
    def part(self, what: str, done: float, total: float) -> None: ...


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
) -> RunResult:
    """Train into `folder`; afterwards `export.onnx.export(folder, ...)` writes the model.

    Raises
    ------
    InputError
        If settings and data do not fit together.
    OutputError
        If the folder holds a run already and `resume` is not given.
    TrainingError
        If training diverges; what was learnt before that can be exported.
    KeyboardInterrupt
        At Ctrl-C, but while it learns: then it ends early and well. At SIGTERM (`Terminated`). Once there is a
        last.pt, `resume` goes on.
    """
    began = time.monotonic()
    check_run(config, folder, resume, training_set.has_masks)
    folder.mkdir(parents=True, exist_ok=True)
    device = choose_device(config.device)
    torch.manual_seed(config.seed)
    samples, holdout = split_samples(training_set, config)
    method = make_method(config, len(training_set.classes))
    fit = _make_fit(training_set, config, folder, reporter, samples, method, device)
    if resume:
        check_same_inputs(folder, training_set)
        fit.resume()
        # Of the state that was the best when the run was stopped; it fits no later one.
        (folder / MODEL_JSON).unlink(missing_ok=True)
        reporter.say(f"resumed after epoch {fit.epoch} of {fit.schedule.n_epochs}")
    else:
        save_json(folder / CONFIG, config.to_json(), overwrite=True)
        save_json(folder / INPUTS, training_set.hashes, overwrite=True)
        with fit.work.part("getting ready", sum(s.scribbles.size for s in samples)):
            method.prepare(samples, fit.work.done)
        for warning in method.warnings:
            reporter.say(f"warning: {warning}")
        plan_run(fit, began)
        if config.minutes is not None and fit.pace.elapsed_s > LATE * config.minutes * 60:
            reporter.say(
                f"warning: getting ready took {fit.pace.elapsed_s / 60:.1f} of the {config.minutes:g} minutes; give "
                f"more (--minutes), or another method than {config.method}"
            )
    save_tiles(folder, samples)
    try:
        fit.run()
    except TrainingError:
        if fit.best.epoch is not None:
            _finish(fit, training_set, holdout, reporter)
        raise
    if fit.stop_asked:
        reporter.say("stopped; the best so far is exported (Ctrl-C again ends at once)")
    return _finish(fit, training_set, holdout, reporter)


def split_samples(training_set: TrainingSet, config: TrainConfig) -> tuple[list[Sample], Holdout]:
    """The training images, some strokes held out: of one seed the same strokes whatever the method."""
    samples = samples_of(training_set)
    rng = np.random.default_rng([config.seed, 1])
    return samples, hold_out_strokes(samples, len(training_set.classes), config.holdout_share, rng)


def patch_shape(config: TrainConfig, training_set: TrainingSet, multiple: Sequence[int]) -> tuple[int, ...]:
    """The patch, px, on the network's stride; in 3D flattened along z by the voxel's own anisotropy, and no deeper
    than the deepest volume: what lies beyond is its mirror image and would cost as much as the volume itself."""
    image = training_set.pairs[0].image
    # Small patches around strokes hold more labelled pixels for the same work: in a minute on two cores
    # 128 px learnt far more than 256 (docs/accuracy.md). A ResNet sees 256 px at once, as published.
    patch_px = config.patch_px or (RESNET_PATCH_PX if config.network in DEPTHS else LIGHT_PATCH_PX)
    if image.ndim == 2:
        return padded_shape((patch_px,) * 2, multiple)
    edge = max(32, int(patch_px * PATCH_3D_SHARE))
    ratio = max(1.0, plane_distance(training_set.pixel_size_um))
    deepest = max(pair.image.spatial_shape[0] for pair in training_set.pairs)
    depth = min(edge, max(8, round(edge / ratio / 8) * 8), deepest)
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
    # Not that of one image: `export` builds the network again by the size that the model states.
    size = training_set.pixel_size_um
    network = build_network(config.network, image.n_channels, method.out_channels(), image.ndim, size)
    if config.encoder_weights is not None and isinstance(network, ResNetUNet):
        network.load_encoder(Path(config.encoder_weights))
    layout = torch.channels_last if image.ndim == 2 else torch.channels_last_3d
    network = network.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    patch_px = patch_shape(config, training_set, network.stride_multiple)
    n_classes = len(training_set.classes)
    source = PatchSource(samples, n_classes, patch_px, config.anywhere_share, config.augment)
    work = Work(reporter.part)
    predictor = Predictor(network, image.n_channels, method, device, work.done)
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
        draw=partial(_draw, colors=training_set.colors),
        work=work,
    )


def _finish(fit: Fit, training_set: TrainingSet, holdout: Holdout, reporter: Reporter) -> RunResult:
    tensors, best = load_state(fit.folder / BEST, fit.predictor.device)
    fit.network.load_state_dict(tensors["network"])
    reporter.say("measuring where the edges are and how objects are told apart")
    rng = np.random.default_rng([fit.config.seed, 3])
    calibration = calibrate(fit.samples, fit.predictor, rng, fit.work)
    metadata = describe_model(fit, training_set, calibration, best["score"])
    save_json(fit.folder / "calibration.json", asdict(calibration), overwrite=True)
    save_facts(fit.folder, metadata)
    average = fit.method.average
    save_averages(fit.folder, ((s.image, s.memory[average]) for s in fit.samples if average and average in s.memory))
    _draw(fit, training_set.colors, calibration.edge_level)
    return RunResult(fit.folder, holdout, best["score"], calibration, fit.stop_asked, fit.epoch)


def _draw(fit: Fit, colors: Sequence[Color], level: float | None = None) -> None:
    """Curves and what the network sees now, decided at the edge level last found."""
    if level is None:
        level = next(reversed(fit.history.series("edge_level")[1]), 0.5)
    save_curves(fit.folder / "curves.png", fit.history, fit.schedule.warmup_epochs)
    save_seen(fit.folder / "seen.png", fit.samples, fit.predictor, fit.method, level, colors)
