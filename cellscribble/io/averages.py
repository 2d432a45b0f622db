"""A run's moving averages of its own predictions of the training images: averages.npz beside the model.

An entry is a uint8 array (K-1, *spatial), 255 times the average probability of each class but the background; its name
is the image's spatial shape and the sha256 of its pixels, as in inputs.json: "512x512_1f3a...".
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import ModelError
from cellscribble.core.hashes import sha256_of
from cellscribble.core.volume import ImageVolume
from cellscribble.io.atomic import atomic_path, remove

AVERAGES = "averages.npz"


def save_averages(folder: Path, maps: Iterable[tuple[ImageVolume, npt.NDArray[np.floating]]]) -> None:
    """Store the averages (K-1, *spatial), 0..1, of these images; without any the folder has no file of them."""
    stored: dict[str, Any] = {
        f"{_shape(image)}{sha256_of(np.asarray(image.data))}": np.rint(255 * np.clip(y, 0, 1)).astype(np.uint8)
        for image, y in maps
    }
    if not stored:
        remove(folder / AVERAGES)
        return
    with atomic_path(folder / AVERAGES, overwrite=True) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **stored)


class Averages:
    """The averages beside a model; none where the model does not lie in its run folder."""

    def __init__(self, model: Path) -> None:
        self._path = model.parent / AVERAGES
        self._names: set[str] = set()
        if self._path.is_file():
            try:
                with np.load(self._path, allow_pickle=False) as stored:
                    self._names = set(stored.files)
            except (OSError, ValueError, zipfile.BadZipFile) as error:
                raise self._damaged(error) from error

    def __bool__(self) -> bool:
        return bool(self._names)

    def of(self, image: ImageVolume, n_classes: int) -> npt.NDArray[np.uint8] | None:
        """(K-1, *spatial); None for an image that was not averaged, or if it was with other classes."""
        # A slide is not read for this: no training image has its shape.
        if not any(name.startswith(_shape(image)) for name in self._names):
            return None
        name = f"{_shape(image)}{sha256_of(np.asarray(image.data))}"
        if name not in self._names:
            return None
        try:
            with np.load(self._path, allow_pickle=False) as stored:
                average: npt.NDArray[np.uint8] = stored[name]
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise self._damaged(error) from error
        return average if average.shape == (n_classes - 1, *image.spatial_shape) else None

    def _damaged(self, error: Exception) -> ModelError:
        return ModelError(f"{self._path} cannot be read ({error}); delete it, and doubt is that of the model alone")


def _shape(image: ImageVolume) -> str:
    return "x".join(map(str, image.spatial_shape)) + "_"
