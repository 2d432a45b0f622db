import numpy as np
from scipy import ndimage

from cellscribble.segment.edge_snap import snap_to_edges


def scene(fat_px: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bright disk of radius 12, and a prediction whose 0.5 lies `fat_px` outside its rim."""
    y, x = np.mgrid[:64, :64]
    distance = np.hypot(y - 31.5, x - 31.5)
    cell = distance < 12
    image = ndimage.gaussian_filter(cell.astype(np.float32), 1)[None]
    foreground = (1 / (1 + np.exp((distance - 12 - fat_px) / 3))).astype(np.float32)
    return image, np.stack([1 - foreground, foreground]), cell


def test_a_fat_blurred_rim_is_moved_onto_the_edge_of_the_image():
    image, probability, cell = scene(fat_px=2)
    before = (probability[1] > 0.5) ^ cell
    after = (snap_to_edges(image, probability)[1] > 0.5) ^ cell
    assert before.sum() > 100
    assert after.sum() < 0.15 * before.sum()


def test_what_is_sure_stays_and_the_sum_stays_one():
    image, probability, _ = scene(fat_px=1)
    out = snap_to_edges(image, probability)
    sure = np.abs(probability[1] - 0.5) > 0.24
    np.testing.assert_array_equal(out[:, sure], probability[:, sure])
    np.testing.assert_allclose(out.sum(axis=0), 1, atol=1e-5)


def test_classes_keep_their_proportions():
    image, probability, _ = scene(fat_px=1)
    three = np.stack([probability[0], 0.25 * probability[1], 0.75 * probability[1]])
    out = snap_to_edges(image, three)
    np.testing.assert_allclose(out[2], 3 * out[1], rtol=1e-4)


def test_a_prediction_without_a_sure_side_is_left_alone():
    image, probability, _ = scene(fat_px=1)
    flat = np.full_like(probability, 0.5)
    np.testing.assert_array_equal(snap_to_edges(image, flat), flat)


def test_a_volume_is_settled_like_a_plane(rng):
    y, x = np.mgrid[:40, :40]
    distance = np.hypot(y - 19.5, x - 19.5)
    image = np.repeat(ndimage.gaussian_filter((distance < 9).astype(np.float32), 1)[None, None], 6, axis=1)
    foreground = np.repeat((1 / (1 + np.exp((distance - 11) / 3)))[None], 6, axis=0).astype(np.float32)
    out = snap_to_edges(image, np.stack([1 - foreground, foreground]))[1] > 0.5
    assert (out ^ (distance < 9)).mean() < 0.02
