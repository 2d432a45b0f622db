"""One block's basins: each foreground pixel joined to the summit that steepest ascent leads to.

A way uphill depends on the heights along it alone, not on who walks it. A block follows the ways of
its own pixels as far as it sees. Those that lead out are named after the pixel by which they leave;
`glue` asks the neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cellscribble.segment.ascent import Ints, follow, strides_of, uphill
from cellscribble.segment.graph import BasinGraph, Edge, highest_necks

Seen = npt.NDArray[np.bool_ | np.uint8]
"""What was seen of an image (*spatial): foreground or not; or 0 background and 1.. the class that a pixel favours."""

RIM_PX = 8
"""A block sees this far into its neighbours: ways that leave it soon run together, and what runs
together needs one name only. Any number from 1 gives the same objects."""


def find_basins(
    height: npt.NDArray[np.int32], own: tuple[slice, ...], origin: Sequence[int], shape: Sequence[int]
) -> tuple[npt.NDArray[np.int32], BasinGraph]:
    """Follow each pixel of a block uphill.

    Parameters
    ----------
    height : (*window) int32, 0 outside of the mask; the block and at least one pixel more on every
        side that is not the image's border
    own : the block in the window
    origin : where the window begins in the image
    shape : of the image

    Returns
    -------
    labels : (*block) int32, 0 background, 1..N
    graph : the N basins, without votes (V = 0)
    """
    # A frame of background, so that no step leaves the array.
    framed = np.zeros([n + 2 for n in height.shape], np.int32)
    framed[(slice(1, -1),) * height.ndim] = height
    flat = framed.ravel()
    pixels = np.flatnonzero(flat > 0)
    place = np.empty(flat.size, np.int32)
    place[pixels] = np.arange(len(pixels), dtype=np.int32)
    to = place.take(uphill(flat, framed.shape, pixels)).astype(np.int64)
    # The outermost pixels of the window do not see all that is around them: there the view ends.
    seen = tuple(
        slice(1 + (low > 0), n + 1 - (low + n < whole))
        for low, n, whole in zip(origin, height.shape, shape, strict=True)
    )
    unseen = place.take(np.flatnonzero(_beyond(framed, seen)))
    to[unseen] = unseen
    del place
    end = follow(to)

    block = tuple(slice(s.start + 1, s.stop + 1) for s in own)
    in_block = _region(framed.shape, block).take(pixels)
    mine = np.flatnonzero(in_block)
    ends, basin, runs = _number(len(pixels), end.take(mine))
    inside = in_block[ends]
    leaves = np.flatnonzero(~in_block.take(to.take(mine)))
    exits = pixels[to[mine[leaves]]]
    del to, end
    summit = np.where(inside, pixels[ends], _highest_exits(flat, exits, basin[leaves], len(ends)))
    pixels = pixels.take(mine)
    first = np.zeros(len(ends), np.int64)
    # The first run of a basin is the last that is written.
    first[basin[runs[::-1]]] = pixels[runs[::-1]]
    numbers = np.zeros(framed.shape, np.int32)
    numbers.ravel()[pixels] = basin + 1
    pairs, neck = _borders(numbers, flat, pixels, basin, len(ends))
    at_edge = np.flatnonzero(_touches_others(numbers, block, origin, shape))

    def position(pixel: Ints) -> Ints:
        place = np.unravel_index(pixel, framed.shape)
        moved = tuple(p + (o - 1) for p, o in zip(place, origin, strict=True))
        return np.asarray(np.ravel_multi_index(moved, tuple(shape)), np.int64)

    return np.ascontiguousarray(numbers[block]), BasinGraph(
        summit=position(summit),
        height=flat[summit],
        inside=inside,
        size=_sizes(basin, runs, len(ends)),
        first=position(first),
        votes=np.zeros((len(ends), 0), np.int64),
        pairs=pairs,
        neck=neck,
        edge=Edge(position(at_edge), numbers.ravel()[at_edge] - 1, flat[at_edge]),
    )


def _region(shape: Sequence[int], slices: tuple[slice, ...]) -> npt.NDArray[np.bool_]:
    """Whether each flat position lies in the slices."""
    region = np.zeros(shape, bool)
    region[slices] = True
    return region.ravel()


def _beyond(height: npt.NDArray[np.int32], seen: tuple[slice, ...]) -> npt.NDArray[np.bool_]:
    """Flat, of the framed window: foreground outside of the slices."""
    beyond = np.zeros(height.shape, bool)
    for axis, s in enumerate(seen):
        to, of = np.moveaxis(beyond, axis, 0), np.moveaxis(height, axis, 0)
        for part in (slice(0, s.start), slice(s.stop, None)):
            to[part] = of[part] > 0
    return beyond.ravel()


def _number(n: int, end: Ints) -> tuple[Ints, npt.NDArray[np.int32], Ints]:
    """The different ones of the `end`s 0..n-1 in order, for each which of them it is, and where runs of one begin."""
    new = np.ones(len(end), bool)
    np.not_equal(end[1:], end[:-1], out=new[1:])
    runs = np.flatnonzero(new)
    is_end = np.zeros(n, bool)
    is_end[end[runs]] = True
    ends = np.flatnonzero(is_end)
    number = np.empty(n, np.int32)
    number[ends] = np.arange(len(ends), dtype=np.int32)
    return ends, np.repeat(number.take(end[runs]), np.diff(runs, append=len(end))), runs


def _sizes(basin: npt.NDArray[np.int32], runs: Ints, n: int) -> Ints:
    sizes = np.bincount(basin[runs], np.diff(runs, append=len(basin)), minlength=n)
    return np.asarray(sizes, np.int64)


def _highest_exits(flat: npt.NDArray[np.int32], exits: Ints, basin: npt.NDArray[np.int32], n: int) -> Ints:
    """For each of n basins the highest of its pixels outside of the block, of equal ones the first; 0 if none.

    The highest, because from there on the way leads up: if the neighbour's basin at that pixel
    leads out again, then by a pixel that is higher still. So asking on and on ends at the summit.

    exits, basin : (L,), by which pixel and of which basin each way leaves
    """
    order = np.lexsort((exits, -flat[exits], basin))[::-1]
    highest = np.zeros(n, np.int64)
    highest[basin[order]] = exits[order]
    return highest


def _touches_others(
    numbers: npt.NDArray[np.int32], block: tuple[slice, ...], origin: Sequence[int], shape: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Flat, of the framed window: the block's foreground pixels on a face that is not the image's."""
    touches = np.zeros(numbers.shape, bool)
    part, foreground = touches[block], numbers[block] > 0
    for axis, (s, low, whole) in enumerate(zip(block, origin, shape, strict=True)):
        to, of = np.moveaxis(part, axis, 0), np.moveaxis(foreground, axis, 0)
        if low + s.start - 1 > 0:
            to[0] = of[0]
        if low + s.stop - 1 < whole:
            to[-1] = of[-1]
    return touches.ravel()


