"""`adapt`: a model, one image and a few strokes on it -> a model for this image and others like it.

::

    image, strokes   -> blocks with strokes           the rest of a large volume is not read
    model            -> features of these blocks      all but the last layer, as it is in the file
    features         -> metric and 1x1 layer          on the stroked pixels, in seconds
    blocks           -> edge level, object settings   as after training
    all of it        -> a model file                  compared with what was trained, number by number
"""

from __future__ import annotations

import hashlib
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.adapt.learn import Classifier, LearnConfig, learn
from cellscribble.adapt.network import LastLayer, NetworkFile
from cellscribble.adapt.strokes import images_2d, pieces_of, read_strokes
from cellscribble.bundle import Model, ModelMetadata, open_model
from cellscribble.core.blocks import padded_shape, read_padded
from cellscribble.core.errors import ModelError
from cellscribble.core.intensity import fit_intensity
from cellscribble.core.labels import UNLABELLED
from cellscribble.core.reading import reading
from cellscribble.core.volume import ImageVolume
from cellscribble.data.holdout import Holdout, hold_out_strokes
from cellscribble.data.samples import Sample, find_strokes
from cellscribble.infer.fit import check_fit, format_um
from cellscribble.infer.runner import Runner
from cellscribble.io.atomic import atomic_path
from cellscribble.methods.registry import METHODS
from cellscribble.provenance import command, now, versions
from cellscribble.segment.edge_level import shift_to_edge
from cellscribble.segment.graph_cut import GraphCut, typical_difference
from cellscribble.train.calibrate import Calibration, calibrate
from cellscribble.train.score import HoldoutScore, score_shares, share_right

METHOD = "metric_learning"
HOLDOUT_SHARE = 0.2
TOLERANCE = 1e-4

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Adapted:
    """What came of it.

    n_pixels : stroked pixels of each class
    before, after : on held-out strokes, of the model as it was and of one that was adapted without these strokes;
        None where there were too few strokes to hold some out
    notes : what a user should know, one sentence each
    """

    model: Model
    n_pixels: tuple[int, ...]
    holdout: Holdout
    before: HoldoutScore | None
    after: HoldoutScore | None
    calibration: Calibration
    notes: tuple[str, ...]


