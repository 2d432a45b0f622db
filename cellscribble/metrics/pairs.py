"""Which prediction belongs to which truth, and the scores of all pairs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import CellScribbleError
from cellscribble.io.atomic import is_zarr, save_text
from cellscribble.io.images import IMAGE_SUFFIXES, image_name, list_images, natural_key, open_image
from cellscribble.io.label_images import read_labels
from cellscribble.metrics.contingency import check_same_shape
from cellscribble.metrics.scores import Scores, evaluate

LABELS = "_labels"
PROBABILITY = "_probability"


@dataclass(frozen=True, slots=True)
class Pair:
    """Files of one image: predicted labels, true labels, and the probability if it was written."""

    name: str
    prediction: Path
    truth: Path
    probability: Path | None = None


@dataclass(slots=True)
class Evaluation:
    """Scores by image name, and what went wrong, by image name, in words."""

    scores: dict[str, Scores] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def find_pairs(predictions: str | Path, truth: str | Path) -> tuple[list[Pair], dict[str, str]]:
    """Pair label files by the name of their image: "a_labels.tif" or "a.tif" with "a.tif" or "a_labels.tif".

    Parameters
    ----------
    predictions, truth : a file or a folder each; two files are a pair whatever their names. Of a
        folder that holds files named ``*_labels`` only these count.

    Returns
    -------
    pairs : in natural order of the names
    unpaired : dict of str, what is missing for each name that has no partner

    Raises
    ------
    InputError
        If there is nothing at one of the paths.
    """
    predictions, truth = Path(predictions), Path(truth)
    found, real = files_by_name(predictions), files_by_name(truth)
    if _is_file(predictions) and _is_file(truth):
        ((name, [a]),) = found.items()
        ((_, [b]),) = real.items()
        return [Pair(name, a, b, _probability_beside(a))], {}
    pairs, unpaired = [], {}
    # A single file is compared alone: what else its partner's folder holds is not missing.
    names = found if _is_file(predictions) else real if _is_file(truth) else {**found, **real}
    for name in sorted(names, key=lambda name: natural_key(Path(name))):
        several = [*found.get(name, []), *real.get(name, [])] if _twice(name, found, real) else []
        if several:
            unpaired[name] = f"several files have this name: {', '.join(map(str, several))}; keep one"
        elif name not in found:
            unpaired[name] = f"no prediction {name}{LABELS}.tif in {predictions}"
        elif name not in real:
            unpaired[name] = f"no label image {name}.tif in {truth}"
        else:
            (a,), (b,) = found[name], real[name]
            pairs.append(Pair(name, a, b, _probability_beside(a)))
    return pairs, unpaired


def score_pair(pair: Pair, *, semantic: bool | None = None) -> Scores:
    """Read the files of one pair and score them; `semantic` as for `evaluate`.

    Raises
    ------
    InputError
        If a file cannot be read, is no label image, or their shapes differ.
    """
    labels, truth = read_labels(pair.prediction), read_labels(pair.truth)
    check_same_shape(labels, truth)
    probability = None if pair.probability is None else read_foreground(pair.probability)
    return evaluate(labels, truth, probability, semantic=semantic)


def evaluate_files(predictions: str | Path, truth: str | Path, *, semantic: bool | None = None) -> Evaluation:
    """Score all pairs; a pair that fails is noted and the others go on."""
    pairs, unpaired = find_pairs(predictions, truth)
    evaluation = Evaluation(failures=dict(unpaired))
    for pair in pairs:
        try:
            evaluation.scores[pair.name] = score_pair(pair, semantic=semantic)
        except CellScribbleError as error:
            evaluation.failures[pair.name] = str(error)
    return evaluation


def read_foreground(path: Path) -> npt.NDArray[np.floating[Any]]:
    """The foreground probability of a file: 1 - background of several channels, or its one channel."""
    data = open_image(path).data
    return np.asarray(1.0 - np.asarray(data[0], np.float32) if data.shape[0] > 1 else data[0], np.float32)


def save_csv(path: str | Path, scores: Mapping[str, Scores], overwrite: bool = False) -> None:
    """Write one line an image; scores that do not apply are empty.

    Raises
    ------
    OutputError
        If `path` exists (without `overwrite`) or cannot be written.
    """
    rows = [{"image": name, **score.as_row()} for name, score in scores.items()]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["image"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
    save_text(path, text.getvalue(), overwrite)


def files_by_name(path: Path) -> dict[str, list[Path]]:
    """Label files by the name of their image: a file alone; of a folder those named ``*_labels``, if there are any.

    Raises
    ------
    InputError
        If there is nothing at `path`, or no image.
    """
    files = [path]
    if not _is_file(path):
        entries = [p for p in path.iterdir() if not p.name.startswith(".")] if path.is_dir() else []
        files = [p for p in entries if p.name.lower().endswith(IMAGE_SUFFIXES) and image_name(p).endswith(LABELS)]
        # `list_images` leaves our results out, and says what is wrong with an empty or absent folder.
        files = files or list_images(path)
    found: dict[str, list[Path]] = {}
    for file in sorted(files):
        found.setdefault(image_name(file).removesuffix(LABELS), []).append(file)
    return found


def _is_file(path: Path) -> bool:
    return path.is_file() or is_zarr(path)


def _twice(name: str, *sides: dict[str, list[Path]]) -> bool:
    return any(len(side.get(name, [])) > 1 for side in sides)


def _probability_beside(prediction: Path) -> Path | None:
    stem = image_name(prediction)
    suffix = prediction.name[len(stem) :]
    path = prediction.with_name(stem.removesuffix(LABELS) + PROBABILITY + suffix)
    return path if path.exists() else None
