"""Finding the scribble files that belong to an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cellscribble.core.errors import InputError
from cellscribble.io.images import SCRIBBLE_ENDINGS, image_name, natural_key
from cellscribble.io.paint import BACKGROUND_NAME
from cellscribble.io.roi_classes import class_by_name

ROI_SUFFIXES = (".zip", ".roi")
LABKIT_SUFFIX = ".labeling"
SHAPE_SUFFIXES = (*ROI_SUFFIXES, LABKIT_SUFFIX)
SCRIBBLE_SUFFIXES = (".tif", ".tiff", ".png", ".bmp", *SHAPE_SUFFIXES)
_ROI_ENDINGS = ("_RoiSet", "_rois", "_roi")


def find_scribbles(folder_or_file: str | Path, name: str) -> list[Path]:
    """Scribble files of the image `name`: one file, the masks of its classes, or none ([]).

    A file fits whose name is the image's, or that with _scribbles, _scribble, _strokes, _RoiSet or
    _rois; these go before the plain name, which may be the image itself. Masks are <name>_bg and
    <name>_<class>.

    Raises
    ------
    InputError
        If two files fit equally well.
    """
    place = Path(folder_or_file)
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise InputError(f"no scribbles folder or file {place}")
    files = stroke_files(place, name)
    marked = [p for p in files if _stem(p) in [name + e for e in SCRIBBLE_ENDINGS + _ROI_ENDINGS]]
    plain = [p for p in files if _stem(p) == name]
    # Beside cells.tif, which may be the image, cells.zip must be its strokes.
    plain = [p for p in plain if p.suffix.lower() in SHAPE_SUFFIXES] or plain
    for found in (marked, plain):
        if len(found) > 1:
            listed = " and ".join(p.name for p in found)
            raise InputError(f"several scribble files fit the image {name!r} in {place}: {listed}; keep one")
        if found and (found is marked or not _class_masks(files, name)):
            return found
    return _class_masks(files, name) or plain


def stroke_files(folder: Path, start: str = "") -> list[Path]:
    """All files of a folder that may hold strokes and whose names start so, in the order of their names."""
    files = [p for p in folder.iterdir() if p.suffix.lower() in SCRIBBLE_SUFFIXES and p.name[0] != "."]
    # Names first: a folder is looked through for each image, and to ask the system about each file takes long.
    return sorted((p for p in files if p.name.startswith(start) and p.is_file()), key=natural_key)


def _stem(path: Path) -> str:
    # cells.tif.labeling belongs to cells.
    return image_name(path.stem) if path.suffix.lower() in SHAPE_SUFFIXES else image_name(path)


def mask_class(path: str | Path) -> str:
    """The class that a mask file's name ends with: cells_bg.png -> "background"."""
    word = _stem(Path(path)).rpartition("_")[2]
    return class_by_name(word) or word.lower()


def _class_masks(files: Sequence[Path], name: str) -> list[Path]:
    # Without a background mask name_a.tif and name_b.tif may as well be two other images.
    masks = [p for p in files if _stem(p).startswith(f"{name}_") and "_" not in _stem(p)[len(name) + 1 :]]
    masks = [p for p in masks if p.suffix.lower() not in SHAPE_SUFFIXES]
    return masks if any(mask_class(p) == BACKGROUND_NAME for p in masks) else []
