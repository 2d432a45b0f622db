"""Pictures for people: an image with outlines, strokes or a probability map, as 8-bit RGB.

All pictures are (Y, X, 3) uint8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from cellscribble.core.errors import InputError
from cellscribble.core.labels import UNLABELLED
from cellscribble.core.volume import ImageVolume
from cellscribble.io.atomic import atomic_path

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

_STRETCH_PERCENT = (0.5, 99.8)
_GREEN_MAGENTA = ((0, 255, 0), (255, 0, 255))
_CHANNELS = ((0, 90, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255), (0, 255, 255), (255, 0, 255), (255, 255, 0))
_HEAT = (
    (0, 0, 4),
    (40, 11, 84),
    (101, 21, 110),
    (159, 42, 99),
    (212, 72, 66),
    (245, 125, 21),
    (250, 193, 39),
    (252, 255, 164),
)
_N_LABEL_COLOURS = 96
_PAPER, _INK, _GAP_PX, _TITLE_PX = (255, 255, 255), (30, 30, 30), 10, 15


def to_rgb(image: ImageVolume, z: int | None = None) -> Picture:
    """A picture of an image, contrast stretched; RGB stays as it is.

    One channel is grey, two are green and magenta (told apart by the colour-blind too), more are
    blue, green, red, grey ... added up.

    Parameters
    ----------
    image : 2D, or 3D of which one slice is shown
    z : slice from 0; the middle one by default
    """
    middle = tuple(n // 2 if z is None else z for n in image.spatial_shape[:-2])
    data = np.asarray(image.data[(slice(None), *middle)])
    if image.is_rgb:
        if data.dtype != np.uint8:
            top = float(np.iinfo(data.dtype).max) if data.dtype.kind == "u" else max(1.0, float(data.max()))
            data = np.clip(data.astype(np.float32) * (255 / top), 0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.moveaxis(data, 0, -1))
    grey = np.stack([_stretch(channel) for channel in data])
    if len(grey) == 1:
        return np.repeat(_to_uint8(grey[0])[..., None], 3, axis=-1)
    colours = _GREEN_MAGENTA if len(grey) == 2 else _CHANNELS
    mixed = np.zeros((*grey.shape[1:], 3), np.float32)
    for i, channel in enumerate(grey):
        mixed += channel[..., None] * (np.asarray(colours[i % len(colours)], np.float32) / 255)
    return _to_uint8(mixed)


def stroked_slice(scribbles: npt.NDArray[np.integer]) -> int:
    """The slice of (Z, Y, X) scribbles, memory convention, that has most labelled pixels."""
    return int((scribbles != UNLABELLED).sum(axis=(1, 2)).argmax())


def densest_window(drawn: npt.NDArray[np.bool_], size_px: int) -> tuple[slice, slice]:
    """The window of a plane (Y, X), `size_px` on a side or less, in which most is drawn; the middle if nothing is."""
    density = ndimage.uniform_filter(drawn.astype(np.float32), size_px, mode="constant")
    centre = np.unravel_index(density.argmax(), drawn.shape) if drawn.any() else tuple(n // 2 for n in drawn.shape)
    starts = [int(np.clip(c - size_px // 2, 0, max(0, n - size_px))) for c, n in zip(centre, drawn.shape, strict=True)]
    y, x = (slice(start, min(n, start + size_px)) for start, n in zip(starts, drawn.shape, strict=True))
    return y, x


def overlay_labels(rgb: Picture, labels: npt.NDArray[np.integer]) -> Picture:
    """Outlines of the objects of a label image (Y, X) on a picture, one colour a number.

    A bright line inside the object, 1 px wide on small pictures, wider on large ones, but about a sixth of the
    objects' radius at most, and a dark one beside it on the ground: one of the two is seen on a dark image, on a
    bright one and on stained tissue.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    _check_shape(rgb, labels)
    rim, ground = _rim(labels), labels == 0
    dark = _rim(ground)
    # The area of a disc is its rim times half its radius.
    sixth = round(int(np.count_nonzero(labels)) / max(1, int(np.count_nonzero(rim))) / 3)
    for _ in range(min(_thickness(labels.shape, 450), sixth) - 1):
        # Thicker rims grow inwards only: neighbours keep their own colour.
        rim |= _rim(np.where(rim, 0, labels))
        dark |= _rim(ground & ~dark)
    out = rgb.copy()
    out[dark] = 0
    out[rim] = label_colours(labels[rim])
    return out


def overlay_scribbles(rgb: Picture, scribbles: npt.NDArray[np.integer], colors: Sequence[Colour]) -> Picture:
    """Strokes (Y, X), memory convention, drawn on a picture, thickened and with a dark rim.

    Parameters
    ----------
    colors : one a class, background first, as `Scribbles.colors`

    Raises
    ------
    InputError
        If the shapes differ or a class has no colour.
    """
    _check_shape(rgb, scribbles)
    if int(scribbles.max(initial=UNLABELLED)) >= len(colors):
        raise InputError(f"scribbles hold class {int(scribbles.max())} but there are {len(colors)} colours")
    radius = _thickness(scribbles.shape, 300)
    thick = scribbles.astype(np.int32)
    for _ in range(radius):
        thick = _grow(thick)
    out = rgb.copy()
    out[(_grow(thick) != UNLABELLED) & (thick == UNLABELLED)] = 0
    table = np.asarray(colors, np.uint8).reshape(-1, 3)
    drawn = thick != UNLABELLED
    out[drawn] = table[thick[drawn]]
    return out


