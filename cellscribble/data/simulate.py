"""Strokes made from full labels, as an annotator with little time would draw them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.morphology import skeletonize

from cellscribble.core.errors import InputError
from cellscribble.core.labels import BACKGROUND, UNLABELLED

MIN_BRANCH_PX = 5
SECTION_STEP = 10
"""Of a volume every 10th section is drawn on, unless told otherwise."""

_EIGHT = np.ones((3, 3), bool)


def simulate_scribbles(
    labels: npt.NDArray[np.integer[Any]],
    share: float,
    rng: np.random.Generator,
    *,
    object_class: Mapping[int, int] | None = None,
    sections: list[int] | None = None,
) -> npt.NDArray[np.int16]:
    """Draw the 1 px skeletons of some objects, and as many strokes in the background.

    Parameters
    ----------
    labels : (*spatial) int, 2D or 3D, 0 background, other numbers one object each
    share : of the objects that get a stroke, 0..1; ``ceil(share * N)`` are drawn
    rng : the same state with a larger share draws the same strokes and more
    object_class : class of each object's number, 1 and up; None: all are class 1
    sections : of a volume the places on the first axis that are drawn on; None: every 10th, from
        the middle of the first ten

    Returns
    -------
    (*spatial) int16 : -1 unlabelled, 0 background, 1.. classes

    Raises
    ------
    InputError
        If the share is not within 0..1, the image neither 2D nor 3D, or a section is not in it.

    Notes
    -----
    After H. Lee and W.-K. Jeong, "Scribble2Label", MICCAI 2020, who skeletonise each object and the
    background. Background strokes are the branches of its skeleton, cut at the junctions, of at
    least 5 px. In a volume each section is drawn on as an image of its own.
    """
    if not 0 <= share <= 1:
        raise InputError(f"the share of objects is {share}; expected a number from 0 to 1, such as 0.1")
    if labels.ndim not in (2, 3):
        raise InputError(f"labels have shape {labels.shape}; expected an image (Y, X) or a volume (Z, Y, X)")
    out = np.full(labels.shape, UNLABELLED, np.int16)
    if labels.ndim == 2:
        if sections is not None:
            raise InputError(f"sections are of volumes, the labels are an image {labels.shape}; leave them out")
        _draw(labels, out, share, rng, object_class)
        return out
    if sections is None:
        sections = list(range(min(SECTION_STEP // 2, labels.shape[0] // 2), labels.shape[0], SECTION_STEP))
    for z in sections:
        if not 0 <= z < labels.shape[0]:
            raise InputError(f"section {z} is not in a volume of {labels.shape[0]} sections (0 is the first)")
        _draw(labels[z], out[z], share, rng, object_class)
    return out


def _draw(
    labels: npt.NDArray[np.integer[Any]],
    out: npt.NDArray[np.int16],
    share: float,
    rng: np.random.Generator,
    object_class: Mapping[int, int] | None,
) -> None:
    strokes = list(_object_strokes(labels))
    branches = background_branches(labels)
    # Both orders are drawn whole, whatever the share, so that 30 % holds all of 10 %.
    order, branch_order = rng.permutation(len(strokes)), rng.permutation(len(branches))
    n = math.ceil(share * len(strokes))
    if not strokes:
        n_branches = math.ceil(share * len(branches))
    else:
        n_branches = n
    for k in branch_order[:n_branches]:
        out[branches[k]] = BACKGROUND
    for k in order[:n]:
        number, position = strokes[k]
        out[position] = 1 if object_class is None else object_class[number]


def _object_strokes(labels: npt.NDArray[np.integer[Any]]) -> Iterator[tuple[int, tuple[npt.NDArray[Any], ...]]]:
    numbers, compact = np.unique(labels, return_inverse=True)
    compact = compact.reshape(labels.shape) + int(numbers[0] != 0)
    names = numbers if numbers[0] == 0 else np.concatenate([[0], numbers])
    for k, box in enumerate(ndimage.find_objects(compact), start=1):
        # One pixel of margin: a skeleton at the array's edge is otherwise drawn along that edge.
        alone = np.pad(compact[box] == k, 1)
        position = np.nonzero(skeletonize(alone)[1:-1, 1:-1])  # type: ignore[no-untyped-call]
        yield int(names[k]), tuple(axis + part.start for axis, part in zip(position, box, strict=True))


def background_branches(labels: npt.NDArray[np.integer[Any]]) -> list[tuple[npt.NDArray[Any], ...]]:
    """The pixel positions of each branch of the background's skeleton (Y, X), at least 5 px each.

    A junction is a skeleton pixel with more than two skeleton neighbours; taking these away leaves
    the branches.
    """
    skeleton = skeletonize(labels == 0)  # type: ignore[no-untyped-call]
    n_neighbours = ndimage.convolve(skeleton.astype(np.uint8), _EIGHT.astype(np.uint8), mode="constant") - 1
    parts, n = ndimage.label(skeleton & (n_neighbours <= 2), _EIGHT)
    lengths = np.bincount(parts.ravel(), minlength=n + 1)
    branches = []
    for k, box in enumerate(ndimage.find_objects(parts), start=1):
        if lengths[k] >= MIN_BRANCH_PX:
            position = np.nonzero(parts[box] == k)
            branches.append(tuple(axis + part.start for axis, part in zip(position, box, strict=True)))
    return branches
