"""Opening any image file as an `ImageVolume`, and finding the images of a folder."""

from __future__ import annotations

import difflib
import io
import re
import warnings
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from PIL import Image, UnidentifiedImageError

from cellscribble.core.errors import CellScribbleError, FileFormatError, InputError
from cellscribble.core.volume import ImageVolume
from cellscribble.io import tiff_read
from cellscribble.io.atomic import is_zarr
from cellscribble.io.axes import check_axes, plan_axes, to_canonical
from cellscribble.io.ome_zarr_read import open_ome_zarr
from cellscribble.io.remote import is_url, url_path
from cellscribble.io.remote_file import PIECE, RemoteFile
from cellscribble.io.tiff_read import open_tiff

TIFF_SUFFIXES = (".ome.tiff", ".ome.tif", ".tiff", ".tif", ".btf", ".svs", ".ndpi", ".lsm", ".qptiff", ".scn")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
ZARR_SUFFIXES = (".ome.zarr", ".zarr")
IMAGE_SUFFIXES = TIFF_SUFFIXES + PICTURE_SUFFIXES + ZARR_SUFFIXES
"""Longest first where one ends with another."""

OUTPUT_ENDINGS = ("_labels", "_probability", "_uncertainty", "_overlay", "_cellscribble")
"""What `predict` appends to an image's name; such files are not taken as images of a folder."""

SCRIBBLE_ENDINGS = ("_scribbles", "_scribble", "_strokes")

_VENDOR_SUFFIXES = (".czi", ".nd2", ".lif", ".oib", ".oif", ".vsi", ".mrxs", ".ims", ".dv", ".stk", ".h5")


def open_image(
    path: str | Path,
    *,
    axes: str | None = None,
    timepoint: int | None = None,
    level: int = 0,
    lazy: bool = False,
) -> ImageVolume:
    """The image at `path` in canonical order (C, Y, X) or (C, Z, Y, X), lazy where it is large.

    Parameters
    ----------
    path : TIFF (also OME, BigTIFF, ImageJ, slides), PNG, JPEG, BMP, or a folder with OME-Zarr; or the
        URL of one
    axes : axes of the stored array, one of the letters TCZYXS each, where the file says it wrongly
        or not at all
    timepoint : which time point of a time series, from 0
    level : which level of a pyramid, 0 is full resolution
    lazy : leave pixels on the disk however few they are (not those of pictures), so that one part can be read where
        another is damaged

    Returns
    -------
    ImageVolume
        With `origin` telling how axes and pixel size were found.

    Raises
    ------
    FileFormatError
        If the file is damaged, empty, or not an image that we read.
    InputError
        If the file is missing, its axes are unclear, it has several time points and none is
        chosen, or the level does not exist.
    RemoteError
        If a URL gives no answer.
    """
    which = (axes, timepoint, level, lazy)
    image = _open_url(path, *which) if is_url(path) else _open_path(Path(path), *which)
    kind = np.dtype(image.data.dtype).kind
    if kind == "b":
        return image.with_data(np.asarray(image.data).astype(np.uint8) * np.uint8(255))
    if kind not in "uif":
        raise FileFormatError(
            f"{path} holds {image.data.dtype} numbers, which are no intensities; save it as 8 or 16 bit or float32"
        )
    return image


def _open_path(path: Path, axes: str | None, timepoint: int | None, level: int, lazy: bool) -> ImageVolume:
    if not path.exists():
        raise InputError(f"no image {path}{_similar(path)}")
    name, suffix = image_name(path), _suffix(path)
    if is_zarr(path):
        return open_ome_zarr(path, name, axes=axes, timepoint=timepoint, level=level, lazy=lazy)
    if path.is_dir():
        raise FileFormatError(f"{path} is a folder and no OME-Zarr image; give an image file")
    if path.stat().st_size == 0:
        raise FileFormatError(f"{path} is empty (0 bytes); copy it again")
    if suffix in TIFF_SUFFIXES:
        return open_tiff(path, name, axes, timepoint, level, lazy=lazy)
    if suffix in PICTURE_SUFFIXES:
        return _open_picture(path, name, axes, timepoint, level)
    if path.suffix.lower() in _VENDOR_SUFFIXES:
        remedy = "open it in Fiji (File > Import > Bio-Formats) and save it as TIFF"
    else:
        remedy = f"expected one of {' '.join(IMAGE_SUFFIXES)}"
    raise FileFormatError(f"{path} has the suffix {path.suffix!r}, which is not read here; {remedy}")


