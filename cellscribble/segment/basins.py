"""One block's basins: each foreground pixel joined to the summit that steepest ascent leads to.

A way uphill depends on the heights along it alone, not on who walks it. A block follows the ways of
its own pixels as far as it sees. Those that lead out are named after the pixel by which they leave;
`glue` asks the neighbour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.labels import label_dtype
from cellscribble.core.runs import Runs
from cellscribble.segment.ascent import Ints, follow, strides_of, uphill
from cellscribble.segment.graph import BasinGraph, Edge, highest_necks
from cellscribble.segment.height import Heights

Seen = npt.NDArray[np.bool_ | np.uint8]
"""What was seen of an image (*spatial): foreground or not; or 0 background and 1.. the class that a pixel favours."""

RIM_PX = 8
"""A block sees this far into its neighbours: ways that leave it soon run together, and what runs
together needs one name only. Any number from 1 gives the same objects."""


def find_basins(
    height: Heights, own: tuple[slice, ...], origin: Sequence[int], shape: Sequence[int]
) -> tuple[Runs, BasinGraph]:
    """Follow each pixel of a block uphill.

    Parameters
    ----------
    height : (*window + 2) int32 or uint16, 0 outside of the mask; the block and at least one pixel more on every
        side that is not the image's border, in a frame of background a pixel wide, so that no step leaves the array
    own : the block in the window
    origin : where the window begins in the image
    shape : of the image

    Returns
    -------
    labels : (*block) of uint16 or uint32, 0 background, 1..N
    graph : the N basins, without votes (V = 0)
    """
    flat, mask = height.ravel(), height > 0
    pixels = np.flatnonzero(mask)
    place = np.empty(flat.size, np.int32)
    place[pixels] = np.arange(len(pixels), dtype=np.int32)
    to = place.take(uphill(flat, height.shape, pixels)).astype(np.int64)
    # The outermost pixels of the window do not see all that is around them: there the view ends.
    window = tuple(slice(1, n - 1) for n in height.shape)
    unseen = place.take(_at_faces(mask, window, origin, shape))
    to[unseen] = unseen
    end = follow(to)

    block = tuple(slice(s.start + 1, s.stop + 1) for s in own)
    in_block = _region(height.shape, block).take(pixels)
    mine = np.flatnonzero(in_block)
    ends, basin, runs = _number(len(pixels), end.take(mine))
    inside = in_block[ends]
    numbers = np.zeros(height.shape, label_dtype(len(ends)))
    flat_numbers, own_pixels = numbers.ravel(), pixels.take(mine)
    flat_numbers[own_pixels] = own_number = (basin + 1).astype(numbers.dtype)

    starts = tuple(o + s.start for o, s in zip(origin, own, strict=True))
    at_edge = np.unique(_at_faces(mask, block, starts, shape))
    # A way leaves by one step, from a face.
    next_one = to[place[at_edge]]
    leaves = ~in_block[next_one]
    exits, edge_basin = pixels[next_one[leaves]], flat_numbers[at_edge].astype(np.int32) - 1
    summit = np.where(inside, pixels[ends], _highest_exits(flat, exits, edge_basin[leaves], len(ends)))
    first = np.zeros(len(ends), np.int64)
    # The first run of a basin is the last that is written.
    first[basin[runs[::-1]]] = own_pixels[runs[::-1]]
    pairs, neck = _borders(numbers, flat, own_pixels, own_number, runs, len(ends))

    def position(pixel: Ints) -> Ints:
        place = np.unravel_index(pixel, height.shape)
        moved = tuple(p + (o - 1) for p, o in zip(place, origin, strict=True))
        return np.asarray(np.ravel_multi_index(moved, tuple(shape)), np.int64)

    return _as_runs(own_pixels, own_number, runs, numbers.shape, block), BasinGraph(
        summit=position(summit),
        height=flat[summit].astype(np.int32),
        inside=inside,
        size=_sizes(basin, runs, len(ends)),
        first=position(first),
        votes=np.zeros((len(ends), 0), np.int64),
        pairs=pairs,
        neck=neck,
        edge=Edge(position(at_edge), edge_basin, flat[at_edge].astype(np.int32)),
    )


def _as_runs(
    pixels: Ints,
    number: npt.NDArray[np.unsignedinteger[Any]],
    runs: Ints,
    shape: Sequence[int],
    block: tuple[slice, ...],
) -> Runs:
    """The block's pixels, flat positions in an array of `shape`, with their numbers.

    runs : where among the pixels another number begins
    """
    # There, and behind pixels of the background.
    begins = np.diff(pixels, prepend=-1) != 1
    begins[runs] = True
    first = np.flatnonzero(begins)
    place = np.unravel_index(pixels[first], shape)
    sizes = [s.stop - s.start for s in block]
    starts = np.ravel_multi_index([p - s.start for p, s in zip(place, block, strict=True)], sizes)
    return Runs.amid_zeros(starts, np.diff(first, append=len(pixels)), number[first], sizes)


def _region(shape: Sequence[int], slices: tuple[slice, ...]) -> npt.NDArray[np.bool_]:
    """Whether each flat position lies in the slices."""
    region = np.zeros(shape, bool)
    region[slices] = True
    return region.ravel()


def _at_faces(
    mask: npt.NDArray[np.bool_], part: tuple[slice, ...], starts: Sequence[int], shape: Sequence[int]
) -> Ints:
    """Flat positions in the mask of its pixels on a face of `part` that is not the image's; some may come twice.

    starts : where the part begins in the image of `shape`
    """
    found = [np.zeros(0, np.int64)]
    for axis, (s, start, whole) in enumerate(zip(part, starts, shape, strict=True)):
        sees_on = ((s.start, start > 0), (s.stop - 1, start + s.stop - s.start < whole))
        for line in (line for line, beyond in sees_on if beyond):
            box = (*part[:axis], slice(line, line + 1), *part[axis + 1 :])
            place = np.nonzero(mask[box])
            found.append(np.ravel_multi_index([p + b.start for p, b in zip(place, box, strict=True)], mask.shape))
    return np.concatenate(found)


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


def _highest_exits(flat: Heights, exits: Ints, basin: npt.NDArray[np.int32], n: int) -> Ints:
    """For each of n basins the highest of its pixels outside of the block, of equal ones the first; 0 if none.

    The highest, because from there on the way leads up: if the neighbour's basin at that pixel
    leads out again, then by a pixel that is higher still. So asking on and on ends at the summit.

    exits, basin : (L,), by which pixel and of which basin each way leaves
    """
    order = np.lexsort((exits, -flat[exits].astype(np.int32), basin))[::-1]
    highest = np.zeros(n, np.int64)
    highest[basin[order]] = exits[order]
    return highest


def _borders(
    numbers: npt.NDArray[np.unsignedinteger[Any]],
    height: Heights,
    pixels: Ints,
    own: npt.NDArray[np.unsignedinteger[Any]],
    runs: Ints,
    n: int,
) -> tuple[Ints, npt.NDArray[np.int32]]:
    """Pairs of basins 0..n-1 that share a face of a pixel, each once, with their highest border point.

    `numbers` and the flat `height` have a frame of 0: what wraps around along the flat array meets it. `pixels` are
    the flat positions that have a number, `own` that number, and `runs` where among them another one begins.
    """
    flat, pairs, necks = numbers.ravel(), [], []
    for stride in strides_of(numbers.shape):
        if stride == 1:
            meet = runs[1:] - 1
            meet = meet[pixels[meet + 1] - pixels[meet] == 1]
            beside = own[meet + 1]
        else:
            beside = flat[stride:].take(pixels)
            meet = np.flatnonzero((beside != own) & (beside > 0))
            beside = beside[meet]
        one = pixels[meet]
        pairs.append(np.stack([own[meet], beside], axis=1).astype(np.int64) - 1)
        necks.append(np.minimum(height[one], height[one + stride]).astype(np.int32))
    return highest_necks(np.concatenate(pairs), np.concatenate(necks), n)


def count_votes(labels: Runs, seen: Seen, n: int, n_classes: int) -> Ints:
    """Pixels of each class 1..n_classes in each of the basins 1..n: (n, n_classes) int64.

    `labels` and `seen` (*block); a filled hole, where `seen` is 0, has no vote.
    """
    key = labels.array().astype(np.int64) * (n_classes + 1) + seen
    votes = np.bincount(key.ravel(), minlength=(n + 1) * (n_classes + 1))
    return votes.reshape(n + 1, n_classes + 1)[1:, 1:]
