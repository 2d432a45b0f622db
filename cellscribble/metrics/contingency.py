"""How many pixels each predicted object shares with each true one: what all object scores are made of.

Only the pairs that meet are held, so thousands of objects on either side cost no dense table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.errors import InputError

_DENSE_CELLS = 1 << 22
"""Up to this many cells counting into a table is faster than sorting the pixels."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Contingency:
    """Pixel counts of two label images of one shape; label 0, the background, included.

    truth, labels : (P,) int64, a pair of labels that share at least one pixel
    pixels : (P,) int64, how many they share
    truth_ids, truth_pixels : (T,) int64, the labels of the truth, ascending, and their sizes
    label_ids, label_pixels : (L,) int64, the same for the prediction
    """

    truth: Ints
    labels: Ints
    pixels: Ints
    truth_ids: Ints
    truth_pixels: Ints
    label_ids: Ints
    label_pixels: Ints

    @property
    def n_truth(self) -> int:
        """True objects, without the background."""
        return int((self.truth_ids > 0).sum())

    @property
    def n_labels(self) -> int:
        """Predicted objects, without the background."""
        return int((self.label_ids > 0).sum())

    def sizes_of_pairs(self) -> tuple[Ints, Ints]:
        """(P,) size of the true object and (P,) size of the predicted object of each pair."""
        return (
            self.truth_pixels[np.searchsorted(self.truth_ids, self.truth)],
            self.label_pixels[np.searchsorted(self.label_ids, self.labels)],
        )

    def within(self, keep: npt.NDArray[np.bool_]) -> Contingency:
        """The counts over the pairs `keep` (P,) bool alone; sizes are counted anew."""
        return _from_pairs(self.truth[keep], self.labels[keep], self.pixels[keep])


def count_overlaps(labels: npt.NDArray[Any], truth: npt.NDArray[Any]) -> Contingency:
    """Count the pixels that each pair of labels shares.

    Parameters
    ----------
    labels, truth : (*spatial) integer or bool; any numbers, 0 is background

    Raises
    ------
    InputError
        If the shapes differ, or an array is not of whole numbers >= 0.
    """
    check_same_shape(labels, truth)
    a, b = _flat("truth", truth), _flat("labels", labels)
    n_a, n_b = int(a.max(initial=0)) + 1, int(b.max(initial=0)) + 1
    if n_a * n_b <= _DENSE_CELLS:
        table = np.bincount(a * n_b + b, minlength=n_a * n_b)
        key = np.flatnonzero(table)
        return _from_pairs(key // n_b, key % n_b, table[key])
    # Numbers may be up to 2**32 on both sides, their product is then too large for a key.
    ids_a, a = np.unique(a, return_inverse=True)
    ids_b, b = np.unique(b, return_inverse=True)
    key, pixels = np.unique(a * len(ids_b) + b, return_counts=True)
    return _from_pairs(ids_a[key // len(ids_b)], ids_b[key % len(ids_b)], pixels)


def check_same_shape(prediction: npt.NDArray[Any], truth: npt.NDArray[Any]) -> None:
    """Raise InputError, with both shapes, unless they are equal."""
    if prediction.shape != truth.shape:
        raise InputError(
            f"the prediction is {prediction.shape} but the truth is {truth.shape}; "
            "compare files of the same image, neither cropped nor scaled"
        )


def _flat(name: str, array: npt.NDArray[Any]) -> Ints:
    if array.dtype.kind not in "uib":
        raise InputError(f"the {name} image is {array.dtype}; expected whole numbers, one an object")
    if array.dtype.kind == "i" and array.size and int(array.min()) < 0:
        raise InputError(f"the {name} image holds {int(array.min())}; expected 0 and up, 0 background")
    return array.ravel().astype(np.int64)


def _from_pairs(truth: Ints, labels: Ints, pixels: Ints) -> Contingency:
    truth_ids, i = np.unique(truth, return_inverse=True)
    label_ids, j = np.unique(labels, return_inverse=True)
    truth_pixels, label_pixels = np.zeros(len(truth_ids), np.int64), np.zeros(len(label_ids), np.int64)
    np.add.at(truth_pixels, i, pixels)
    np.add.at(label_pixels, j, pixels)
    return Contingency(truth, labels, pixels, truth_ids, truth_pixels, label_ids, label_pixels)
