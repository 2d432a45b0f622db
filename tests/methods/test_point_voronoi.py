import dataclasses

import numpy as np
import pytest
import torch

from cellscribble.core.errors import InputError
from cellscribble.core.intensity import IntensityRule
from cellscribble.data.batch import Batch
from cellscribble.data.samples import make_sample
from cellscribble.losses.cross_entropy import partial_cross_entropy
from cellscribble.methods.base import Progress
from cellscribble.methods.point_voronoi import CLUSTERS, VORONOI, PointVoronoi, PointVoronoiConfig


@pytest.fixture
def method():
    return PointVoronoi(PointVoronoiConfig(), 2)


def test_a_stroke_shrinks_to_its_middle(method, disks_2d):
    sample = make_sample(disks_2d.image, disks_2d.scribbles, IntensityRule())
    method.prepare([sample])
    cells = sample.memory[VORONOI][1] == 1
    y, x = np.indices((64, 64))
    near = [(y - cy) ** 2 + (x - cx) ** 2 <= 4 for cy in (12, 32, 52) for cx in (12, 32, 52)]
    np.testing.assert_array_equal(cells, np.any(near, axis=0))
    # Half way between the points runs an edge: columns 21 to 23 lie between 12 and 32.
    assert sample.memory[VORONOI][0, 12, 22] == 1
    learnt = method.learnt_labels(sample)
    assert (learnt[cells] == 1).all()
    assert learnt[22, 12] == 0


def test_terms_by_hand(method):
    network = torch.nn.Conv2d(1, 2, 1)
    voronoi = torch.tensor([[1.0, 0, 0, 0, 1], [0, 1, 0, 0, 0]]).reshape(1, 2, 1, 5)
    clusters = torch.tensor([[1.0, 0, 0, 1, 1], [0, 1, 1, 0, 0]]).reshape(1, 2, 1, 5)
    # A stroke of a cell on pixel 2 is no label, a stroke of background on pixel 4 is one, and no other.
    strokes = torch.tensor([[[-1, -1, 1, -1, 0]]])
    batch = Batch(torch.rand(1, 1, 1, 5), strokes, None, {VORONOI: voronoi, CLUSTERS: clusters})
    terms = method.loss(network, batch, Progress(0, True))
    logits = network(batch.image)
    for name, labels in (
        ("strokes", [-1, -1, -1, -1, 0]),
        ("voronoi", [0, 1, -1, -1, -1]),
        ("clusters", [0, 1, 1, 0, -1]),
    ):
        torch.testing.assert_close(terms[name], partial_cross_entropy(logits, torch.tensor([[labels]])))


def test_images_without_points_have_no_labels(method, disks_2d):
    strokes = np.where(disks_2d.scribbles == 1, -1, disks_2d.scribbles)
    bare = make_sample(disks_2d.image, strokes, IntensityRule())
    full = make_sample(disks_2d.image, disks_2d.scribbles, IntensityRule())
    method.prepare([bare, full])
    assert not bare.memory
    assert method.learnt_labels(bare) is None


def test_in_a_volume_of_thick_sections_a_point_stays_on_its_section(method, balls_3d):
    image = dataclasses.replace(balls_3d.image, pixel_size_um=(2.0, 0.5, 0.5))
    sample = make_sample(image, balls_3d.scribbles, IntensityRule())
    method.prepare([sample])
    cells = sample.memory[VORONOI][1]
    assert cells[12].any()
    # Strokes lie on the sections 8, 12 and 16; 2 px of 0.5 um do not reach the next one, 2 um away.
    assert not cells[[9, 10, 11, 13, 14, 15]].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"point_radius_px": -1.0}, r"point_radius_px is -1.0; expected 0 px \(the point alone\) or more"),
        ({"reach_px": 1.0}, "reach_px is 1.0; expected more than point_radius_px"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        PointVoronoiConfig(**settings)
