import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellscribble.segment.edge_level import EdgeEvidence, shift_to_edge


def disk(ndim: int = 2, n: int = 96, radius: float = 26, slope_px: float = 4.0, offset_px: float = 4.0):
    """A blurred disk of `radius`, and a fat sigmoid probability of foreground that reaches 0.5
    `offset_px` outside of it: the true edge lies at p = 1 / (1 + exp(-offset / slope))."""
    n = n if ndim == 2 else 48
    radius = radius if ndim == 2 else 14
    grid = np.indices((n,) * ndim) - (n - 1) / 2
    distance = np.sqrt((grid**2).sum(axis=0)) - radius
    image = ndimage.gaussian_filter((distance < 0).astype(np.float32), 1.0)[None]
    p = 1 / (1 + np.exp((distance - offset_px) / slope_px))
    return image, np.stack([1 - p, p]).astype(np.float32)


TRUE_LEVEL = 1 / (1 + np.exp(-1.0))  # 0.73: 4 px inside the contour, slope 4 px


def level_of(image: np.ndarray, probability: np.ndarray, strokes: np.ndarray | None = None) -> float:
    evidence = EdgeEvidence()
    evidence.add(image, probability, unstroked(image) if strokes is None else strokes)
    return evidence.level().level


def unstroked(image: np.ndarray) -> np.ndarray:
    return np.full(image.shape[1:], -1, np.int16)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_level_is_where_the_image_has_its_edge(ndim):
    assert level_of(*disk(ndim)) == pytest.approx(TRUE_LEVEL, abs=0.06)


@pytest.mark.parametrize("offset", [0.0, 2.0, 6.0])
def test_fatter_outlines_give_higher_levels(offset):
    expected = 1 / (1 + np.exp(-offset / 4))
    assert level_of(*disk(offset_px=offset)) == pytest.approx(expected, abs=0.07)


def test_dark_cells_on_bright_ground_give_the_same():
    image, probability = disk()
    assert level_of(1 - image, probability) == pytest.approx(level_of(image, probability), abs=1e-6)


def test_texture_and_noise_do_not_move_it():
    image, probability = disk()
    noise = np.random.default_rng(0).standard_normal(image.shape).astype(np.float32)
    assert level_of(image + 0.2 * noise, probability) == pytest.approx(TRUE_LEVEL, abs=0.06)


def test_a_channel_without_edges_beside_one_with_changes_nothing():
    image, probability = disk()
    both = np.concatenate([np.full_like(image, 0.3), image])
    assert level_of(both, probability) == pytest.approx(level_of(image, probability), abs=1e-6)


def test_channels_that_point_opposite_ways_do_not_cancel():
    image, probability = disk()
    assert level_of(np.concatenate([image, 1 - image]), probability) == pytest.approx(TRUE_LEVEL, abs=0.06)


@pytest.mark.parametrize("p", [0.001, 0.5, 0.999])
def test_without_a_contour_it_stays_at_one_half(p):
    image, _ = disk()
    probability = np.stack([np.full(image.shape[1:], 1 - p), np.full(image.shape[1:], p)]).astype(np.float32)
    assert level_of(image, probability) == 0.5


def test_without_images_or_without_contrast_it_stays_at_one_half():
    assert EdgeEvidence().level().level == 0.5
    image, probability = disk()
    assert level_of(np.zeros_like(image), probability) == 0.5


def test_the_order_of_images_does_not_matter():
    images = [disk(offset_px=o) for o in (1.0, 4.0, 7.0)]
    found = []
    for order in ([0, 1, 2], [2, 0, 1]):
        evidence = EdgeEvidence()
        for i in order:
            evidence.add(*images[i], unstroked(images[i][0]))
        found.append(evidence.level().level)
    assert found[0] == pytest.approx(found[1])