def _borders(
    numbers: npt.NDArray[np.int32], height: npt.NDArray[np.int32], pixels: Ints, basin: npt.NDArray[np.int32], n: int
) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Pairs of basins 0..n-1 that share a face of a pixel, each once, with their highest border point.

    `numbers` and the flat `height` have a frame of 0: what wraps around along the flat array meets it. `pixels` are
    the flat positions that have a number, and `basin` that number less one.
    """
    flat, pairs, necks = numbers.ravel(), [], []
    own = basin + 1
    for stride in strides_of(numbers.shape):
        beside = flat[stride:].take(pixels)
        meet = np.flatnonzero((beside != own) & (beside > 0))
        one = pixels[meet]
        pairs.append(np.stack([own[meet], beside[meet]], axis=1) - 1)
        necks.append(np.minimum(height[one], height[one + stride]))
    return highest_necks(np.concatenate(pairs), np.concatenate(necks), n)


def count_votes(labels: npt.NDArray[np.int32], seen: Seen, n: int, n_classes: int) -> Ints:
    """Pixels of each class 1..n_classes in each of the basins 1..n: (n, n_classes) int64.

    `labels` and `seen` (*block); a filled hole, where `seen` is 0, has no vote.
    """
    key = labels.astype(np.int64) * (n_classes + 1) + seen
    votes = np.bincount(key.ravel(), minlength=(n + 1) * (n_classes + 1))
    return votes.reshape(n + 1, n_classes + 1)[1:, 1:]
