"""Do strokes in suggested boxes help more than strokes in as many random ones?

    python benchmarks/suggest.py DATA --set dsb_bf --seeds 0 1 --out suggest.csv

DATA as for accuracy.py. A first network learns from strokes in a few random boxes of the training images, each with an
object. Then strokes are added in further boxes: random ones ("random"), random ones that hold an object ("random with
objects"), those that `cellscribble suggest` finds with the first network ("suggest"), and those it would find if thin
lines of doubt counted too ("suggest with edges"). From each set of strokes a network learns anew, the same number of
steps, and is scored on the validation images. In a box half of the objects get their skeleton as a stroke, and as many
strokes are drawn in the background, by `data.simulate`; masks are used for that and for scoring.
"""

from __future__ import annotations

import os

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as `cellscribble train` sets it

import argparse
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
from accuracy import Quiet
from table import append_row

from cellscribble.bundle import Model, open_model
from cellscribble.config import load_config
from cellscribble.data.simulate import simulate_scribbles
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.suggest import suggest_files
from cellscribble.export.onnx import export
from cellscribble.infer.predict import predict
from cellscribble.infer.runner import Runner
from cellscribble.io.images import list_images, open_image
from cellscribble.io.label_images import read_labels
from cellscribble.io.scribbles import save_scribbles
from cellscribble.metrics.scores import evaluate
from cellscribble.train.inputs import open_training_set
from cellscribble.train.run import train

ARMS = ("random", "random with objects", "suggest", "suggest with edges")
SCORES = {"iou": "iou", "mdice": "mean_dice_per_truth", "ap50": "ap_50", "pq": "panoptic_quality"}
COLUMNS = ("set", "seed", "boxes", *SCORES, "stroke_px")
Box = tuple[Path, int, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--set", default="dsb_bf")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--first", type=int, default=5, help="random boxes that the first network learns from")
    parser.add_argument("--more", type=int, default=10, help="boxes that are added")
    parser.add_argument("--size", type=int, default=128, help="side of a box, px")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--method", default="partial_cross_entropy")
    parser.add_argument("--out", type=Path)
    a = parser.parse_args()
    for seed in a.seeds:
        rng = np.random.default_rng(seed)
        images = list_images(a.data / a.set / "train" / "images")
        labels = {image: read_labels(a.data / a.set / "train" / "labels" / image.name) for image in images}
        first = random_boxes(labels, a.size, a.first, rng, with_objects=True)
        model = None
        for arm in ("first", *a.arms):
            with tempfile.TemporaryDirectory() as folder:
                more: list[Box] = []
                if arm.startswith("random"):
                    draw = np.random.default_rng([seed, 1])
                    more = random_boxes(labels, a.size, a.more, draw, with_objects=arm != "random", apart=first)
                elif arm != "first":
                    with patch("cellscribble.infer.regions.EDGE_PX", 1 if arm.endswith("edges") else 5):
                        found = suggest_files(images, model, folder, PredictOptions(), n=a.more, size_px=a.size)
                    more = [(Path(s.image), *s.corner) for s in found.suggestions]
                n_px = draw_strokes(Path(folder), labels, [*first, *more], a.size)
                run = Path(tempfile.mkdtemp(prefix="cellscribble_"))
                config = load_config(None, {"method": a.method, "epochs": a.epochs, "minutes": None, "seed": seed})
                train(open_training_set(images[0].parent, Path(folder)), config, run, Quiet())
                trained = open_model(export(run, run / "model.onnx", overwrite=True)[0].path)
            model = model or trained

            row = {
                "set": a.set,
                "seed": seed,
                "boxes": arm,
                "stroke_px": n_px,
                **score(trained, a.data / a.set / "val"),
            }
            print("  ".join(f"{row[c]!s:>12.19}" for c in COLUMNS), flush=True)
            if a.out:
                append_row(a.out, COLUMNS, row)


def score(trained: Model, unseen: Path) -> dict[str, float]:
    """Means over the images of a folder."""
    runner = Runner(trained)
    scores = []
    for image in list_images(unseen / "images"):
        found = predict(open_image(image), trained, runner=runner)
        scores.append(evaluate(np.asarray(found.labels), read_labels(unseen / "labels" / image.name)).as_row())
    return {column: round(float(np.mean([row[key] for row in scores])), 4) for column, key in SCORES.items()}


def random_boxes(
    labels: dict[Path, np.ndarray],
    size: int,
    n: int,
    rng: np.random.Generator,
    *,
    with_objects: bool,
    apart: list[Box] | None = None,
) -> list[Box]:
    """Boxes anywhere in the images, none over another."""
    boxes: list[Box] = list(apart or [])
    wanted = len(boxes) + n
    while len(boxes) < wanted:
        image = list(labels)[rng.integers(len(labels))]
        y, x = (int(rng.integers(0, side - size + 1)) for side in labels[image].shape)
        clear = all(i != image or abs(y - v) >= size or abs(x - u) >= size for i, v, u in boxes)
        if clear and (not with_objects or labels[image][y : y + size, x : x + size].any()):
            boxes.append((image, y, x))
    return boxes[wanted - n :]


def draw_strokes(folder: Path, labels: dict[Path, np.ndarray], boxes: list[Box], size: int) -> int:
    """Strokes in these boxes, the same in a box whichever others there are; pixels drawn."""
    n_px = 0
    for image in {box[0] for box in boxes}:
        strokes = np.full(labels[image].shape, -1, np.int16)
        for _, y, x in (box for box in boxes if box[0] == image):
            window = (slice(y, y + size), slice(x, x + size))
            strokes[window] = simulate_scribbles(labels[image][window], 0.5, np.random.default_rng([y, x]))
        save_scribbles(folder / f"{image.stem}.tif", strokes)
        n_px += int((strokes >= 0).sum())
    return n_px


if __name__ == "__main__":
    main()
