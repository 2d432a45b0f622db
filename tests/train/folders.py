"""Folders with images and strokes, as a user has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from cellscribble.core.volume import ImageVolume
from tests.conftest import make_balls, make_disks


def save_pair(folder: Path, name: str, image: np.ndarray, scribbles: np.ndarray | None, **tiff: object) -> None:
    for part in ("imgs", "strokes"):
        (folder / part).mkdir(exist_ok=True)
    tifffile.imwrite(folder / "imgs" / f"{name}.tif", image, **tiff)
    if scribbles is not None:
        tifffile.imwrite(folder / "strokes" / f"{name}.tif", (scribbles + 1).astype(np.uint8))


def save_disks(folder: Path, *names: str) -> Path:
    """Images of disks in folder/imgs with strokes in folder/strokes; returns folder."""
    for seed, name in enumerate(names or ("a", "b")):
        example = make_disks(seed)
        save_pair(folder, name, example.image.data[0], example.scribbles)
    return folder


def to_uint8(image: ImageVolume) -> np.ndarray:
    return (np.asarray(image.data) / 1200 * 255).clip(0, 255).astype(np.uint8)


def save_kind(folder: Path, kind: str) -> Path:
    """Two images of one kind: grey, rgb, channels, volume (z 4 times coarser)."""
    for seed, name in enumerate("ab"):
        if kind == "volume":
            example = make_balls(seed)
            thin = slice(0, None, 4)
            save_pair(
                folder,
                name,
                example.image.data[0, thin],
                example.scribbles[thin],
                imagej=True,
                resolution=(4, 4),
                metadata={"axes": "ZYX", "spacing": 1.0, "unit": "um"},
            )
        elif kind == "rgb":
            example = make_disks(seed, 3)
            save_pair(folder, name, np.moveaxis(to_uint8(example.image), 0, -1), example.scribbles, photometric="rgb")
        elif kind == "channels":
            example = make_disks(seed, 2)
            save_pair(folder, name, example.image.data, example.scribbles, imagej=True, metadata={"axes": "CYX"})
        else:
            example = make_disks(seed)
            save_pair(folder, name, example.image.data[0], example.scribbles)
    return folder
