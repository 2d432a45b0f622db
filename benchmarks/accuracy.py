"""Accuracy from strokes at equal wall time: our methods, Otsu, and a random forest on pixel features.

    python benchmarks/accuracy.py DATA --set dsb_fluo --strokes 10 30 --minutes 1 5 --seeds 0 1 2 \\
        --methods scribble2label partial_cross_entropy --out results.csv

DATA holds <set>/{train,val}/{images,labels,scribbles_<n>}. Masks are read after training, for scoring
only, but by full_supervision. The forest is what ilastik, Labkit and Weka do: scikit-image's
multi-scale features, scikit-learn's forest; its threshold is 0.5, as users of those tools have it. The
wall time of a method runs from opening the files to the written model, that of the forest to the
trained forest. With --pace, which names the kept runs of an undisturbed machine, budgets are numbers of
steps (see pace.py), and --keep lets an interrupted run go on.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as `cellscribble train` sets it

import argparse
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pace import measured_pace, paced
from skimage.feature import multiscale_basic_features
from skimage.filters import threshold_otsu
from table import append_row

from cellscribble.bundle import open_model
from cellscribble.config import load_config
from cellscribble.core.volume import ImageVolume
from cellscribble.export.onnx import export
from cellscribble.infer.predict import predict
from cellscribble.infer.runner import Runner
from cellscribble.io.images import list_images, open_image
from cellscribble.methods.registry import get_method
from cellscribble.metrics.scores import Scores, evaluate
from cellscribble.segment.registry import get_segmenter
from cellscribble.train.checkpoint import LAST
from cellscribble.train.inputs import TrainingSet, open_training_set
from cellscribble.train.plan import Speed
from cellscribble.train.run import train

Segment = Callable[[ImageVolume], tuple[np.ndarray, np.ndarray | None]]
COLUMNS = ("set", "strokes", "method", "minutes", "seed", "wall_s", "iou", "mdice", "ap50", "ap_mean", "pq", "auc")
MAX_FOREST_PIXELS = 60_000


class Quiet:
    """Hears a run and says nothing."""

    def say(self, text: str) -> None:
        pass

    def tick(self, tick: Any) -> None:
        pass


def train_network(
    training_set: TrainingSet,
    method: str,
    minutes: float,
    seed: int,
    flags: dict[str, Any],
    keep: Path | None,
    speed: Speed | None,
) -> Segment:
    folder = keep or Path(tempfile.mkdtemp(prefix="cellscribble_"))
    config = load_config(None, {"method": method, "minutes": minutes, "seed": seed, **flags})
    with paced(speed):
        train(training_set, config, folder, Quiet(), resume=speed is not None and (folder / LAST).exists())
    model, _ = export(folder, folder / "model.onnx", overwrite=True)
    model = open_model(model.path)
    runner = Runner(model)

    def segment(image: ImageVolume) -> tuple[np.ndarray, np.ndarray | None]:
        found = predict(image, model, runner=runner)
        return np.asarray(found.labels), 1 - np.asarray(found.probability[0])

    return segment


def train_forest(training_set: TrainingSet, seed: int) -> Segment:
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(seed)
    features, classes = [], []
    for pair in training_set.pairs:
        if pair.scribbles is None:
            continue
        strokes = pair.scribbles.data
        features.append(pixel_features(pair.image)[strokes >= 0])
        classes.append(strokes[strokes >= 0])
    x, y = np.concatenate(features), np.concatenate(classes)
    some = rng.permutation(len(y))[:MAX_FOREST_PIXELS]
    forest = RandomForestClassifier(100, n_jobs=2, random_state=seed, min_samples_leaf=2)
    forest.fit(x[some], y[some])

    def segment(image: ImageVolume) -> tuple[np.ndarray, np.ndarray | None]:
        f = pixel_features(image)
        p = forest.predict_proba(f.reshape(-1, f.shape[-1])).T.reshape(-1, *f.shape[:-1]).astype(np.float32)
        return get_segmenter("instances")(p, {}), 1 - p[0]

    return segment


def pixel_features(image: ImageVolume) -> np.ndarray:
    data = np.moveaxis(np.asarray(image.data), 0, -1).astype(np.float32)
    scale = 255.0 if image.is_rgb else max(1e-6, float(np.percentile(data, 99.8)))
    return multiscale_basic_features(data / scale, sigma_min=1, sigma_max=16, channel_axis=-1, workers=2)


def otsu(image: ImageVolume, dark: bool) -> tuple[np.ndarray, np.ndarray | None]:
    grey = np.asarray(image.data).mean(axis=0)
    grey = -grey if dark else grey
    foreground = (grey > threshold_otsu(grey)).astype(np.float32)
    return get_segmenter("instances")(np.stack([1 - foreground, foreground]), {}), None


def cells_are_dark(training_set: TrainingSet) -> bool:
    """Which side of Otsu's threshold is cell, from the strokes."""
    inside, outside = [], []
    for pair in training_set.pairs:
        if pair.scribbles is not None:
            grey = np.asarray(pair.image.data).mean(axis=0)
            inside.append(grey[pair.scribbles.data > 0])
            outside.append(grey[pair.scribbles.data == 0])
    return float(np.concatenate(inside).mean()) < float(np.concatenate(outside).mean())


