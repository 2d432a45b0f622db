"""Objects found block by block are those of the whole image."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellscribble.segment.instances import segment_blocks, segment_mask
from cellscribble.segment.parameters import InstanceParameters

SHAPES = [(70, 90), (33, 140), (5, 36, 44), (22, 24, 26)]


def blobs(rng: np.random.Generator, shape: tuple[int, ...], radius: float) -> np.ndarray:
    """Balls that overlap and touch, a long bar, holes, single pixels and pixels that meet in a corner."""
    mask = np.zeros(shape, bool)
    grid = np.indices(shape)
    for _ in range(int(rng.integers(1, 12))):
        centre = [rng.integers(0, n) for n in shape]
        r = radius * rng.uniform(0.4, 1.6)
        mask |= sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)) <= r * r
    if rng.random() < 0.5:
        at = int(rng.integers(0, shape[-2]))
        mask[..., at : at + int(rng.integers(1, 5)), :] = True
    mask &= rng.random(shape) > rng.choice([0, 0.01, 0.05])
    return np.asarray(mask | (rng.random(shape) < rng.choice([0, 0.02])))


def assert_same_objects(found: np.ndarray, expected: np.ndarray) -> None:
    """Equal up to the numbers: each number of one is one number of the other, and background is background."""
    np.testing.assert_array_equal(found > 0, expected > 0)
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    assert np.unique(found[found > 0]).tolist() == list(range(1, int(found.max()) + 1))


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from(SHAPES),
    radius=st.floats(2, 14),
    smoothing=st.sampled_from([0.0, 0.7, 2.0]),
    cap=st.sampled_from([2.0, 4.5, 30.0]),
    neck_ratio=st.sampled_from([0.5, 0.85, 1.0]),
    seed_distance=st.sampled_from([0.0, 4.0, 9.0]),
    hole=st.sampled_from([0, 3, 20]),
    thick=st.sampled_from([None, 2.0, 3.3]),
)
@settings(max_examples=60, deadline=None)
def test_objects_do_not_depend_on_the_blocks(
    seed: int,
    shape: tuple[int, ...],
    radius: float,
    smoothing: float,
    cap: float,
    neck_ratio: float,
    seed_distance: float,
    hole: int,
    thick: float | None,
) -> None:
    rng = np.random.default_rng(seed)
    mask = blobs(rng, shape, radius)
    parameters = InstanceParameters(
        seed_distance_px=seed_distance,
        smoothing_px=smoothing,
        neck_ratio=neck_ratio,
        smallest_object_px=int(rng.integers(0, 30)),
        largest_hole_px=hole,
        largest_radius_px=cap,
        spacing=None if thick is None else (thick, *(1.0,) * (len(shape) - 1)),
    )
    whole = segment_mask(mask, parameters)
    assert np.unique(whole[whole > 0]).tolist() == list(range(1, int(whole.max()) + 1))
    block_px = [int(rng.integers(3 if n < 30 else 9, n + 2)) for n in shape]
    n_blocks = math.prod(-(-n // b) for n, b in zip(shape, block_px, strict=True))
    labels, stitched = segment_blocks(mask.__getitem__, shape, parameters, block_px, rng.permutation(n_blocks))
    assert_same_objects(labels, whole)
    again, other = segment_blocks(mask.__getitem__, shape, parameters, block_px, rng.permutation(n_blocks))
    np.testing.assert_array_equal(again, labels)
    one, single = segment_blocks(mask.__getitem__, shape, parameters, shape)
    np.testing.assert_array_equal(one, whole)
    assert stitched.n_wide == other.n_wide == single.n_wide
    # What is one object hangs together.
    for k, where in enumerate(ndimage.find_objects(whole), start=1):
        assert ndimage.label(whole[where] == k, np.ones((3,) * mask.ndim))[1] == 1


def test_a_cell_wider_than_the_cap_stays_whole_and_is_counted() -> None:
    mask = np.zeros((60, 200), bool)
    mask[4:56, 5:150] = True
    mask[20:28, 160:168] = True
    parameters = InstanceParameters(largest_radius_px=8.0, smoothing_px=1.0)
    labels, stitched = segment_blocks(mask.__getitem__, mask.shape, parameters, (32, 32))
    assert (stitched.n_objects, stitched.n_wide) == (2, 1)
    assert_same_objects(labels, segment_mask(mask, parameters))


def test_objects_are_numbered_block_after_block() -> None:
    mask = np.zeros((8, 16), bool)
    # in the first block one inside and one that goes on, in the second one inside that comes first in the image
    mask[4:6, 2:4] = mask[1:3, 5:10] = mask[0:2, 13:15] = True
    parameters = InstanceParameters(smallest_object_px=1, smoothing_px=0.0)
    labels, _ = segment_blocks(mask.__getitem__, mask.shape, parameters, (8, 8), [1, 0])
    assert [int(labels[4, 2]), int(labels[1, 5]), int(labels[1, 9]), int(labels[0, 13])] == [1, 2, 2, 3]
    assert segment_mask(mask, parameters)[[4, 1, 0], [2, 5, 13]].tolist() == [3, 2, 1]


def test_an_object_over_many_blocks_is_dropped_by_its_whole_size() -> None:
    mask = np.zeros((4, 40), bool)
    mask[1, 2:38] = True
    for smallest, n in ((36, 1), (37, 0)):
        parameters = InstanceParameters(smallest_object_px=smallest, smoothing_px=0.0, neck_ratio=0.5)
        labels, stitched = segment_blocks(mask.__getitem__, mask.shape, parameters, (4, 5))
        assert stitched.n_objects == labels.max() == segment_mask(mask, parameters).max() == n


def test_labels_grow_to_32_bits_when_16_do_not_hold_them() -> None:
    mask = np.zeros((512, 512), bool)
    mask[::2, ::2] = True  # 256 * 256 = 65,536
    parameters = InstanceParameters(smallest_object_px=1, largest_hole_px=0)
    assert segment_mask(mask, parameters).dtype == np.uint32
    mask[0, 0] = False
    assert segment_mask(mask, parameters).dtype == np.uint16
    labels, stitched = segment_blocks(mask.__getitem__, mask.shape, parameters, (200, 300))
    assert (labels.dtype, stitched.n_objects) == (np.uint16, 65535)
    mask[0, 0] = True
    labels, stitched = segment_blocks(mask.__getitem__, mask.shape, parameters, (200, 300))
    assert (labels.dtype, stitched.n_objects, int(labels.max())) == (np.uint32, 65536, 65536)
