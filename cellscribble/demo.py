"""What `cellscribble demo` needs besides the commands it runs: the shipped images, where the results
go, a plain baseline, and one picture of it all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cellscribble.bundle import MODEL_FILE, int8_path
from cellscribble.core.errors import InputError, OutputError
from cellscribble.io.atomic import remove
from cellscribble.io.images import image_name, list_images, open_image
from cellscribble.io.label_images import read_labels
from cellscribble.io.pictures import contact_sheet, overlay_labels, overlay_scribbles, save_png, to_rgb
from cellscribble.io.scribbles import find_scribbles, read_scribbles
from cellscribble.metrics.scores import Scores, evaluate
from cellscribble.train.checkpoint import BEST, LAST

DEFAULT_OUT = "cellscribble_demo"
COLUMNS = 3
"""Of the sheet: image, prediction, truth."""


@dataclass(frozen=True, slots=True)
class Example:
    """One shipped set of images: strokes to train on, and images that training never sees."""

    images: Path
    scribbles: Path
    test_images: Path
    test_labels: Path


def find_example(name: str = "nuclei") -> Example:
    """The shipped example `name`, in the installed package or in the source tree.

    Raises
    ------
    InputError
        If it is not there.
    """
    package = Path(__file__).parent
    for place in (package / "examples", package.parent / "examples"):
        folder = place / name
        if (folder / "images").is_dir():
            return Example(*(folder / part for part in ("images", "scribbles", "test_images", "test_labels")))
    raise InputError(
        f"the example images {name!r} are not in {package / 'examples'}; install CellScribble again, "
        "with 'pip install .' in its source folder"
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where the demonstration writes."""

    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "nuclei_run"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    @property
    def sheet(self) -> Path:
        return self.folder / "demo.png"


def choose_place(out: Path | None, *, overwrite: bool = False) -> Place:
    """The output folder: as given, or the first free of cellscribble_demo, cellscribble_demo_2 ...

    With `overwrite` an earlier demonstration's training is forgotten; no other file is touched.

    Raises
    ------
    OutputError
        If the given folder has files in it and `overwrite` is False.
    """
    place = Place(out or (Path(DEFAULT_OUT) if overwrite else _free_folder()))
    if overwrite:
        model = place.run / MODEL_FILE
        for path in (place.run / LAST, place.run / BEST, model, int8_path(model)):
            remove(path)
    elif place.folder.exists() and (not place.folder.is_dir() or any(place.folder.iterdir())):
        raise OutputError(f"{place.folder} exists already; give --overwrite, or another folder with -o")
    return place


def _free_folder() -> Path:
    folder, n = Path(DEFAULT_OUT), 1
    while folder.exists():
        n += 1
        folder = Path(f"{DEFAULT_OUT}_{n}")
    return folder


def otsu_scores(example: Example) -> dict[str, Scores]:
    """Scores of Otsu's threshold with connected parts as objects, image by image: no training at all."""
    from cellscribble.baselines.otsu import otsu_threshold

    found = {}
    for path in list_images(example.test_images):
        pixels = np.asarray(open_image(path).data[0])
        labels, _ = ndimage.label(pixels > otsu_threshold(pixels))
        # Numbers are objects also where there is one only, as of CellScribble's own labels.
        found[image_name(path)] = evaluate(labels, _truth(example, image_name(path)), semantic=False)
    return found


def mean_scores(scores: Mapping[str, Scores], names: Sequence[str]) -> dict[str, float]:
    """Mean over images of each named score."""
    rows = [score.as_row() for score in scores.values()]
    return {name: float(np.mean([row[name] for row in rows])) for name in names}


def save_sheet(
    path: Path, example: Example, results: Path, *, n_strokes: int = 3, n_unseen: int | None = None
) -> None:
    """One PNG: some training images with their strokes, then each unseen image, prediction and truth."""
    pictures = []
    for image_path in list_images(example.images)[:: max(1, len(list_images(example.images)) // n_strokes)][
        :n_strokes
    ]:
        image = open_image(image_path)
        files = find_scribbles(example.scribbles, image.name)
        strokes = read_scribbles(files, image.spatial_shape, image=image.data)
        pictures.append((f"strokes on {image.name}", overlay_scribbles(to_rgb(image), strokes.data, strokes.colors)))
    for image_path in list_images(example.test_images)[:n_unseen]:
        rgb = to_rgb(open_image(image_path))
        name = image_name(image_path)
        labels, truth = read_labels(results / f"{name}_labels.tif"), _truth(example, name)
        pictures += [
            (name, rgb),
            (f"prediction: {int(labels.max())} nuclei", overlay_labels(rgb, labels)),
            (f"drawn by hand: {len(np.unique(truth)) - 1} nuclei", overlay_labels(rgb, truth)),
        ]
    save_png(path, contact_sheet(pictures, columns=COLUMNS), overwrite=True)


def _truth(example: Example, name: str) -> npt.NDArray[np.integer]:
    labels: npt.NDArray[np.integer] = read_labels(example.test_labels / f"{name}.tif")
    return labels