def heat(probability: npt.NDArray[Any]) -> Picture:
    """A map (Y, X) of 0..1 (or uint8 0..255) in heat colours: black 0, red half, pale yellow 1."""
    values = probability.astype(np.float32) / (255 if probability.dtype == np.uint8 else 1)
    position = np.clip(np.nan_to_num(values), 0, 1) * (len(_HEAT) - 1)
    table = np.asarray(_HEAT, np.float32)
    knots = np.arange(len(_HEAT))
    return np.stack([np.interp(position, knots, table[:, c]) for c in range(3)], axis=-1).astype(np.uint8)


def contact_sheet(pictures: Sequence[tuple[str, Picture]], columns: int = 3, tile_px: int = 320) -> Picture:
    """Titled pictures in rows, each scaled to fit a square tile; small ones with crisp pixels."""
    if not pictures:
        raise InputError("a contact sheet needs at least one picture")
    columns = min(columns, len(pictures))
    scaled = [(title, _fit(rgb, tile_px)) for title, rgb in pictures]
    rows = [scaled[i : i + columns] for i in range(0, len(scaled), columns)]
    heights = [max(rgb.shape[0] for _, rgb in row) for row in rows]
    cell = _TITLE_PX + 8 + _GAP_PX
    size = (columns * (tile_px + _GAP_PX) + _GAP_PX, sum(heights) + len(rows) * cell + _GAP_PX)
    sheet = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TITLE_PX)
    y = _GAP_PX
    for row, height in zip(rows, heights, strict=True):
        for i, (title, rgb) in enumerate(row):
            x = _GAP_PX + i * (tile_px + _GAP_PX)
            draw.text((x, y), _shorten(title, font, tile_px), _INK, font)
            sheet.paste(Image.fromarray(rgb), (x + (tile_px - rgb.shape[1]) // 2, y + _TITLE_PX + 8))
        y += height + cell
    return np.asarray(sheet)


def save_png(path: str | Path, rgb: Picture, overwrite: bool = False) -> None:
    """Write a picture as PNG. Raises OutputError if `path` exists or cannot be written."""
    with atomic_path(path, overwrite) as temporary:
        Image.fromarray(rgb).save(temporary, format="PNG")


def label_colours(labels: npt.NDArray[np.integer]) -> Picture:
    """Each label's colour, (...) -> (..., 3); 0 is black, a number has the same colour everywhere."""
    palette = _palette()
    return np.where((labels > 0)[..., None], palette[(labels.astype(np.int64) - 1) % len(palette)], np.uint8(0))


@lru_cache(maxsize=1)
def _palette() -> Picture:
    """Bright colours of which each is as far as can be, to the eye, from all before it and from grey."""
    steps = np.linspace(0, 255, 14)
    rgb = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    lightness, a, b = lab = _cielab(rgb).T
    vivid = (np.hypot(a, b) > 40) & (lightness > 58) & (lightness < 92)
    rgb, lab = rgb[vivid], lab.T[vivid]
    chosen = [int(np.hypot(*lab[:, 1:].T).argmax())]
    distance = np.full(len(lab), np.inf)
    while len(chosen) < _N_LABEL_COLOURS:
        distance = np.minimum(distance, ((lab - lab[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(distance.argmax()))
    return np.asarray(rgb[chosen], np.uint8)


def _cielab(rgb: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """CIE L*a*b* (D65) of sRGB 0..255, (N, 3) -> (N, 3): distances there are those the eye sees."""
    linear = np.where(rgb / 255 <= 0.04045, rgb / 255 / 12.92, ((rgb / 255 + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=-1)


def _stretch(channel: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    values = np.nan_to_num(channel.astype(np.float32))
    low, high = (float(v) for v in np.percentile(values, _STRETCH_PERCENT))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    return np.asarray(np.clip((values - low) / (high - low if high > low else 1.0), 0, 1), np.float32)


def _to_uint8(values: npt.NDArray[np.float32]) -> Picture:
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def _rim(labels: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    padded = np.pad(labels, 1, mode="edge")
    centre = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray((centre > 0) & np.logical_or.reduce([centre != one for one in neighbours]))


def _grow(classes: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """One pixel of growth to the 4 neighbours; labelled pixels stay, the higher class wins a gap."""
    padded = np.pad(classes, 1, constant_values=UNLABELLED)
    around = np.maximum.reduce([padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]])
    return np.where(classes == UNLABELLED, around, classes)


def _thickness(shape: Sequence[int], per_px: int) -> int:
    return max(1, round(min(shape) / per_px))


def _fit(rgb: Picture, tile_px: int) -> Picture:
    factor = tile_px / max(rgb.shape[:2])
    size = tuple(max(1, math.floor(n * factor + 0.5)) for n in (rgb.shape[1], rgb.shape[0]))
    method = Image.Resampling.NEAREST if factor >= 2 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(rgb).resize(size, method))


def _shorten(title: str, font: Any, width_px: int) -> str:
    if font.getlength(title) <= width_px:
        return title
    while title and font.getlength(title + "...") > width_px:
        title = title[:-1]
    return title + "..."


def _check_shape(rgb: Picture, other: npt.NDArray[Any]) -> None:
    if rgb.shape[:2] != other.shape:
        raise InputError(f"the picture is {rgb.shape[:2]} px but what is drawn on it is {other.shape}")
