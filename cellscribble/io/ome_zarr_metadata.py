"""What stands in an OME-Zarr group about its pyramid, and which levels a pyramid has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cellscribble.core.volume import PyramidLevel
from cellscribble.io.ome_zarr_read import RGB_COLOURS

RGB_NAMES = ("red", "green", "blue")
"""Channels of these names are written as those of a colour picture."""

SMALLEST_LEVEL_PX = 512
"""Levels are added until Y and X are at most this."""


def plan_levels(first: PyramidLevel, n_levels: int | None, kind: str) -> list[PyramidLevel]:
    """The levels over an image, `first` itself first, each half of the one before.

    n_levels : by default as many as make Y and X at most `SMALLEST_LEVEL_PX`
    kind : "labels", every second pixel, which lies where it was, or "image", the mean, which lies between
    """
    shape = first.shape
    steps = [(1,) * len(shape)]
    while len(steps) < n_levels if n_levels else max(_shrunk(shape, steps[-1])[-2:]) > SMALLEST_LEVEL_PX:
        last = steps[-1]
        factors = [2, 2]
        if len(shape) == 3:
            # Depth is halved only once its pixels are no longer much coarser than those in plane.
            factors = [2 if first.scale[0] * last[0] < 1.5 * first.scale[1] * last[1] else 1, *factors]
        steps.append(tuple(a * b for a, b in zip(last, factors, strict=True)))
    between = 1 if kind == "image" else 0
    return [
        PyramidLevel(
            _shrunk(shape, step),
            tuple(size * s for size, s in zip(first.scale, step, strict=True)),
            tuple(
                at + between * size * (s - 1) / 2 for at, size, s in zip(first.offset, first.scale, step, strict=True)
            ),
        )
        for step in steps
    ]


def _shrunk(shape: tuple[int, ...], step: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(-(-n // s) for n, s in zip(shape, step, strict=True))


def ome_metadata(
    kind: str,
    version: str,
    axes: str,
    calibrated: bool,
    levels: Sequence[PyramidLevel],
    name: str,
    dtype: np.dtype[Any],
    channel_names: Sequence[str],
    source: str,
) -> dict[str, Any]:
    """The attributes of the group; parameters as `create_ome_zarr`, `calibrated` if sizes are in micrometres."""
    lead = len(axes) - len(levels[0].shape)
    datasets = []
    for number, level in enumerate(levels):
        scale = [*(1.0,) * lead, *map(float, level.scale)]
        transformations: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if kind == "image" or any(level.offset):
            shift = [*(0.0,) * lead, *map(float, level.offset)]
            transformations.append({"type": "translation", "translation": shift})
        datasets.append({"path": str(number), "coordinateTransformations": transformations})
    multiscale: dict[str, Any] = {
        "name": name,
        "axes": [_axis(letter, calibrated) for letter in axes.lower()],
        "datasets": datasets,
        "type": "nearest" if kind == "labels" else "mean",
    }
    tag = {"version": version} if version == "0.4" else {}
    metadata: dict[str, Any] = {"multiscales": [{**tag, **multiscale}]}
    if kind == "labels":
        metadata["image-label"] = {**tag, **({"source": {"image": source}} if source else {})}
    elif channel_names:
        metadata["omero"] = _omero(dtype, channel_names)
    return metadata


def _omero(dtype: np.dtype[Any], channel_names: Sequence[str]) -> Mapping[str, Any]:
    top = float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0
    window = {"min": 0.0, "max": top, "start": 0.0, "end": top}
    is_rgb = tuple(channel_names) == RGB_NAMES and dtype == np.uint8
    colours = RGB_COLOURS if is_rgb else ("FFFFFF",) * len(channel_names)
    return {
        "channels": [
            {"label": label, "color": colour, "active": True, "window": window}
            for label, colour in zip(channel_names, colours, strict=True)
        ]
    }


def _axis(letter: str, calibrated: bool) -> dict[str, str]:
    if letter == "c":
        return {"name": "c", "type": "channel"}
    axis = {"name": letter, "type": "space"}
    return {**axis, "unit": "micrometer"} if calibrated else axis
