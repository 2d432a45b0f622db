"""Probability -> objects: a watershed whose settings are lengths and areas in pixels.

Every step looks only a known way around itself (`halo_px`), so that an image may be cut into blocks
of any size: the objects are those of the whole image, which is one block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cellscribble.core.blocks import Slices, relative
from cellscribble.core.errors import InputError
from cellscribble.core.labels import label_dtype
from cellscribble.core.runs import Runs
from cellscribble.segment.basins import RIM_PX, Seen, count_votes, find_basins
from cellscribble.segment.graph import BasinGraph
from cellscribble.segment.height import height_map, top_level
from cellscribble.segment.holes import fill_small_holes
from cellscribble.segment.joining import JoinRule
from cellscribble.segment.parameters import InstanceParameters, spacing_of
from cellscribble.segment.settle import Keep, close_objects

QUANTUM = 1024
"""Probability is rounded to 1/1024 before any decision, see `foreground`."""


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
    basins, graph = cut_block(mask, whole, whole, mask.shape, settings)
    closed = close_objects(graph, *rules(settings, mask.shape))
    return basins.through(closed.numbers.astype(label_dtype(closed.n_closed))).array()


def rules(settings: InstanceParameters, shape: Sequence[int]) -> tuple[JoinRule, Keep]:
    """What `close_objects` asks for, for an image of `shape`."""
    spacing = spacing_of(settings, len(shape))
    rule = JoinRule(settings.neck_ratio, settings.seed_distance_px, spacing, tuple(shape))
    return rule, Keep(settings.smallest_object_px, top_level(settings.largest_radius_px))


def cut_block(
    seen: Seen,
    window: Slices,
    block: Slices,
    shape: Sequence[int],
    settings: InstanceParameters,
    n_classes: int = 0,
) -> tuple[Runs, BasinGraph]:
    """The basins of one block of an image of `shape`.

    Parameters
    ----------
    seen : (*window) bool, the foreground as `foreground` gives it, or uint8: 0 background, 1..n_classes
        the class that the pixel favours
    window : what of the image `seen` is: the block and `halo_px` on every side, clipped at the image
    block : the block in the image
    n_classes : foreground classes; their pixels are counted if there are several

    Returns
    -------
    labels : (*block) of uint16 or uint32, 0 background, 1..N
    graph : the N basins; votes (N, n_classes), or (N, 0) with less than two classes
    """
    filled, hole_px = seen > 0, int(settings.largest_hole_px)
    if settings.plane_holes and seen.ndim == 3:
        filled = np.stack([fill_small_holes(plane, hole_px) for plane in filled])
    else:
        filled = fill_small_holes(filled, hole_px)
    spacing = spacing_of(settings, seen.ndim)
    # Further out heights would be those of the window, no longer those of the image.
    around = [slice(max(b.start - RIM_PX, 0), min(b.stop + RIM_PX, n)) for b, n in zip(block, shape, strict=True)]
    kept = relative(around, window)
    height = height_map(filled, settings.smoothing_px, settings.largest_radius_px, spacing, kept, frame_px=1)
    labels, graph = find_basins(height, relative(block, around), [s.start for s in around], shape)
    if n_classes > 1:
        graph = replace(graph, votes=count_votes(labels, seen[relative(block, window)], graph.n, n_classes))
    return labels, graph


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
    steps_of_probability = 1.0 - probability[0]
    steps_of_probability *= QUANTUM
    np.rint(steps_of_probability, out=steps_of_probability)
    return np.asarray(steps_of_probability > settings.threshold * QUANTUM)


def object_classes(
    labels: npt.NDArray[np.integer[Any]], probability: npt.NDArray[np.floating[Any]], parameters: Mapping[str, Any]
) -> npt.NDArray[np.int64]:
    """The class of each object: the one that most of its foreground pixels favour; a filled hole has no say.

    Parameters
    ----------
    labels : (*spatial) int, 0 background, 1..N
    probability : (K, *spatial) float, background first
    parameters : an `InstanceParameters` as a mapping, that of the labels

    Returns
    -------
    (N,) int64 : 1..K-1; of classes with equal votes the first
    """
    n, n_classes = int(labels.max(initial=0)), probability.shape[0] - 1
    inside = (labels > 0) & foreground(probability, InstanceParameters.from_dict(parameters))
    favourite = np.argmax(probability[1:, inside], axis=0)
    votes = np.bincount((labels[inside].astype(np.int64) - 1) * n_classes + favourite, minlength=n * n_classes)
    return np.asarray(np.argmax(votes.reshape(n, n_classes), axis=1) + 1) if n else np.zeros(0, np.int64)
