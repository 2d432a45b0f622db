import numpy as np
import pytest

from cellscribble.metrics.overlap import score_masks
from cellscribble.propagation.random_walk import arrivals, seed_areas
from tests.conftest import make_balls, make_disks


def normalised(example) -> np.ndarray:
    return (np.asarray(example.image.data, np.float32) - 200) / 800


def dense_arrivals(image, strokes, n_classes, beta, reach_px):
    """The definition, as one dense system over all pixels."""
    n, shape = strokes.size, strokes.shape
    at = np.array(np.unravel_index(np.arange(n), shape)).T
    neighbours = np.abs(at[:, None] - at[None]).sum(axis=2) == 1
    x = image.reshape(len(image), -1).astype(float)
    square = ((x[:, :, None] - x[:, None]) ** 2).sum(axis=0)
    w = neighbours * np.exp(-beta * square / (10 * image.std() * np.sqrt(len(image))))
    system = np.diag(w.sum(axis=1) + 1 / reach_px**2) - w
    label = strokes.ravel()
    p = np.stack([(label == k).astype(float) for k in range(n_classes)], axis=1)
    free = label < 0
    p[free] = np.linalg.solve(system[np.ix_(free, free)], w[np.ix_(free, ~free)] @ p[~free])
    return p.T.reshape(n_classes, *shape)


def test_three_pixels_in_a_row_by_hand():
    # An even line: stroke of 0, a pixel, stroke of 1. Weights 1, 1, and 1/4 to end: 1 / 2.25 arrive at either side.
    p = arrivals(np.zeros((1, 1, 3), np.float32), np.array([[0, -1, 1]]), 2, 1.0, 2.0)
    np.testing.assert_allclose(p[:, 0, 1], [1 / 2.25] * 2, rtol=1e-6)
    np.testing.assert_array_equal(p[:, 0, 0], [1, 0])


@pytest.mark.parametrize(("shape", "channels", "k"), [((7, 9), 1, 2), ((6, 5), 3, 3), ((4, 5, 6), 2, 2)])
def test_walkers_arrive_as_the_linear_system_says(shape, channels, k, rng):
    image = rng.random((channels, *shape)).astype(np.float32)
    strokes = np.full(shape, -1)
    strokes.ravel()[rng.choice(strokes.size, 2 * k, replace=False)] = np.repeat(np.arange(k), 2)
    found = arrivals(image, strokes, k, 30.0, 4.0)
    truth = dense_arrivals(image, strokes, k, 30.0, 4.0)
    np.testing.assert_allclose(found, truth, atol=2e-3)
    assert (found.sum(axis=0) <= 1 + 1e-3).all()


@pytest.mark.parametrize("example", [make_disks(), make_balls()], ids=["2D", "3D"])
def test_seed_areas_grow_within_the_cells_and_keep_the_strokes(example):
    seeds = seed_areas(normalised(example), example.scribbles, 2, 1000.0, 10.0, 0.9)
    stroked = example.scribbles >= 0
    np.testing.assert_array_equal(seeds[stroked], example.scribbles[stroked])
    inside = example.mask > 0
    for label, where in ((0, ~inside), (1, inside)):
        area = seeds == label
        assert area.sum() > 4 * (example.scribbles == label).sum()
        assert where[area].mean() > 0.95


def test_a_cell_without_a_stroke_does_not_become_background(disks_2d):
    bare = disks_2d.mask > 1
    strokes = np.where(bare, -1, disks_2d.scribbles)
    seeds = seed_areas(normalised(disks_2d), strokes, 2, 130.0, 10.0, 0.9)
    tireless = seed_areas(normalised(disks_2d), strokes, 2, 130.0, 1e4, 0.9)
    # Walkers that never tire arrive at the background around the cell.
    assert (tireless[bare] == 0).mean() > 0.8
    assert (seeds[bare] == 0).mean() < 0.2
    seeds = seed_areas(normalised(disks_2d), strokes, 2, 1000.0, 10.0, 0.9)
    assert (seeds[bare] == -1).mean() > 0.9


def test_far_from_all_strokes_nothing_is_labelled():
    strokes = np.full((60, 60), -1)
    strokes[2, 2], strokes[2, 10] = 0, 1
    seeds = seed_areas(np.zeros((1, 60, 60), np.float32), strokes, 2, 1000.0, 5.0, 0.9)
    y, x = np.nonzero(seeds >= 0)
    assert len(y) > 2
    assert max(y.max(), x.max()) < 20


def test_thick_sections_stop_a_walker(balls_3d):
    image = np.zeros((1, 9, 9, 9), np.float32)
    strokes = np.full((9, 9, 9), -1)
    strokes[4, 4, 4], strokes[0, 0, 0] = 1, 0
    thick = arrivals(image, strokes, 2, 1000.0, 10.0, (4.0, 1.0, 1.0))[1]
    even = arrivals(image, strokes, 2, 1000.0, 10.0)[1]
    assert thick[5, 4, 4] < 0.6 * thick[4, 4, 5]
    assert even[5, 4, 4] == pytest.approx(even[4, 4, 5], rel=0.02)


def test_three_classes_get_seeds_of_their_own(disks_2d):
    left = np.arange(64) < 22
    strokes = np.where((disks_2d.scribbles == 1) & left, 2, disks_2d.scribbles)
    seeds = seed_areas(normalised(disks_2d), strokes, 3, 1000.0, 10.0, 0.9)
    assert score_masks(seeds == 2, (disks_2d.mask > 0) & left).iou > 0.5
    assert not (seeds == 2)[:, 30:].any()
