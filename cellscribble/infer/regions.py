"""Boxes in which a model is unsure, unlike each other and apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cellscribble.infer.uncertainty import uncertainty

EDGE_PX = 5
"""Doubt along a line thinner than this is that of an edge, which every cell has."""

BORDER_PX = 32
"""So near to the image's border the network sees mirrored pixels, and doubts what is sure elsewhere."""

KEPT = 256
"""Of a block this many of the least sure boxes are looked at further."""

APART = 3.0
"""In box sides: boxes that lie closer are taken to show the same neighbourhood."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """n boxes, also of several images.

    corner : (n, ndim) int64, first pixel
    size : (n, ndim) int64, px
    score : (n,) float64, mean square of the doubt, 0 (certain) to 1
    look : (n, F) float64, what the box looks like
    plane : (n,) int64, of a stack the least sure plane in the box; of an image 0
    image : (n,) int64, number of the image
    """

    corner: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    look: npt.NDArray[np.float64]
    plane: npt.NDArray[np.int64]
    image: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, index: npt.NDArray[np.intp]) -> Boxes:
        return Boxes(*(getattr(self, name)[index] for name in self.__slots__))

    def least_sure(self, n: int) -> Boxes:
        """The `n` of the highest score, in their order."""
        return self if len(self) <= n else self[np.sort(np.argsort(-self.score, kind="stable")[:n])]


def joined(boxes: Sequence[Boxes]) -> Boxes:
    """One table of several, at least one."""
    return Boxes(*(np.concatenate([getattr(one, name) for one in boxes]) for name in Boxes.__slots__))


def boxes_of_block(
    pixels: npt.NDArray[np.float32],
    probability: npt.NDArray[np.float32],
    corner: Sequence[int],
    shape: Sequence[int],
    box_px: Sequence[int],
    image: int,
    average: npt.NDArray[np.uint8] | None = None,
) -> Boxes:
    """The boxes inside a block that the model is not sure of, each half a side from the next.

    Parameters
    ----------
    pixels : (C, *spatial) normalised, the block's own without halo
    probability : (K, *spatial), what the network says of them
    corner, shape : of the block in its image, and of the image, px
    box_px : size of a box, px, at most the block
    image : number of the image
    average : (K-1, *spatial), 255 times what the network said on average while it learnt, of all but the background
    """
    starts = [_starts(n, side) for n, side in zip(probability.shape[1:], box_px, strict=True)]
    doubt = _wide_doubt(probability, average)
    for axis in (-2, -1):
        at = np.arange(doubt.shape[axis]) + corner[axis]
        margin = min(BORDER_PX, shape[axis] // 8)
        np.moveaxis(doubt, axis, 0)[(at < margin) | (at >= shape[axis] - margin)] = 0
    score = _means(doubt, starts, box_px).ravel()
    plane = _least_sure_plane(doubt, starts, box_px) if len(box_px) == 3 else np.zeros(len(score), np.int64)
    seen: list[npt.NDArray[np.float64]] = []
    for channel in pixels:
        mean = _means(channel, starts, box_px)
        spread = np.sqrt(np.maximum(_means(channel.astype(np.float64) ** 2, starts, box_px) - mean**2, 0))
        seen += [mean, spread, _means(ndimage.gaussian_gradient_magnitude(channel, 1.0), starts, box_px)]
    seen += [_means(one, starts, box_px) for one in probability[1:]]
    place = np.stack(np.meshgrid(*starts, indexing="ij"), axis=-1).reshape(-1, len(starts))
    every = Boxes(
        place + np.asarray(corner),
        np.broadcast_to(np.asarray(box_px), place.shape),
        score,
        np.stack([one.ravel() for one in seen], axis=1),
        plane + (corner[0] if len(box_px) == 3 else 0),
        np.full(len(score), image),
    )
    return every[np.flatnonzero(score > 0)].least_sure(KEPT)


def choose(boxes: Boxes, n: int) -> Boxes:
    """At most `n` boxes, best first: unsure, none over another, and unlike those before in look and place.

    Each next one has the highest score x (1 - likeness to the most alike before it): maximal marginal relevance
    (J. Carbonell and J. Goldstein, "The use of MMR", SIGIR 1998, section 2) as a product, so that it has no weight to
    choose. Likeness is half that of looks and half that of places.
    """
    if not len(boxes):
        return boxes
    spread = boxes.look.std(axis=0)
    look = (boxes.look - boxes.look.mean(axis=0)) / np.where(spread > 0, spread, 1)
    new = np.ones(len(boxes))
    chosen: list[int] = []
    for _ in range(min(n, len(boxes))):
        value = boxes.score * new
        best = int(value.argmax())
        if value[best] <= 0:
            break
        chosen.append(best)
        same = boxes.image == boxes.image[best]
        steps = np.abs(boxes.corner - boxes.corner[best]) / boxes.size
        like = np.exp(-((look - look[best]) ** 2).mean(axis=1) / 2)
        near = np.where(same, np.exp(-((steps / APART) ** 2).sum(axis=1) / 2), 0)
        new = np.minimum(new, 1 - (like + near) / 2)
        new[same & (steps < 1).all(axis=1)] = 0
    return boxes[np.array(chosen, np.intp)]


def _wide_doubt(
    probability: npt.NDArray[np.float32], average: npt.NDArray[np.uint8] | None
) -> npt.NDArray[np.float32]:
    """The uncertainty 0..1 or how far the average is from the probability, whichever is more, squared.

    Without what is thinner than `EDGE_PX` (a grey opening, plane by plane). Squared, since a little doubt all over the
    empty glass must not outweigh much doubt in a cell.
    """
    doubt = uncertainty(probability).astype(np.float32) / 255
    if average is not None:
        # A network may be sure now of what it took for something else a while ago. Not the sum of both: it would draw
        # the boxes away from images that have no average.
        doubt = np.maximum(doubt, _disagreement(probability, average))
    size = (1,) * (doubt.ndim - 2) + (EDGE_PX, EDGE_PX)
    wide = np.asarray(ndimage.grey_opening(doubt, size), np.float32)
    return np.asarray(wide**2, np.float32)


def _disagreement(probability: npt.NDArray[np.float32], average: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(*spatial), 0..1: half the sum of |p - y| over all classes; of two classes it is |p - y| of either."""
    y = average.astype(np.float32) / 255
    apart = np.abs(probability[0] - (1 - y.sum(axis=0))) + np.abs(probability[1:] - y).sum(axis=0)
    return np.asarray(apart / 2, np.float32)


