"""GrabCut: strokes to a whole segmentation, by colours learnt from the image itself and a minimum cut.

Source: Rother, Kolmogorov & Blake, "GrabCut: Interactive Foreground Extraction using Iterated Graph Cuts",
SIGGRAPH 2004, equations 7 to 11 and figure 3. Two Gaussian mixtures, of foreground and background, are fitted to
the pixels of either side, hard (each pixel belongs to one component); then the cut minimises

    E = sum_n D_n(alpha_n) + gamma sum_(m,n) [alpha_m != alpha_n] exp(-beta |z_m - z_n|^2) / |m - n|,

with D the negative log-likelihood, beta = 1 / (2 <|z_m - z_n|^2>), gamma = 50; and so on in turn.

Where we differ, and why:
- What is cut are small regions (a watershed of the gradient, about `REGION_PX` apart, as in Li et al., "Lazy
  Snapping", SIGGRAPH 2004), not pixels: the energy is the same, its sums taken over the pixels and pixel pairs of the
  regions, minimised among segmentations that do not split a region. A cut of single pixels by scipy takes 10 s for a
  quarter of a megapixel; OpenCV's is faster, but in two dimensions and for 8-bit RGB only.
- Strokes are fixed on either side and the first mixtures come from them, not from a box around the object.
- Any number of channels, two and three dimensions. K classes: each class is cut from the rest; pixels that no class
  claims are background, pixels that several claim stay unlabelled.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.cluster.vq import kmeans2
from skimage.segmentation import watershed

from cellscribble.core.labels import BACKGROUND, UNLABELLED
from cellscribble.segment.minimum_cut import LARGEST, cut_graph

GAMMA = 50.0
N_COMPONENTS = 5
REGION_PX = 6
SMALLEST_SIGMA = 0.01
"""Of a component, of intensities 0..1: strokes can hold pixels that are all alike."""
CAPACITY_SCALE = 64
"""Capacities of the cut are whole numbers."""
CERTAIN = LARGEST

Floats = npt.NDArray[np.float32]
Pairs = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]


def grabcut(
    image: Floats, strokes: npt.NDArray[np.integer], n_classes: int, n_rounds: int, rng: np.random.Generator
) -> npt.NDArray[np.int16]:
    """Classes of all pixels, (*spatial) int16, -1 where several classes claim one.

    Parameters
    ----------
    image : (C, *spatial) float32, normalised
    strokes : (*spatial) int, -1 unlabelled, 0..K-1; classes without strokes are not proposed
    n_rounds : how often colours and cut are improved in turn, at most
    """
    regions = _regions(image)
    pairs = _neighbours(image, regions)
    claims = np.zeros(strokes.shape, np.int16)
    labels = np.full(strokes.shape, BACKGROUND, np.int16)
    for label in range(1, n_classes):
        if (strokes == label).any():
            sides = np.where(strokes == UNLABELLED, UNLABELLED, (strokes == label).astype(np.int8))
            inside = _cut_class(image, sides, regions, pairs, n_rounds, rng)
            claims += inside
            labels[inside] = label
    labels[claims > 1] = UNLABELLED
    return np.where(strokes == UNLABELLED, labels, strokes).astype(np.int16)


def _regions(image: Floats) -> npt.NDArray[np.int64]:
    """(*spatial) number of each pixel's region, from 0."""
    steep = [ndimage.gaussian_gradient_magnitude(channel, 1.0) for channel in image]
    gradient = np.sqrt(np.sum(np.square(steep), axis=0))
    n = max(2, round(gradient.size / REGION_PX**gradient.ndim))
    return np.asarray(watershed(gradient, markers=n).astype(np.int64) - 1)  # type: ignore[no-untyped-call]


def _neighbours(image: Floats, regions: npt.NDArray[np.int64]) -> Pairs:
    """Pairs of regions that touch, and what cutting between them costs."""
    ahead = [step for step in product((-1, 0, 1), repeat=regions.ndim) if step > (0,) * regions.ndim]
    views = [_shifted(image, step) for step in ahead]
    squares = [((a - b) ** 2).sum(axis=0) for a, b in views]
    mean = sum(float(s.sum()) for s in squares) / max(1, sum(s.size for s in squares))
    beta = 1 / (2 * max(mean, 1e-12))
    ones, others, weights = [], [], []
    for step, square in zip(ahead, squares, strict=True):
        a, b = _shifted(regions, step)
        apart = a != b
        ones.append(a[apart])
        others.append(b[apart])
        weights.append(GAMMA / np.linalg.norm(step) * np.exp(-beta * square[apart].astype(np.float64)))
    return np.concatenate(ones), np.concatenate(others), np.concatenate(weights)