def _open_url(url: str, axes: str | None, timepoint: int | None, level: int, lazy: bool) -> ImageVolume:
    suffix = _suffix(url_path(url))
    if suffix in PICTURE_SUFFIXES:
        return _open_picture(url, image_name(url), axes, timepoint, level)
    if suffix in TIFF_SUFFIXES:
        return open_tiff(url, image_name(url), axes, timepoint, level, lazy=lazy)
    return open_ome_zarr(url, image_name(url), axes=axes, timepoint=timepoint, level=level, lazy=lazy)


def count_pixels(path: str | Path) -> int:
    """Pixels of one channel of an image, as its head says; no pixel is read.

    Raises
    ------
    FileFormatError, InputError, RemoteError
        As `open_image`.
    """
    if is_ome_zarr(path):
        return open_ome_zarr(path, "", lazy=True).n_pixels
    if is_tiff(path):
        return tiff_read.count_pixels(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(_pillow_source(path)) as picture:
                return int(picture.width * picture.height)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise FileFormatError(f"{path} cannot be read as a picture: {error}; copy it again") from error


def level_pixel_sizes(
    path: str | Path, *, axes: str | None = None, timepoint: int | None = None
) -> list[tuple[float, ...] | None]:
    """The pixel size of each level of the image's pyramid, from the finest; None where the file does not say.

    One number in µm for each spatial axis. An image without pyramid has one level.

    Raises
    ------
    FileFormatError, InputError, RemoteError
        As `open_image`.
    """
    if is_ome_zarr(path):
        image = open_ome_zarr(path, "", axes=axes, timepoint=timepoint, lazy=True)
        if image.pixel_size_um is None or not image.levels:
            return [image.pixel_size_um]
        return [level.scale for level in image.levels]
    if is_tiff(path) and (is_url(path) or (Path(path).is_file() and Path(path).stat().st_size)):
        return tiff_read.level_pixel_sizes(path, axes, timepoint)
    return [None]


def is_tiff(path: str | Path) -> bool:
    """Whether a path or URL has the name of a TIFF or slide."""
    return _suffix(_named(path)) in TIFF_SUFFIXES


def is_ome_zarr(path: str | Path) -> bool:
    """Whether a path is a Zarr store, or a URL is taken for one."""
    return not is_file_url(path) if is_url(path) else is_zarr(Path(path))


def is_file_url(path: str | Path) -> TypeGuard[str]:
    """Whether it is the URL of a single file: a TIFF, a slide or a picture."""
    return is_url(path) and _suffix(url_path(path)) in TIFF_SUFFIXES + PICTURE_SUFFIXES


def list_images(path: str | Path) -> list[Path]:
    """The images of a folder in natural order (img2 before img10); a file or OME-Zarr gives itself.

    Hidden files, our own results and scribble files are left out.

    Raises
    ------
    InputError
        If there is nothing at `path` or no image in it.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"no image or folder {path}{_similar(path)}")
    if not path.is_dir() or is_zarr(path):
        return [path]
    found = [p for p in path.iterdir() if not p.name.startswith(".")]
    images = [p for p in found if _is_image(p)]
    names = {image_name(p) for p in images}
    images = [p for p in images if not _is_class_mask(image_name(p), names)]
    if not images:
        seen = ", ".join(sorted(p.name for p in found)[:5]) or "nothing"
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        raise InputError(f"no images in the folder {path}: it holds {seen}{more}; expected {' '.join(IMAGE_SUFFIXES)}")
    return sorted(images, key=natural_key)


def image_name(path: str | Path) -> str:
    """The file's name without folder and image suffix: "a/cells.2.ome.tif" -> "cells.2"; of a URL too."""
    path = _named(path)
    suffix = _suffix(path)
    return path.name[: len(path.name) - len(suffix)] if suffix else path.stem


def natural_key(path: Path) -> list[tuple[int, str]]:
    """Sort key by which img2 comes before img10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def read_picture(path: str | Path) -> tuple[np.ndarray[Any, Any], str]:
    """A PNG, JPEG or BMP, or the URL of one, as (Y, X) or (Y, X, S), and its Pillow mode; palettes stay indices.

    Raises
    ------
    FileFormatError
        If it cannot be decoded.
    InputError, RemoteError
        If nothing is at a URL, or it gives no answer.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(_pillow_source(path)) as picture:
                mode = picture.mode
                known = mode in ("1", "L", "P", "LA", "RGB", "RGBA", "I", "F") or mode.startswith("I;16")
                return np.asarray(picture if known else picture.convert("RGB")), mode
    except CellScribbleError:
        # Of the URL: some of these are ValueErrors too.
        raise
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise FileFormatError(
            f"{path} cannot be read as a picture: {error}; copy it again, or save it as TIFF"
        ) from error


def max_sample_value(path: str | Path) -> int | None:
    """The value that a TIFF says is its brightest, where it has fewer bits than its numbers; else None."""
    return tiff_read.max_sample_value(path) if is_tiff(path) else None


def is_plain_grey(path: Path) -> bool:
    """Whether a PNG or TIFF of one channel holds grey values of whole bytes: no bits, and nothing about how opaque
    they are. True of one that Pillow cannot open."""
    try:
        with Image.open(path) as picture:
            return picture.mode != "1" and not picture.has_transparency_data
    except OSError:
        return True


def _named(path: str | Path) -> Path:
    """A path, or that in a URL: for names and suffixes."""
    return url_path(path) if is_url(path) else Path(path)


def _pillow_source(path: str | Path) -> Path | io.BufferedReader:
    return io.BufferedReader(RemoteFile(path), PIECE) if is_url(path) else Path(path)


def _open_picture(path: str | Path, name: str, axes: str | None, timepoint: int | None, level: int) -> ImageVolume:
    if level:
        raise InputError(f"{path} has no pyramid level {level}; it has level 0 only")
    data, mode = read_picture(path)
    if mode == "P":
        with Image.open(_pillow_source(path)) as picture:
            data = np.asarray(picture.convert("RGB"))
        if bool((data == data[..., :1]).all()):
            data = data[..., 0]
    if data.dtype == np.bool_:
        data = data.astype(np.uint8) * np.uint8(255)
    letters = "YXS"[: data.ndim] if axes is None else check_axes(axes, data.shape)
    plan = plan_axes(letters, data.shape, timepoint)
    suffix = _named(path).suffix
    source = "--axes" if axes else f"the {suffix[1:].upper()} picture"
    return ImageVolume(
        data=to_canonical(data, plan),
        axes=plan.axes,
        name=name,
        is_rgb=plan.is_rgb,
        origin=f"axes {letters} from {source}, no pixel size",
    )


def _is_image(path: Path) -> bool:
    name, suffix = image_name(path), _suffix(path)
    if not suffix or name.endswith(OUTPUT_ENDINGS + SCRIBBLE_ENDINGS):
        return False
    return is_zarr(path) if suffix in ZARR_SUFFIXES else path.is_file()


def _is_class_mask(name: str, names: set[str]) -> bool:
    # cells_bg.png beside cells.png is a stroke mask of it.
    return name.lower().endswith(("_bg", "_fg")) and name[:-3] in names


def _suffix(path: Path) -> str:
    lower = path.name.lower()
    found = [suffix for suffix in IMAGE_SUFFIXES if lower.endswith(suffix)]
    return max(found, key=len) if found else ""


def _similar(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f": the folder {folder} does not exist"
    close = difflib.get_close_matches(path.name, [p.name for p in folder.iterdir()], n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else f" in the folder {folder.resolve()}"
