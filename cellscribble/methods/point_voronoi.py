"""Points alone: each stroke of a cell shrinks to its middle; Voronoi cells and colour clusters give the labels.

Source: Qu et al., "Weakly Supervised Deep Nuclei Segmentation using Points Annotation in Histopathology Images",
MIDL 2019, sections 2.1 and 2.2:

    L = CE(Voronoi labels) + CE(cluster labels),

made once, before training (`propagation.points`). Voronoi: the edges of the points' Voronoi cells are background,
what is within a small radius of a point is cell. Clusters: k-means with three clusters of (distance to the nearest
point, cut off; colour): cells, background, and one that is ignored.

The labels assume a point on every object: an edge runs between two points also where it crosses a cell that has
none, and the cluster of colours calls such a cell what it looks like. Where a part of the cells is stroked, other
methods know more.

Where we differ, and why:
- Points are the middles of strokes, so that it can be compared on the same strokes; strokes of background, which
  the paper does not have, are a third term. Strokes of cells count as points only.
- An image without a stroke on a cell gives its strokes of background alone.
- K classes: a cell has the class of its nearest point. In volumes distances follow the voxel size.
- The last step of the paper, refinement with the dense CRF loss, is left out: `regularized` is that loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cellscribble.core.labels import BACKGROUND, UNLABELLED
from cellscribble.core.progress import Done, unheard
from cellscribble.data.batch import Batch
from cellscribble.data.label_maps import from_maps, labels_of, to_maps
from cellscribble.data.samples import Sample, find_strokes, middle_pixel
from cellscribble.losses.cross_entropy import partial_cross_entropy
from cellscribble.methods.base import Method, MethodConfig, Progress
from cellscribble.propagation.points import cluster_labels, nearest_points, voronoi_labels

VORONOI, CLUSTERS = "voronoi", "clusters"


@dataclass(frozen=True)
class PointVoronoiConfig(MethodConfig):
    """Radius of a point, and the distance beyond which all pixels count as equally far; px of the finest axis."""

    point_radius_px: float = 2.0
    reach_px: float = 20.0

    def __post_init__(self) -> None:
        self._check("point_radius_px", self.point_radius_px >= 0, "0 px (the point alone) or more")
        self._check("reach_px", self.reach_px > self.point_radius_px, "more than point_radius_px")


class PointVoronoi(Method):
    """`Sample.memory` holds both sets of labels as one map a class."""

    Config: ClassVar[type[MethodConfig]] = PointVoronoiConfig
    config: PointVoronoiConfig

    def memory_layout(self) -> dict[str, tuple[int, float]]:
        return {VORONOI: (self.n_classes, 0), CLUSTERS: (self.n_classes, 0)}

    def prepare(self, samples: Sequence[Sample], done: Done = unheard) -> None:
        for sample in samples:
            self._label(sample)
            done(sample.scribbles.size)

    def _label(self, sample: Sample) -> None:
        strokes = [s for s in find_strokes(sample.scribbles, self.n_classes) if s.label != BACKGROUND]
        if not strokes:
            return
        shape = sample.scribbles.shape
        points = [tuple(int(i) for i in middle_pixel(stroke, shape)) for stroke in strokes]
        nearest = nearest_points(points, [s.label for s in strokes], shape, sample.image.spacing)
        radius_px, rng = self.config.point_radius_px, np.random.default_rng(0)
        clusters = cluster_labels(sample.normalised(), nearest, radius_px, self.config.reach_px, rng)
        sample.memory[VORONOI] = to_maps(voronoi_labels(nearest, radius_px), self.n_classes)
        sample.memory[CLUSTERS] = to_maps(clusters, self.n_classes)

    def loss(self, network: nn.Module, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        logits = network(batch.image)
        # Strokes of cells are no labels here; those of background go before what the maps say there.
        background = torch.where(batch.scribbles == BACKGROUND, BACKGROUND, UNLABELLED)
        return {
            "strokes": partial_cross_entropy(logits, background),
            "voronoi": partial_cross_entropy(logits, from_maps(batch.memory[VORONOI], background)),
            "clusters": partial_cross_entropy(logits, from_maps(batch.memory[CLUSTERS], background)),
        }

    def learnt_labels(self, sample: Sample) -> npt.NDArray[np.int16] | None:
        if VORONOI not in sample.memory:
            return None
        voronoi, clusters = labels_of(sample.memory[VORONOI]), labels_of(sample.memory[CLUSTERS])
        return np.where(voronoi == UNLABELLED, clusters, voronoi)
