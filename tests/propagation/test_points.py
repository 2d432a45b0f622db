import numpy as np

from cellscribble.metrics.overlap import score_masks
from cellscribble.propagation.points import cluster_labels, nearest_points, voronoi_labels
from tests.conftest import make_disks


def test_voronoi_labels_by_hand():
    # Two points in a row of 12 at columns 2 and 9: cells 0..5 and 6..11, edges at 5 and 6, radius 1 around the points.
    nearest = nearest_points([(2,), (9,)], [1, 2], (12,), (1.0,))
    assert nearest.number.tolist() == [0] * 6 + [1] * 6
    assert nearest.distance_px[:4].tolist() == [2, 1, 0, 1]
    assert voronoi_labels(nearest, 1).tolist() == [-1, 1, 1, 1, -1, 0, 0, -1, 2, 2, 2, -1]


def test_distances_follow_the_voxel_size():
    nearest = nearest_points([(0, 0), (2, 0)], [1, 1], (3, 4), (5.0, 1.0))
    assert nearest.distance_px[1].tolist() == [5, np.sqrt(26), np.sqrt(29), np.sqrt(34)]
    # Sections are 5 px apart, so that a radius of 2 px stays within one.
    assert voronoi_labels(nearest, 2)[:, 0].tolist() == [1, 0, 1]


def test_clusters_by_hand():
    # Bright within 3 px of the points, grey as far as 6, dark beyond.
    nearest = nearest_points([(4,), (30,)], [1, 2], (60,), (1.0,))
    d = nearest.distance_px
    image = np.where(d <= 3, 1.0, np.where(d <= 6, 0.5, 0.0)).astype(np.float32)[None]
    labels = cluster_labels(image, nearest, 2, 20, np.random.default_rng(0))
    np.testing.assert_array_equal(labels[d <= 3], nearest.label[d <= 3])
    assert set(labels[(d > 3) & (d <= 6)]) == {-1}
    assert set(labels[d > 12]) == {0}


def test_bright_disks_are_a_cluster():
    example = make_disks()
    image = (np.asarray(example.image.data, np.float32) - 150) / 900
    points = [(cy, cx) for cy in (12, 32, 52) for cx in (12, 32, 52)]
    nearest = nearest_points(points, [1] * 9, (64, 64), (1.0, 1.0))
    labels = cluster_labels(image, nearest, 2, 20, np.random.default_rng(0))
    assert score_masks(labels == 1, example.mask > 0).iou > 0.7
    assert not ((labels == 0) & (example.mask > 0)).any()