def _starts(n: int, side: int) -> npt.NDArray[np.int64]:
    """First pixels of boxes half a side apart, the last at the end."""
    return np.unique(np.append(np.arange(0, n - side + 1, max(1, side // 2)), n - side))


def _means(
    values: npt.NDArray[np.floating], starts: Sequence[npt.NDArray[np.int64]], box_px: Sequence[int]
) -> npt.NDArray[np.float64]:
    """Means over all boxes, from running sums along each axis."""
    out = np.asarray(values, np.float64)
    for axis, (first, side) in enumerate(zip(starts, box_px, strict=True)):
        total = np.cumsum(np.insert(out, 0, 0, axis), axis)
        out = (total.take(first + side, axis) - total.take(first, axis)) / side
    # Of what is 0 everywhere rounding leaves a little.
    return np.where(np.abs(out) < 1e-9, 0, out)


def _least_sure_plane(
    doubt: npt.NDArray[np.float32], starts: Sequence[npt.NDArray[np.int64]], box_px: Sequence[int]
) -> npt.NDArray[np.int64]:
    """Of each box its plane of highest mean, counted from the block's first."""
    by_plane = np.stack([_means(plane, starts[1:], box_px[1:]) for plane in doubt])
    found = [first + by_plane[first : first + box_px[0]].argmax(axis=0).ravel() for first in starts[0]]
    return np.fromiter(itertools.chain.from_iterable(found), np.int64)
