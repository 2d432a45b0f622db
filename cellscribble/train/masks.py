"""Dense labels beside the images, for the one method that may learn from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import InputError
from cellscribble.io.images import image_name
from cellscribble.io.label_images import read_labels
from cellscribble.metrics.pairs import find_pairs

MAX_NAMES = 5


def find_masks(images: Path, labels: Path, paths: Sequence[Path]) -> dict[str, Path]:
    """The label file of each image in `paths`, by the image's name; no file is opened.

    images, labels : the folders (or single files) that were given

    Raises
    ------
    InputError
        If an image has none.
    """
    pairs, _ = find_pairs(images, labels)
    if len(pairs) == len(paths) == 1:  # two files are a pair whatever their names
        return {image_name(paths[0]): pairs[0].truth}
    found = {pair.name: pair.truth for pair in pairs}
    missing = [image_name(path) for path in paths if image_name(path) not in found]
    if missing:
        shown = ", ".join(missing[:MAX_NAMES]) + (" ..." if len(missing) > MAX_NAMES else "")
        raise InputError(
            f"{len(missing)} of {len(paths)} images have no labels in {labels} ({shown}); save them under the "
            "image's name, or take these images out"
        )
    return found


def read_mask(path: Path, shape: tuple[int, ...], n_classes: int) -> npt.NDArray[np.int16]:
    """Dense classes (*spatial) int16 of a label image.

    With one class of cells every number above 0 is that class, so objects may be numbered; with several
    the number is the class.

    Raises
    ------
    InputError
        If it cannot be read, has another size, or holds a number that is no class.
    """
    labels = read_labels(path)
    if labels.shape != shape:
        raise InputError(f"{path} is {labels.shape} px but its image is {shape} px; give labels of the same image")
    if n_classes > 2 and labels.max() >= n_classes:
        raise InputError(
            f"{path} holds numbers from {labels.min()} to {labels.max()}; expected 0 for background and "
            f"1 to {n_classes - 1} for the classes of the strokes"
        )
    return (labels > 0 if n_classes == 2 else labels).astype(np.int16)
