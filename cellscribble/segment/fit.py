"""Settings of the instance segmenter chosen by the training strokes alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from cellscribble.core.errors import InputError
from cellscribble.core.progress import Done, unheard
from cellscribble.segment.evidence import Strokes, drawn_holes, find_strokes, judge
from cellscribble.segment.holes import fill_small_holes
from cellscribble.segment.instances import cut_block, foreground, rules
from cellscribble.segment.parameters import InstanceParameters, spacing_of
from cellscribble.segment.settle import close_objects

SEED_DISTANCE_RADII = 0.65
SMOOTHING_RADII = 0.15
NECK_RATIO = 0.85
"""The default, in units of the objects' inscribed radius: best over nuclei of fluorescence, histology
and H&E when used without any fit. Two centres nearer than 0.65 radii share most of their area."""

CANDIDATE_SMOOTHING_RADII = (0.05, 0.15, 0.3)
CANDIDATE_NECK_RATIOS = (0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
N_TRIES = len(CANDIDATE_SMOOTHING_RADII)
"""Times that an image is cut into objects; of one smoothing all necks are tried at once."""

MIN_PAIRS = 5
UNSEEN_MERGERS = 0.25
"""With fewer pairs at risk only splits are seen, and the best advice would be never to cut. Then the
default must split this share of the strokes needlessly before fewer cuts are believed."""

SMALLEST_SHARE = 0.3
"""Share of the 10th percentile of the drawn objects' areas below which an object is debris; in a volume
to the power 3/2."""

HOLE_SHARE = 0.12
"""The same for holes; smaller, as gaps between cells that touch all round are no holes."""

HOLE_ERRORS = 2.0
"""Standard errors by which strokes of cells must outnumber those of background in larger holes, to fill these too."""

LARGEST_RADII = 4.0
LARGEST_DRAWN = 2.0
LARGEST_RADIUS_PX = (16.0, 256.0)
"""The shape of a cell is seen up to this many typical radii, or so many times the radius of a large drawn
cell (95th percentile: the largest may be a prediction gone wrong), within these bounds. Cells beyond
it stay whole; more would make blocks look further for nothing."""


@dataclass(slots=True)
class _Tally:
    """Evidence for one candidate over all images."""

    split: list[npt.NDArray[np.bool_]]
    merged: list[npt.NDArray[np.bool_]]
    sizes: list[npt.NDArray[np.int64]]


def default_parameters(
    radius_px: float, *, threshold: float = 0.5, spacing: tuple[float, ...] | None = None
) -> InstanceParameters:
    """The settings for objects whose inscribed radius is about `radius_px`, before any fit."""
    # An area also in 3D, where it is less than a volume: the careful side, nothing real is dropped.
    small_cell = radius_px**2 * np.pi / 2
    return InstanceParameters(
        threshold=threshold,
        seed_distance_px=SEED_DISTANCE_RADII * radius_px,
        smoothing_px=SMOOTHING_RADII * radius_px,
        neck_ratio=NECK_RATIO,
        smallest_object_px=max(1, round(SMALLEST_SHARE * small_cell)),
        largest_hole_px=max(1, round(HOLE_SHARE * small_cell)),
        largest_radius_px=_radius_seen(LARGEST_RADII * radius_px),
        spacing=spacing,
    )


def fit_instance_parameters(
    probabilities: Sequence[npt.NDArray[np.floating[Any]]],
    scribbles: Sequence[npt.NDArray[np.integer[Any]]],
    *,
    threshold: float = 0.5,
    spacing: tuple[float, ...] | None = None,
    done: Done = unheard,
) -> tuple[InstanceParameters, dict[str, Any]]:
    """Choose the settings under which the strokes are split and merged least.

    Parameters
    ----------
    probabilities : (K, *spatial) float each, background first, of the training images
    scribbles : (*spatial) int each; -1 unlabelled, 0 background, 1.. classes
    threshold : foreground is 1 - p(background) above this
    spacing : relative size of a pixel on each axis; None for square pixels
    done : told after each of `N_TRIES` of an image

    Returns
    -------
    parameters : InstanceParameters
    report : dict of plain values: what was seen, for the default and for the choice, and why

    Raises
    ------
    InputError
        If the lists differ in length, or a probability and its strokes in shape.

    Notes
    -----
    A split shows on every stroke, a merger only where two neighbours were both drawn. Counts would
    therefore always advise fewer cuts, so rates are compared::

        cost = P(split | stroke) + m * P(merged | neighbours both drawn),   m = sum (n_c - 1) / sum n_c

    each estimated with one success and one failure added (Laplace). m is the number of joints that
    could go wrong per object: a connected part c of n_c objects has n_c - 1, with n_c its area over
    that of the typical object under the default, and at least its number of strokes.

    A candidate replaces the default only if its cost is lower by more than two standard errors of
    the paired difference (McNemar; two, as the best of 21 is taken): without evidence the default
    stays.

    A hole is filled up to a share of a small cell's area, and beyond where the strokes say so: a stroke of a cell
    that runs over a hole (vesicles and mitochondria inside of neurites) speaks for it, one of background in a hole
    (a gap between cells all round) against. Otherwise each such hole would cut its cell.
    """
    if len(probabilities) != len(scribbles):
        raise InputError(f"{len(probabilities)} probabilities but {len(scribbles)} scribble images; give one each")
    start = InstanceParameters(threshold=threshold, largest_hole_px=0, spacing=spacing)
    masks = [_mask(p, s, start) for p, s in zip(probabilities, scribbles, strict=True)]
    pictures, depth = _pictures(masks, scribbles, start)
    if not len(depth):
        parameters = InstanceParameters(threshold=threshold, spacing=spacing)
        return parameters, {
            "choice": "default",
            "reason": "no stroke lies on the predicted foreground",
            "n_strokes": 0,
        }
    default = _default(depth, start)
    hole_px = _drawn_hole_px(masks, scribbles, default)
    if hole_px:
        # How deep the cells are shows behind the holes in them.
        pictures, depth = _pictures([fill_small_holes(mask, hole_px) for mask in masks], scribbles, start)
        default = _default(depth, start)
    radius = float(np.median(depth))
    tallies = _collect(pictures, default, radius, done)
    joints = _joints_per_object(pictures, tallies[default].sizes)
    parameters, report = _choose(tallies, default, joints)
    report |= {"object_radius_px": radius, "drawn_hole_px": hole_px}
    parameters = _with_sizes(parameters, tallies[parameters], scribbles[0].ndim)
    return replace(parameters, largest_hole_px=max(parameters.largest_hole_px, hole_px)), report


def _default(depth: npt.NDArray[np.float64], start: InstanceParameters) -> InstanceParameters:
    """Before any fit, for strokes on cells so deep."""
    default = default_parameters(float(np.median(depth)), threshold=start.threshold, spacing=start.spacing)
    drawn = _radius_seen(LARGEST_DRAWN * float(np.percentile(depth, 95)))
    return replace(default, largest_radius_px=max(default.largest_radius_px, drawn))


def _drawn_hole_px(
    masks: Sequence[npt.NDArray[np.bool_]],
    scribbles: Sequence[npt.NDArray[np.integer[Any]]],
    default: InstanceParameters,
) -> int:
    """Up to which size, in pixels, strokes show that holes belong to cells; 0 if no further than the default.

    No wider than the largest cell whose shape is seen, which blocks must look around themselves for anyway.
    """
    holes = np.concatenate([drawn_holes(s, mask) for s, mask in zip(scribbles, masks, strict=True)])
    holes = holes[np.argsort(holes[:, 0], kind="stable")]
    most_px = int(default.largest_radius_px ** masks[0].ndim)
    holes = holes[(holes[:, 0] > default.largest_hole_px) & (holes[:, 0] <= most_px)]
    lead, n = np.cumsum(holes[:, 1]), np.arange(1, len(holes) + 1)
    if not len(holes) or lead.max() < HOLE_ERRORS * math.sqrt(n[lead.argmax()]):
        return 0
    return int(holes[lead.argmax(), 0])


def _radius_seen(radius_px: float) -> float:
    # A whole number: distances are then found in whole numbers.
    return float(np.clip(math.ceil(radius_px), *LARGEST_RADIUS_PX))


def _mask(
    probability: npt.NDArray[np.floating[Any]], scribbles: npt.NDArray[np.integer[Any]], start: InstanceParameters
) -> npt.NDArray[np.bool_]:
    if probability.shape[1:] != scribbles.shape:
        raise InputError(
            f"probability is {probability.shape} but its scribbles are {scribbles.shape}; "
            "expected (K, *spatial) and (*spatial) of the same image"
        )
    return foreground(probability, start)


def _pictures(
    masks: Sequence[npt.NDArray[np.bool_]],
    scribbles: Sequence[npt.NDArray[np.integer[Any]]],
    start: InstanceParameters,
) -> tuple[list[tuple[npt.NDArray[np.bool_], Strokes]], npt.NDArray[np.float64]]:
    """Each mask with its strokes, and the depth of the cell under each stroke of all."""
    pictures = [(m, find_strokes(s, m, spacing_of(start, m.ndim))) for m, s in zip(masks, scribbles, strict=True)]
    return pictures, np.concatenate([strokes.depth for _, strokes in pictures]) if pictures else np.zeros(0)


def _collect(
    pictures: list[tuple[npt.NDArray[np.bool_], Strokes]], default: InstanceParameters, radius: float, done: Done
) -> dict[InstanceParameters, _Tally]:
    grid = [
        [replace(default, smoothing_px=smoothing * radius, neck_ratio=neck) for neck in CANDIDATE_NECK_RATIOS]
        for smoothing in CANDIDATE_SMOOTHING_RADII
    ]
    tallies = {candidate: _Tally([], [], []) for candidate in itertools.chain(*grid)}
    for whole, strokes in pictures:
        if not strokes.n:
            done(N_TRIES)
            continue
        filled = fill_small_holes(whole, int(default.largest_hole_px))
        parts, n_parts = ndimage.label(filled)
        # Parts without a stroke say nothing; most of an image is spared where few cells are drawn.
        drawn = np.zeros(n_parts + 1, bool)
        drawn[parts[strokes.position]] = True
        drawn[0] = False
        mask = drawn[parts]
        window = tuple(slice(0, n) for n in mask.shape)
        for row in grid:
            basins, graph = cut_block(mask, window, window, mask.shape, row[0])
            for candidate in row:
                rule, keep = rules(candidate, mask.shape)
                # Nothing is dropped yet: what is small is learnt from the sizes found here.
                closed = close_objects(graph, rule, replace(keep, smallest_px=1))
                labels = basins.through(closed.numbers).array()
                split, merged, objects = judge(strokes, labels)
                sizes = np.bincount(labels.ravel())[objects[(objects > 0) & ~split]]
                tally = tallies[candidate]
                tally.split.append(split)
                tally.merged.append(merged)
                tally.sizes.append(sizes)
            done(1)
    return tallies


def _joints_per_object(
    pictures: list[tuple[npt.NDArray[np.bool_], Strokes]], sizes: list[npt.NDArray[np.int64]]
) -> float:
    all_sizes = np.concatenate(sizes)
    if not len(all_sizes):
        return 1.0
    typical = float(np.median(all_sizes))
    n_objects, n_parts = 0.0, 0
    for mask, strokes in pictures:
        drawn, n_strokes = np.unique(strokes.parts, return_counts=True)
        areas = np.bincount(ndimage.label(mask)[0].ravel())[drawn]
        # A default that merges all has merged objects as the typical ones; strokes cannot be fooled.
        n_objects += float(np.maximum(n_strokes, areas / typical).sum())
        n_parts += len(drawn)
    return (n_objects - n_parts) / n_objects


def _choose(
    tallies: dict[InstanceParameters, _Tally], default: InstanceParameters, joints: float
) -> tuple[InstanceParameters, dict[str, Any]]:
    split = {c: np.concatenate(t.split) for c, t in tallies.items()}
    merged = {c: np.concatenate(t.merged) for c, t in tallies.items()}
    n_strokes, n_pairs = len(split[default]), len(merged[default])

    def cost(candidate: InstanceParameters) -> float:
        return _laplace(split[candidate]) + joints * _laplace(merged[candidate])

    # Of equal costs the one nearest to the default.
    best = min(tallies, key=lambda c: (cost(c), abs(c.neck_ratio - default.neck_ratio), c != default))
    turned_split = int((split[best] != split[default]).sum())
    turned_merged = int((merged[best] != merged[default]).sum())
    error = np.sqrt(turned_split / (n_strokes + 2) ** 2 + turned_merged * (joints / (n_pairs + 2)) ** 2)
    gain = cost(default) - cost(best)
    needed = 2 * error + (UNSEEN_MERGERS if n_pairs < MIN_PAIRS else 0.0)
    if gain > needed:
        chosen, reason = best, "fewer split and merged strokes than the default"
    elif n_pairs < MIN_PAIRS:
        chosen, reason = default, f"only {n_pairs} pairs of neighbouring cells are both drawn"
    else:
        chosen, reason = default, "no candidate is better by more than two standard errors"
    return chosen, {
        "choice": "default" if chosen == default else "fitted",
        "reason": reason,
        "n_strokes": n_strokes,
        "n_pairs": n_pairs,
        "joints_per_object": joints,
        "n_split": int(split[chosen].sum()),
        "n_merged": int(merged[chosen].sum()),
        "default_n_split": int(split[default].sum()),
        "default_n_merged": int(merged[default].sum()),
        "gain": float(gain),
        "standard_error": float(error),
    }


def _laplace(events: npt.NDArray[np.bool_]) -> float:
    return (int(events.sum()) + 1) / (len(events) + 2)


def _with_sizes(parameters: InstanceParameters, tally: _Tally, ndim: int) -> InstanceParameters:
    sizes = np.concatenate(tally.sizes)
    if not len(sizes):
        return parameters
    small_cell = float(np.percentile(sizes, 10))
    # The same ratio of lengths in 3D as in 2D.
    power = ndim / 2
    return replace(
        parameters,
        smallest_object_px=max(1, round(SMALLEST_SHARE**power * small_cell)),
        largest_hole_px=max(1, round(HOLE_SHARE**power * small_cell)),
    )