def _shifted(data: npt.NDArray[Any], step: tuple[int, ...]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Views of all pixels that have a neighbour one `step` on, and of these neighbours; over the last axes."""
    here = tuple(slice(max(0, -s), min(0, -s) or None) for s in step)
    there = tuple(slice(max(0, s), min(0, s) or None) for s in step)
    return data[(..., *here)], data[(..., *there)]


def _cut_class(
    image: Floats,
    sides: npt.NDArray[np.int8],
    regions: npt.NDArray[np.int64],
    pairs: Pairs,
    n_rounds: int,
    rng: np.random.Generator,
) -> npt.NDArray[np.bool_]:
    """(*spatial) whether a pixel is on side 1, given strokes of sides 0 and 1."""
    pixels = np.moveaxis(image, 0, -1).reshape(-1, len(image)).astype(np.float64)
    fixed = sides.ravel()
    if not (fixed == 0).any():
        return np.ones(sides.shape, bool)
    n_regions = int(regions.max()) + 1
    votes = np.bincount(regions.ravel(), np.where(fixed == UNLABELLED, 0, 2 * fixed - 1), n_regions)
    mixtures = [_first_mixture(pixels[fixed == side], rng) for side in (0, 1)]
    inside = np.zeros(n_regions, bool)
    for _ in range(n_rounds):
        cost = [np.stack([_cost(pixels, *part) for part in mixture]) for mixture in mixtures]
        gain = np.bincount(regions.ravel(), cost[0].min(axis=0) - cost[1].min(axis=0), n_regions)
        before, inside = inside, _cut(gain, votes, pairs)
        if (inside == before).all():
            break
        of_pixel = inside[regions.ravel()]
        mixtures = [
            _mixture(pixels[of_pixel == side], cost[side][:, of_pixel == side].argmin(axis=0)) or mixtures[side]
            for side in (0, 1)
        ]
    return np.asarray(np.where(fixed == UNLABELLED, inside[regions.ravel()], fixed == 1).reshape(sides.shape))


Component = tuple[float, npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _first_mixture(pixels: npt.NDArray[np.float64], rng: np.random.Generator) -> list[Component]:
    n = min(N_COMPONENTS, len(np.unique(pixels, axis=0)))
    _, component = kmeans2(pixels, n, minit="++", rng=rng)
    return _mixture(pixels, component)


def _mixture(pixels: npt.NDArray[np.float64], component: npt.NDArray[np.integer]) -> list[Component]:
    """Weight, mean and covariance of each component that has pixels."""
    parts: list[Component] = []
    for k in np.unique(component):
        own = pixels[component == k]
        mean = own.mean(axis=0)
        covariance = (own - mean).T @ (own - mean) / len(own) + SMALLEST_SIGMA**2 * np.eye(pixels.shape[1])
        parts.append((len(own) / len(pixels), mean, covariance))
    return parts


def _cost(
    pixels: npt.NDArray[np.float64], weight: float, mean: npt.NDArray[np.float64], covariance: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """D of equation 9: -log weight + log det / 2 + Mahalanobis distance / 2, of each pixel (N,)."""
    away = pixels - mean
    distance = np.einsum("ni,ij,nj->n", away, np.linalg.inv(covariance), away, optimize=True)
    return np.asarray(-np.log(weight) + 0.5 * np.linalg.slogdet(covariance)[1] + 0.5 * distance)


def _cut(gain: npt.NDArray[Any], votes: npt.NDArray[Any], pairs: Pairs) -> npt.NDArray[np.bool_]:
    """Which regions are inside: least sum of what their pixels lose and of what is cut between regions.

    gain : what a region gains by being inside; votes : stroked pixels for inside minus against, 0 for none
    """
    gains = np.rint(CAPACITY_SCALE * gain).clip(-CERTAIN / 4, CERTAIN / 4)
    one, other, weight = pairs
    return cut_graph(np.where(votes == 0, gains, CERTAIN * np.sign(votes)), (one, other), CAPACITY_SCALE * weight)