def test_faint_membranes_of_which_the_network_is_less_sure_count_as_much_as_dark_ones():
    """Stripes 8 px wide, every second one faint. The network has all right at 0.5; of the faint ones it is
    only 0.8 sure. At 0.9 the contour is made of dark ones alone, so its mean edge is steeper there."""
    x = np.arange(512)
    distance = np.abs((x % 64) - 32) - 4.0
    dark = (x // 64) % 2 == 0
    stripe = ndimage.gaussian_filter1d((distance < 0).astype(np.float32), 1.0) * np.where(dark, 1.0, 0.25)
    image = np.broadcast_to(stripe.astype(np.float32), (256, 512))[None]
    p = np.minimum(1 / (1 + np.exp(distance / 0.5)), np.where(dark, 1.0, 0.8))
    probability = np.broadcast_to(p.astype(np.float32), (256, 512))
    assert level_of(image, np.stack([1 - probability, probability])) == pytest.approx(0.5, abs=0.08)


def test_ground_of_which_the_network_is_unsure_says_nothing_of_where_cells_end():
    """One cell with its edge at 0.73; around it steps of the image at which p goes from 0.05 to 0.3."""
    cell, sure = disk()
    step = np.arange(96) > 47
    ground = np.broadcast_to(ndimage.gaussian_filter1d(step.astype(np.float32), 1.0), (96, 96))
    p = 0.05 + 0.25 / (1 + np.exp(-(np.arange(96) - 47.5) / 4))
    unsure = np.broadcast_to(p.astype(np.float32), (96, 96))
    image, foreground = (np.tile(a, (3, 3)) for a in (ground, unsure))
    image[96:192, 96:192], foreground[96:192, 96:192] = cell[0], sure[1]
    assert level_of(image[None], np.stack([1 - foreground, foreground])) == pytest.approx(TRUE_LEVEL, abs=0.08)


def textured_cells():
    """Nuclei of many bright specks, dim and bright ones, and a network that has learnt little more than how
    bright a pixel is: its contours at high levels run around specks. Truth, and strokes through the middle
    of each cell and closely around it."""
    rng = np.random.default_rng(0)
    n, cell, around = 32, 10, 13
    row, column = np.indices((4 * n, 4 * n))
    distance = np.hypot(row % n - n / 2 + 0.5, column % n - n / 2 + 0.5)
    truth = distance < cell
    brightness = np.kron(rng.uniform(0.4, 1, (4, 4)), np.ones((n, n)))
    specks = np.clip(ndimage.gaussian_filter(rng.standard_normal(truth.shape), 1.5) * 3, -1, 2)
    image = (ndimage.gaussian_filter(truth * brightness, 1) * (1 + 0.5 * specks)).astype(np.float32)
    p = 1 / (1 + np.exp(-8 * (image - 0.25)))
    strokes = np.full(truth.shape, -1, np.int16)
    strokes[(distance < cell - 3) & (row % n == n // 2)] = 1
    strokes[(distance > around - 1) & (distance < around)] = 0
    return image[None], np.stack([1 - p, p]).astype(np.float32), truth, strokes


def test_a_level_that_turns_strokes_wrong_is_no_edge():
    image, probability, truth, strokes = textured_cells()
    without, found = level_of(image, probability), level_of(image, probability, strokes)
    assert found < 0.7 < 0.8 < without
    lost = [(probability[1] <= level)[strokes == 1].mean() for level in (0.5, found, without)]
    assert lost[1] <= lost[0] + 0.03 < 0.2 < lost[2]

    def iou(level):
        inside = probability[1] > level
        return (inside & truth).sum() / (inside | truth).sum()

    assert iou(found) > iou(without) + 0.2


def test_strokes_that_all_levels_have_right_do_not_move_it():
    image, probability = disk()
    strokes = np.where(probability[1] > 0.98, 1, np.where(probability[1] < 0.1, 0, -1)).astype(np.int16)
    assert {-1, 0, 1} == set(strokes.flat)
    assert level_of(image, probability, strokes) == pytest.approx(level_of(image, probability), abs=1e-6)


@settings(max_examples=50)
@given(level=st.floats(0.1, 0.98), k=st.integers(2, 4), seed=st.integers(0, 10**6))
def test_shift_moves_the_level_to_one_half_and_keeps_class_proportions(level, k, seed):
    raw = np.random.default_rng(seed).dirichlet(np.ones(k), 20).T.astype(np.float32).reshape(k, 4, 5)
    out = shift_to_edge(raw, level)
    np.testing.assert_allclose(out.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(out[1:] * raw[1:2], out[1:2] * raw[1:], atol=1e-5)
    at = shift_to_edge(np.array([1 - level, level], np.float32).reshape(2, 1, 1), level)
    assert at[1, 0, 0] == pytest.approx(0.5, abs=1e-5)


def test_shift_by_hand():
    # odds 9 over odds 3 is odds 3: p' = 3/4
    out = shift_to_edge(np.array([[[0.1]], [[0.9]]], np.float32), 0.75)
    np.testing.assert_allclose(out.ravel(), [0.25, 0.75], atol=1e-6)


def test_one_bright_cell_of_a_volume_does_not_speak_for_the_dim_ones():
    dim, fat = disk(3)
    # Twenty times as bright, and its edge lies at p = 0.95 instead of 0.73.
    bright, fatter = disk(3, offset_px=12.0)
    assert level_of(20 * bright, fatter) > 0.9
    image = np.concatenate([dim, dim, dim, 20 * bright], axis=-1)
    probability = np.concatenate([fat, fat, fat, fatter], axis=-1)
    assert level_of(image, probability) == pytest.approx(TRUE_LEVEL, abs=0.06)
