"""Fixed labels of an image as memory maps of a sample, so that patches cut and turn them with the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cellscribble.core.labels import UNLABELLED


def to_maps(labels: npt.NDArray[np.integer], n_classes: int) -> npt.NDArray[np.uint8]:
    """(K, *spatial) uint8: 1 in the map of a pixel's class; 0 in all where it is -1."""
    classes = np.arange(n_classes).reshape(-1, *(1,) * labels.ndim)
    return np.asarray(labels[None] == classes, np.uint8)


def from_maps(maps: Tensor, scribbles: Tensor) -> Tensor:
    """Labels off the strokes, (B, *spatial) int64, of maps (B, K, *spatial) that a patch has interpolated.

    -1 where no class has more than half of a pixel, and under strokes, which have a term of their own.
    """
    share, label = maps.max(dim=1)
    return torch.where((share > 0.5) & (scribbles == UNLABELLED), label, UNLABELLED)


def labels_of(maps: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """The reverse of `to_maps`."""
    return np.where(maps.any(axis=0), maps.argmax(axis=0), UNLABELLED).astype(np.int16)
