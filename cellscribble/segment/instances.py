"""Probability -> objects: a watershed whose settings are lengths and areas in pixels.

Every step looks only a known way around itself (`halo_px`), so that an image may be cut into blocks
of any size: the objects are those of the whole image, which is one block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import plan_blocks
from cellscribble.core.errors import InputError
from cellscribble.core.labels import label_dtype
from cellscribble.segment.basins import RIM_PX, Basins, find_basins
from cellscribble.segment.height import height_map, top_level
from cellscribble.segment.holes import fill_small_holes
from cellscribble.segment.joining import JoinRule
from cellscribble.segment.parameters import InstanceParameters, halo_px, spacing_of
from cellscribble.segment.settle import Keep, close_objects
from cellscribble.segment.stitch import Stitch, Stitched

QUANTUM = 1024
"""Probability is rounded to 1/1024 before any decision, see `foreground`."""

Slices = tuple[slice, ...]


def segment_instances(
    probability: npt.NDArray[np.floating[Any]], parameters: Mapping[str, Any]
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Separate the foreground into objects.

    Parameters
    ----------
    probability : (K, *spatial) float, background first, sums to 1 over K
    parameters : an `InstanceParameters` as a mapping

    Returns
    -------
    (*spatial) uint16 (uint32 above 65,535 objects) : 0 background, objects 1..N in raster order of
    their first pixel, so that equal masks give equal files.

    Raises
    ------
    InputError
        If there is no foreground channel, or the spacing has another length than the space.

    Notes
    -----
    Classes are not kept apart here: two cells of different class that touch are separated by shape
    alone. `object_classes` names each object's class afterwards.

    Source: the distance-transform watershed of L. Vincent and P. Soille, "Watersheds in digital
    spaces", IEEE TPAMI 13, 1991, by steepest ascent (see `basins`). We choose summits by distance
    and relative dynamics.
    """
    settings = InstanceParameters.from_dict(parameters)
    return segment_mask(foreground(probability, settings), settings)


def segment_mask(mask: npt.NDArray[np.bool_], settings: InstanceParameters) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Separate a foreground mask (*spatial) bool into objects, as `segment_instances` does."""
    whole = tuple(slice(0, n) for n in mask.shape)
    basins = cut_block(mask, whole, whole, mask.shape, settings)
    numbers, found = close_objects(basins, *rules(settings, mask.shape))
    numbered: npt.NDArray[Any] = numbers.astype(label_dtype(found.n_closed))[basins.labels]
    return numbered


def segment_blocks(
    read: Callable[[Slices], npt.NDArray[np.bool_]],
    shape: Sequence[int],
    settings: InstanceParameters,
    block_px: Sequence[int],
    order: Iterable[int] | None = None,
) -> tuple[npt.NDArray[np.unsignedinteger[Any]], Stitched]:
    """Separate a mask into objects block by block: those of `segment_mask` in another numbering.

    Parameters
    ----------
    read : gives the foreground (*window) bool in a window of the image
    shape : of the image
    block_px : size of a block, px
    order : in which the blocks are worked on, numbers in raster order; no order changes the answer

    Returns
    -------
    labels : (*spatial) uint16 or uint32
    stitched : the objects
    """
    rule, keep = rules(settings, shape)
    stitch = Stitch(block_px, rule, keep)
    blocks = list(plan_blocks(shape, block_px, halo_px(settings, len(shape)), (1,) * len(shape)))
    numbered = {}
    for k in range(len(blocks)) if order is None else order:
        block = blocks[k]
        place = tuple(s.start // b for s, b in zip(block.write, block_px, strict=True))
        basins = cut_block(read(block.read), block.read, block.write, shape, settings)
        numbers, found = close_objects(basins, rule, keep)
        stitch.add(place, found)
        numbered[place] = (block.write, numbers[basins.labels])
    stitched = stitch.finish()
    labels = np.zeros(tuple(shape), label_dtype(stitched.n_objects))
    for place, (write, numbers) in numbered.items():
        labels[write] = stitched.tables[place][numbers]
    return labels, stitched


def rules(settings: InstanceParameters, shape: Sequence[int]) -> tuple[JoinRule, Keep]:
    """What `close_objects` and `Stitch` ask for, for an image of `shape`."""
    spacing = spacing_of(settings, len(shape))
    rule = JoinRule(settings.neck_ratio, settings.seed_distance_px, spacing, tuple(shape))
    return rule, Keep(settings.smallest_object_px, top_level(settings.largest_radius_px))


def cut_block(
    mask: npt.NDArray[np.bool_], window: Slices, block: Slices, shape: Sequence[int], settings: InstanceParameters
) -> Basins:
    """The basins of one block of an image of `shape`.

    Parameters
    ----------
    mask : (*window) bool, the foreground as `foreground` gives it
    window : what of the image `mask` is: the block and `halo_px` on every side, clipped at the image
    block : the block in the image
    """
    filled = fill_small_holes(mask, int(settings.largest_hole_px))
    spacing = spacing_of(settings, mask.ndim)
    height = height_map(filled, settings.smoothing_px, settings.largest_radius_px, spacing)
    # Further out heights are those of the window, no longer those of the image.
    seen = [slice(max(b.start - RIM_PX, 0), min(b.stop + RIM_PX, n)) for b, n in zip(block, shape, strict=True)]
    height = height[tuple(slice(s.start - w.start, s.stop - w.start) for s, w in zip(seen, window, strict=True))]
    own = tuple(slice(b.start - s.start, b.stop - s.start) for b, s in zip(block, seen, strict=True))
    return find_basins(height, own, [s.start for s in seen], shape)


def foreground(probability: npt.NDArray[np.floating[Any]], settings: InstanceParameters) -> npt.NDArray[np.bool_]:
    """The mask that is cut into objects: above the threshold; holes are still open.

    Blocks of another size change a probability by about 1e-6. No rounding can make a threshold
    blind to that everywhere, but it can move the edge away from where values pile up: after
    rounding to 1/1024 the edge lies half a step above the threshold, so that the many pixels at
    exactly 0.5 (a network that knows nothing, symmetric logits) fall on one side for certain. Only
    a pixel within 1e-6 of that edge can still flip. Everything after the mask is made of whole
    numbers or of the mask itself and adds no noise.
    """
    if probability.ndim < 2 or probability.shape[0] < 2:
        raise InputError(
            f"probability has shape {probability.shape}; expected (K, *spatial) with background "
            "first and at least one class"
        )
    steps_of_probability = np.rint((1.0 - probability[0]) * QUANTUM)
    return np.asarray(steps_of_probability > settings.threshold * QUANTUM)


def object_classes(
    labels: npt.NDArray[np.integer[Any]], probability: npt.NDArray[np.floating[Any]]
) -> npt.NDArray[np.int64]:
    """The class of each object: the foreground class that most of its pixels favour.

    Parameters
    ----------
    labels : (*spatial) int, 0 background, 1..N
    probability : (K, *spatial) float, background first

    Returns
    -------
    (N,) int64 : 1..K-1; of classes with equal votes the first
    """
    n, n_classes = int(labels.max(initial=0)), probability.shape[0] - 1
    inside = labels > 0
    favourite = np.argmax(probability[1:, inside], axis=0)
    votes = np.bincount((labels[inside].astype(np.int64) - 1) * n_classes + favourite, minlength=n * n_classes)
    return np.asarray(np.argmax(votes.reshape(n, n_classes), axis=1) + 1) if n else np.zeros(0, np.int64)
