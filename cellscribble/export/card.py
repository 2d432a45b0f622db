"""The card of a model: what it was trained on, how good it is on images it has not seen, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellscribble.bundle import Model, ModelMetadata
from cellscribble.infer.predict import predict
from cellscribble.infer.runner import Runner
from cellscribble.io.atomic import save_text
from cellscribble.io.images import image_name, list_images, open_image
from cellscribble.io.label_images import read_labels
from cellscribble.io.pictures import Picture, contact_sheet, overlay_labels, save_png, to_rgb
from cellscribble.methods.registry import METHODS
from cellscribble.metrics.contingency import check_same_shape
from cellscribble.metrics.scores import Scores, evaluate, summarise
from cellscribble.train.masks import find_masks

CARD = "README.md"
PICTURE = "card.png"
N_SHOWN = 4
"""Images on the picture, in equal steps from the lowest IoU to the highest: nobody chose them."""
SHOWN = {
    "iou": "IoU of the pixels",
    "mean_dice_per_truth": "mDice of the objects",
    "ap_50": "AP at IoU 0.5",
    "panoptic_quality": "PQ",
}


def test_pairs(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Each image of a folder with its label image in another; no file is opened.

    Raises
    ------
    InputError
        If there is no image, or one has no labels.
    """
    paths = list_images(images)
    truths = find_masks(images, labels, paths)
    return [(path, truths[image_name(path)]) for path in paths]


def write_card(
    model: Model, holdout: str, about: str, test: Sequence[tuple[Path, Path]] = (), overwrite: bool = False
) -> Path:
    """Write README.md beside the model and, with test images, a picture of some of them.

    Parameters
    ----------
    holdout : the score on held-out strokes in words
    about : the first paragraph, by the author: for which images, from which data
    test : `test_pairs` that training did not see, to score it on and to show

    Raises
    ------
    InputError
        If a test image or its labels cannot be read, or differ in size.
    OutputError
        If a file exists (without `overwrite`) or cannot be written.
    """
    folder = model.path.parent
    rows: list[tuple[str, str]] = []
    if test:
        scores, pictures = _score(model, test)
        rows = _score_rows(scores)
        save_png(folder / PICTURE, contact_sheet(pictures, columns=3), overwrite)
    save_text(folder / CARD, _text(model.metadata, holdout, about, rows), overwrite)
    return folder / CARD


def _score(model: Model, test: Sequence[tuple[Path, Path]]) -> tuple[list[Scores], list[tuple[str, Picture]]]:
    """Scores of all pairs, and what is on the picture."""
    runner = Runner(model)
    scores, found = [], []
    for path, labels in test:
        image, truth = open_image(path), read_labels(labels)
        prediction = predict(image, model, runner=runner)
        check_same_shape(prediction.labels, truth)
        scores.append(evaluate(prediction.labels, truth))
        found.append((image, prediction.labels, truth))
    pictures: list[tuple[str, Picture]] = []
    order = np.argsort([score.iou for score in scores], kind="stable")
    for index in order[np.linspace(0, len(test) - 1, min(N_SHOWN, len(test))).astype(int)]:
        image, predicted, truth = found[index]
        z = 0 if predicted.ndim == 2 else len(predicted) // 2
        rgb = to_rgb(image, z)
        pictures += [
            (image.name, rgb),
            (f"the model: IoU {scores[index].iou:.2f}", overlay_labels(rgb, _plane(predicted, z))),
            ("drawn by hand", overlay_labels(rgb, _plane(truth, z))),
        ]
    return scores, pictures


def _plane(labels: npt.NDArray[np.integer], z: int) -> npt.NDArray[np.integer]:
    return labels if labels.ndim == 2 else labels[z]


def _score_rows(scores: Sequence[Scores]) -> list[tuple[str, str]]:
    means = summarise(scores, np.random.default_rng(0))
    rows = [("scored on", f"{len(scores)} other images; means with 95 % intervals over images")]
    for name, title in SHOWN.items():
        if name in means:
            mean = means[name]
            rows.append((title, f"{mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f})"))
    return rows


def _text(meta: ModelMetadata, holdout: str, about: str, score_rows: Sequence[tuple[str, str]]) -> str:
    stroked = sum(name.endswith(" (strokes)") for name in meta.data_hashes)
    size = " x ".join(f"{v:g}" for v in meta.pixel_size_um) + " um" if meta.pixel_size_um else "unknown"
    rows = [
        ("method", f"{meta.method} ({METHODS[meta.method].paper}): {METHODS[meta.method].summary}"),
        ("command", f"`{meta.command}`"),
        (
            "trained on",
            f"{stroked} images with strokes; `cellscribble info` gives the hashes of all that was read",
        ),
        ("input", f"{meta.ndim}D, channels {', '.join(meta.channels)}, pixel size {size}"),
        ("classes", ", ".join(meta.classes)),
        ("held-out strokes", holdout),
        *score_rows,
        ("made", f"{meta.created}, {', '.join(f'{name} {version}' for name, version in meta.versions.items())}"),
        ("licence", meta.license or "not given"),
        ("citation", meta.citation or "not given"),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    picture = f"\n![Unseen images: image, model, drawn by hand]({PICTURE})\n" if score_rows else ""
    return f"# {meta.name}\n\n{about}\n\n| | |\n| --- | --- |\n{table}\n{picture}"