def adapt(
    model: Model,
    image: ImageVolume,
    strokes: Path,
    out: Path,
    *,
    graph_cut: bool = True,
    timepoint: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Adapted:
    """Fit a model's last layer to strokes on one image, and write the model that comes of it.

    A 2D model is adapted to the sections of a stack that have strokes.

    Parameters
    ----------
    image : lazy or in memory; blocks with strokes are read, and what normalising needs
    strokes : file of strokes on it
    graph_cut : the new model decides by a graph cut what is cell (`segment.graph_cut`)

    Raises
    ------
    ModelError
        If the model's last layer cannot be trained, the image does not fit it, or the file that was written gives
        other probabilities than what was trained; then nothing is written.
    InputError
        If the strokes do not fit the image or the model.
    OutputError
        If `out` exists and `overwrite` is not given, or cannot be written.
    """
    meta = model.metadata
    network = NetworkFile(model)
    fit = check_fit(image, replace(meta, graph_cut=None), ignore_pixel_size=True, planes=True)
    drawn = read_strokes(strokes, image, meta, timepoint).data
    config = LearnConfig()
    with atomic_path(out, overwrite=overwrite) as temporary, tempfile.TemporaryDirectory() as folder:
        network.write_features(Path(folder) / "features.onnx")
        runner = Runner(open_model(Path(folder) / "features.onnx"), "cpu")
        pieces = _pieces(runner, image, drawn)
        samples = [sample for sample, _ in pieces]
        rng = np.random.default_rng(seed)
        holdout = hold_out_strokes(samples, len(meta.classes), HOLDOUT_SHARE, rng)
        before, after = (
            _scores(network.last_layer, pieces, meta, config, seed) if any(holdout.n_held) else (None, None)
        )
        for sample in samples:
            np.copyto(sample.scribbles, sample.held_out, where=sample.held_out != UNLABELLED)
            sample.held_out[...] = UNLABELLED
        features, labels = _stroked(pieces)
        classifier = learn(network.last_layer, features, labels, config, seed)
        probability = {id(sample): classifier.probability(maps) for sample, maps in pieces}
        calibration = calibrate(samples, lambda sample: probability[id(sample)], rng)
        cut = GraphCut(sigma=round(typical(samples), 4)) if graph_cut else None
        about = _describe(model, image, samples, drawn, calibration, cut, config, seed)
        if before and after:
            about = replace(about, holdout=asdict(after) | {"score_before": before.score})
        bias = _logit(calibration.edge_level)
        network.write_adapted(classifier.last_layer(), bias, about, temporary)
        _compare(open_model(temporary), samples[0], runner, classifier)
    counts = np.bincount(labels, minlength=len(meta.classes))
    # What `check_fit` says first of a 2D model on a stack is of interest to predict alone.
    of_fit = fit.notes[image.ndim - meta.ndim :]
    notes = (*of_fit, *_pixel_size_note(image, meta), *_missing_note(meta.classes, counts))
    return Adapted(open_model(out), tuple(counts.tolist()), holdout, before, after, calibration, notes)


def typical(samples: Sequence[Sample]) -> float:
    """sigma of the graph cut: the mean over the blocks with strokes."""
    return float(np.mean([typical_difference(sample.normalised()) for sample in samples]))


def _pieces(runner: Runner, image: ImageVolume, drawn: npt.NDArray[np.int16]) -> list[tuple[Sample, Floats]]:
    with reading(image):
        intensity = fit_intensity(image, runner.metadata.intensity)
    images = [(image, drawn)] if image.ndim == runner.metadata.ndim else images_2d(image, drawn)
    return [piece for one, strokes in images for piece in pieces_of(one, strokes, intensity, runner)]


def _stroked(pieces: Sequence[tuple[Sample, Floats]]) -> tuple[Floats, npt.NDArray[np.int16]]:
    """Features (N, F) and classes (N,) of the pixels that are learnt from."""
    features, labels = [], []
    for sample, maps in pieces:
        at = sample.scribbles != UNLABELLED
        features.append(maps[:, at].T)
        labels.append(sample.scribbles[at])
    return np.concatenate(features), np.concatenate(labels)


def _scores(
    start: LastLayer, pieces: Sequence[tuple[Sample, Floats]], meta: ModelMetadata, config: LearnConfig, seed: int
) -> tuple[HoldoutScore, HoldoutScore]:
    """Of the model as it was, at its edge level, and of one adapted without the strokes that are held out."""

    def score(classifier: Classifier, edge_level: float) -> HoldoutScore:
        shares: list[list[float]] = [[] for _ in meta.classes]
        for sample, maps in pieces:
            flat = maps.reshape(len(maps), -1)
            for stroke in find_strokes(sample.held_out, len(meta.classes)):
                probability = shift_to_edge(classifier.probability(flat[:, stroke.pixels]), edge_level)
                shares[stroke.label].append(share_right(probability.argmax(axis=0), stroke))
        return score_shares(shares, np.random.default_rng(seed))

    learnt = learn(start, *_stroked(pieces), config, seed)
    return score(Classifier(start).eval(), meta.edge_threshold or 0.5), score(learnt, 0.5)


def _describe(
    model: Model,
    image: ImageVolume,
    samples: Sequence[Sample],
    drawn: npt.NDArray[np.int16],
    calibration: Calibration,
    cut: GraphCut | None,
    config: LearnConfig,
    seed: int,
) -> ModelMetadata:
    """What the new model says of itself."""
    meta = model.metadata
    blocks = hashlib.sha256()
    for sample in samples:
        blocks.update(np.ascontiguousarray(sample.image.data).tobytes())
    hashes = {
        f"{image.name} (blocks with strokes)": blocks.hexdigest(),
        f"{image.name} (strokes)": hashlib.sha256(np.ascontiguousarray(drawn).tobytes()).hexdigest(),
    }
    size = image.pixel_size_um and image.pixel_size_um[-meta.ndim :]
    before = {"name": meta.name, "sha256": model.sha256, "method": meta.method, "config": meta.config}
    paper = METHODS[METHOD].paper
    return replace(
        meta,
        name=f"{meta.name} for {image.name}",
        pixel_size_um=size or meta.pixel_size_um,
        segmenter_parameters=calibration.segmenter_parameters,
        edge_threshold=calibration.edge_level,
        usual_doubt=calibration.usual_doubt,
        graph_cut=None if cut is None else cut.to_dict(),
        method=METHOD,
        config={"adapted": asdict(config), "from": before},
        seed=seed,
        versions=versions("torch", "onnx"),
        data_hashes=meta.data_hashes | hashes,
        citation=meta.citation if paper in meta.citation else f"{meta.citation}; {paper} (adapted)".removeprefix("; "),
        created=now(),
        command=command(),
    )


def _compare(written: Model, sample: Sample, features: Runner, classifier: Classifier) -> None:
    """Raises ModelError if the file, given a block, says otherwise than features and classifier do."""
    shape = padded_shape(sample.scribbles.shape, features.metadata.stride_multiple)
    block = sample.intensity.apply(read_padded(sample.image.data, tuple(slice(0, n) for n in shape)))
    level = written.metadata.edge_threshold
    assert level is not None
    expected = shift_to_edge(classifier.probability(features(block)), level)
    worst = float(np.abs(Runner(written, "cpu")(block) - expected).max())
    if not worst <= TOLERANCE:  # spelled so that NaN fails too
        raise ModelError(
            f"the model that was written differs from the adapted one by {worst:.2g} (allowed {TOLERANCE:g}); "
            "report this with doctor's output"
        )


def _logit(level: float) -> float:
    return math.log(level) - math.log1p(-level)


def _missing_note(classes: Sequence[str], counts: npt.NDArray[np.integer[Any]]) -> tuple[str, ...]:
    missing = [name for name, n in zip(classes, counts, strict=True) if not n]
    if not missing:
        return ()
    return (
        f"there are no strokes of {', '.join(missing)}: nothing tells the new model what that looks like here, so it "
        "will hardly find any; draw some if there are such pixels",
    )


def _pixel_size_note(image: ImageVolume, meta: ModelMetadata) -> tuple[str, ...]:
    have = image.pixel_size_um and image.pixel_size_um[-meta.ndim :]
    if not have or not meta.pixel_size_um or np.allclose(have, meta.pixel_size_um, rtol=0.2):
        return ()
    return (
        f"the image has pixels of {format_um(have)}, the model was trained on {format_um(meta.pixel_size_um)}: "
        "cells that look larger or smaller than it knows are learnt from the strokes alone",
    )