def score(segment: Segment, part: Path) -> dict[str, float]:
    scores: list[Scores] = []
    for path in list_images(part / "images"):
        labels, probability = segment(open_image(path))
        truth = np.asarray(open_image(part / "labels" / path.name).data[0])
        scores.append(evaluate(labels, truth, probability))
    rows = [s.as_row() for s in scores]
    mean = {
        key: float(np.nanmean([r[key] for r in rows])) if any(r[key] == r[key] for r in rows) else float("nan")
        for key in rows[0]
    }
    return {
        "iou": mean["iou"],
        "mdice": mean["mean_dice_per_truth"],
        "ap50": mean["ap_50"],
        "ap_mean": mean["ap_mean"],
        "pq": mean["panoptic_quality"],
        "auc": mean["auc"],
    }


def rows_of(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    flags = dict(pair.split("=", 1) for pair in arguments.set_flag)
    typed = {key: _number(value) for key, value in flags.items()}
    for name in arguments.set:
        folder = arguments.data / name
        for strokes in arguments.strokes:
            places = (folder / "train" / "images", folder / "train" / f"scribbles_{strokes}")
            training_set = open_training_set(*places)
            base = {"set": name, "strokes": strokes}
            if "otsu" in arguments.methods:
                plain = partial(otsu, dark=cells_are_dark(training_set))
                yield {**base, "method": "otsu", "wall_s": 0, **score(plain, folder / "val")}
            for seed in arguments.seeds:
                if "forest" in arguments.methods:
                    began = time.monotonic()
                    forest = train_forest(training_set, seed)
                    wall = time.monotonic() - began
                    yield {**base, "method": "forest", "seed": seed, "wall_s": wall, **score(forest, folder / "val")}
                for minutes in arguments.minutes:
                    for method in arguments.methods:
                        if method in ("otsu", "forest"):
                            continue
                        keep = arguments.keep and arguments.keep / f"{name}_{strokes}_{method}_{minutes:g}min_{seed}"
                        data = training_set
                        if get_method(method).needs_masks:
                            data = open_training_set(*places, folder / "train" / "labels")
                        alone = sorted(arguments.pace.glob(f"{name}_{strokes}_{method}_*")) if arguments.pace else []
                        speed = measured_pace(alone) if arguments.pace else None
                        began = time.monotonic()
                        network = train_network(data, method, minutes, seed, typed, keep, speed)
                        wall = time.monotonic() - began
                        row = {**base, "method": method, "minutes": minutes, "seed": seed, "wall_s": wall}
                        yield {**row, **score(network, folder / "val")}


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", nargs="+", default=["dsb_fluo"])
    parser.add_argument("--strokes", nargs="+", type=int, default=[10, 30])
    parser.add_argument("--minutes", nargs="+", type=float, default=[1.0, 5.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=["otsu", "forest", "partial_cross_entropy", "scribble2label"])
    parser.add_argument("--set-flag", nargs="*", default=[], metavar="KEY=VALUE", help="further settings of a run")
    parser.add_argument("--keep", type=Path, help="keep the run folders here")
    parser.add_argument("--pace", type=Path, help="folder of kept runs made while the machine was alone")
    parser.add_argument("--out", type=Path, help="append the rows to this CSV")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {time.strftime('%Y-%m-%d %H:%M')}")
    print("  ".join(f"{c:>10}" for c in COLUMNS))
    for row in rows_of(arguments):
        cells = [row.get(c, "") for c in COLUMNS]
        print("  ".join(f"{c:10.4f}" if isinstance(c, float) else f"{c!s:>10.21}" for c in cells), flush=True)
        if arguments.out:
            append_row(arguments.out, COLUMNS, row)


if __name__ == "__main__":
    main()
