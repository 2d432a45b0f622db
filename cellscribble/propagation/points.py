"""From one point an object to two sets of coarse labels: Voronoi cells, and clusters of colour and distance.

Source: Qu et al., "Weakly Supervised Deep Nuclei Segmentation using Points Annotation in Histopathology
Images", MIDL 2019, section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.cluster.vq import kmeans2, vq
from skimage.segmentation import find_boundaries

from cellscribble.core.labels import BACKGROUND, UNLABELLED

N_CLUSTERS = 3
COLOUR_SCALE = 25.5
"""8-bit colours divided by 10, of intensities 0..1: a colour's full range then counts about as much as the largest
distance, 20 px."""
MAX_PIXELS = 100_000
"""For the centres of the clusters; all pixels are then assigned."""

Labels = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Nearest:
    """Of each pixel (*spatial): its nearest point's number and class, and the distance, px of the finest axis."""

    number: npt.NDArray[np.int64]
    label: Labels
    distance_px: npt.NDArray[np.float64]


def nearest_points(
    points: Sequence[tuple[int, ...]], labels: Sequence[int], shape: tuple[int, ...], spacing: Sequence[float]
) -> Nearest:
    """What is nearest to each pixel; at least one point."""
    at = np.full(shape, -1, np.int64)
    for i, point in enumerate(points):
        at[point] = i
    distance, indices = ndimage.distance_transform_edt(at < 0, sampling=spacing, return_indices=True)
    number = at[tuple(indices)]
    return Nearest(number, np.asarray(labels, np.int16)[number], distance)


def voronoi_labels(nearest: Nearest, radius_px: float) -> Labels:
    """Background on the edges of the Voronoi cells, the point's class within `radius_px` of it, -1 elsewhere."""
    edges = find_boundaries(nearest.number, mode="thick")  # type: ignore[no-untyped-call]
    out = np.where(edges, BACKGROUND, UNLABELLED).astype(np.int16)
    inside = nearest.distance_px <= radius_px
    out[inside] = nearest.label[inside]
    return out


def cluster_labels(
    image: npt.NDArray[np.float32], nearest: Nearest, radius_px: float, reach_px: float, rng: np.random.Generator
) -> Labels:
    """Three k-means clusters of colour and distance to the nearest point, as labels.

    The cluster that holds most of the surroundings of the points is cells, each pixel of the class of its nearest
    point; the one that holds least of them is background; what lies between is -1.

    Parameters
    ----------
    image : (C, *spatial) float32, normalised
    radius_px : the surroundings of a point
    reach_px : larger distances count as this one
    """
    features = [np.minimum(nearest.distance_px, reach_px).ravel(), *(COLOUR_SCALE * image.reshape(len(image), -1))]
    pixels = np.stack(features, axis=1).astype(np.float64)
    step = max(1, len(pixels) // MAX_PIXELS)
    centres, _ = kmeans2(pixels[::step], N_CLUSTERS, minit="++", rng=rng)
    cluster = vq(pixels, centres)[0].reshape(nearest.distance_px.shape)
    near = np.bincount(cluster[nearest.distance_px <= radius_px], minlength=N_CLUSTERS)
    # Of clusters that hold none of the surroundings the one that lies furthest from the points is background.
    least = np.lexsort((-centres[:, 0], near))[0]
    out = np.full(cluster.shape, UNLABELLED, np.int16)
    out[cluster == least] = BACKGROUND
    cells = cluster == near.argmax()
    out[cells] = nearest.label[cells]
    return out
