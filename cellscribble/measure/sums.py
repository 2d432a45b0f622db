"""What is counted of each object, block by block: sums, and lowest and highest values.

All of it is additive, so an object that lies in many blocks is counted in each of them and the
parts are put together. Whole numbers are summed as whole numbers: the sums, and all that is worked out
of them, are the same for any blocks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.measure.outline import Outline, outline
from cellscribble.measure.sorted_records import to_records

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Sums:
    """Counts of n objects in D axes and C channels.

    Coordinates are those of the whole image. Their sums of second order may pass 2^63 and wrap round; counted from a
    corner of the object they are right again, since the error is a multiple of 2^64.

    ids : (n,) int64, labels in ascending order
    pixels : (n,) int64
    first : (n, D) int64, sum of each coordinate
    second : (n, D, D) int64, sum of each product of two coordinates
    low, high : (n, D) int64, bounding box, `high` excluded
    border : (n, 3) int64, pixels of the border by how they continue: see `Outline`
    euler : (n,) int64, Euler number
    grey, edge_grey : (n, C, 2) int64 or float64, sum of the values and of their squares; the same of the edge
    edge_pixels : (n,) int64
    grey_first : (n, C, D), sum of value times coordinate
    lowest, highest, edge_lowest, edge_highest : (n, C), of the values; 0 for an edge without pixels
    highest_at : (n, C, D) int64, where the highest value is; of several places the last in raster order
    """

    ids: Array
    pixels: Array
    first: Array
    second: Array
    low: Array
    high: Array
    border: Array
    euler: Array
    grey: Array
    edge_grey: Array
    edge_pixels: Array
    grey_first: Array
    lowest: Array
    highest: Array
    edge_lowest: Array
    edge_highest: Array
    highest_at: Array

    def __len__(self) -> int:
        return len(self.ids)

    def to_records(self) -> Array:
        """The same as (n,) records, an object each, whose fields are these arrays."""
        return to_records({field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def from_records(cls, records: Array) -> Sums:
        """What `to_records` made."""
        return cls(**{field.name: records[field.name] for field in fields(cls)})


_LOWEST = ("low", "lowest", "edge_lowest")
_HIGHEST = ("high", "highest", "edge_highest")


def sum_block(
    labels: npt.NDArray[np.integer[Any]],
    image: Array,
    start: tuple[int, ...],
    margin: tuple[tuple[int, int], ...],
) -> Sums:
    """The counts of one block.

    Parameters
    ----------
    labels : (*spatial) integers, 0 background: the block and `margin` pixels around it
    image : (C, *spatial) the block's values, without margin; C may be 0
    start : where the block begins in the image
    margin : pixels before and behind along each axis, `outline.MARGIN_PX` but at the image's border
    """
    ndim = labels.ndim
    at = np.nonzero(labels[_inner(margin, labels.shape)])
    inside = tuple(axis + before for axis, (before, _) in zip(at, margin, strict=True))
    numbers = labels[inside].astype(np.int64)
    order = _stable_order(numbers)
    numbers, inside = numbers[order], tuple(axis[order] for axis in inside)
    cuts = np.flatnonzero(np.diff(numbers, prepend=-1))
    at = tuple(axis[order] for axis in at)
    place = [axis + begin for axis, begin in zip(at, start, strict=True)]
    found = outline(labels, inside, margin)
    values = np.stack([channel[at] for channel in image], axis=1) if len(image) else np.zeros((len(numbers), 0), int)
    values = values.astype(np.float64 if values.dtype.kind == "f" or values.dtype.itemsize > 2 else np.int64)
    squares = np.stack([values, values * values], axis=2)
    return Sums(
        ids=numbers[cuts],
        pixels=_add(np.ones_like(numbers), cuts),
        first=_columns([_add(axis, cuts) for axis in place]),
        second=_columns([_add(a * b, cuts) for a in place for b in place]).reshape(-1, ndim, ndim),
        low=_columns([_reduce(np.minimum, axis, cuts) for axis in place]),
        high=_columns([_reduce(np.maximum, axis, cuts) + 1 for axis in place]),
        border=_columns([_add(found.turns == kind, cuts) for kind in range(len(Outline.LENGTHS))]),
        euler=_add(found.euler, cuts),
        grey=_add(squares, cuts),
        edge_grey=_add(squares * found.is_edge[:, np.newaxis, np.newaxis], cuts),
        edge_pixels=_add(found.is_edge, cuts),
        grey_first=_add(np.stack([values * axis[:, np.newaxis] for axis in place], axis=2), cuts),
        lowest=_reduce(np.minimum, values, cuts),
        highest=_reduce(np.maximum, values, cuts),
        edge_lowest=_reduce(np.minimum, np.where(found.is_edge[:, np.newaxis], values, _end(values, 1)), cuts),
        edge_highest=_reduce(np.maximum, np.where(found.is_edge[:, np.newaxis], values, _end(values, -1)), cuts),
        highest_at=_last_of_highest(values, np.stack(place, axis=1)[:, np.newaxis], cuts),
    )


def merge(parts: Iterable[Sums]) -> Sums:
    """Put the counts of several blocks together."""
    columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Sums)}
    joined = {name: np.concatenate(arrays) for name, arrays in columns.items()}
    order = _stable_order(joined["ids"])
    joined = {name: array[order] for name, array in joined.items()}
    cuts = np.flatnonzero(np.diff(joined["ids"], prepend=-1))
    rules = dict.fromkeys(_LOWEST, np.minimum) | dict.fromkeys(_HIGHEST, np.maximum)
    merged = {name: _reduce(rules.get(name, np.add), array, cuts) for name, array in joined.items()}
    merged["ids"] = joined["ids"][cuts]
    merged["highest_at"] = _last_of_highest(joined["highest"], joined["highest_at"], cuts)
    return Sums(**merged)


def _inner(margin: tuple[tuple[int, int], ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(before, n - behind) for (before, behind), n in zip(margin, shape, strict=True))


def _stable_order(numbers: Array) -> Array:
    # 16 bits are sorted by counting: labels of a block lie near each other, so few blocks need more.
    low = int(numbers.min(initial=0)) if not len(numbers) else int(numbers.min())
    span = int(numbers.max(initial=low)) - low
    return np.argsort((numbers - low).astype(np.uint16) if span < 2**16 else numbers, kind="stable")


def _reduce(rule: np.ufunc, values: Array, cuts: Array) -> Array:
    if not len(cuts):
        return values[:0]
    return np.asarray(rule.reduceat(values, cuts, axis=0))


def _add(values: Array, cuts: Array) -> Array:
    return _reduce(np.add, values if values.dtype.kind == "f" else values.astype(np.int64, copy=False), cuts)


def _columns(arrays: list[Array]) -> Array:
    return np.stack(arrays, axis=1)


def _end(values: Array, sign: int) -> Any:
    """A value that no other is above (1) or below (-1)."""
    if values.dtype.kind == "f":
        return sign * np.inf
    return np.iinfo(values.dtype).max if sign > 0 else np.iinfo(values.dtype).min


def _last_of_highest(values: Array, places: Array, cuts: Array) -> Array:
    """Where (n, C, D) `values` (pixels, C) are highest, the last in raster order; `places` (pixels, C or 1, D)."""
    n_channels, ndim = values.shape[1], places.shape[2]
    if not len(cuts):
        return np.zeros((0, n_channels, ndim), np.int64)
    each = np.diff(cuts, append=len(values))
    highest = np.repeat(np.maximum.reduceat(values, cuts, axis=0), each, axis=0)
    chosen = values == highest
    out = np.empty((len(cuts), n_channels, ndim), np.int64)
    for axis in range(ndim):
        along = np.where(chosen, places[:, :, axis], -1)
        out[:, :, axis] = np.maximum.reduceat(along, cuts, axis=0)
        chosen &= along == np.repeat(out[:, :, axis], each, axis=0)
    return out
