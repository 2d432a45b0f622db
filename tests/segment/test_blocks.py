"""Objects found block by block are those of the whole image."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellscribble.segment.blocks import segment_blocks
from cellscribble.segment.instances import segment_mask
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


def counted_classes(labels: np.ndarray, seen: np.ndarray, n_classes: int) -> np.ndarray:
    """The class of most pixels of each object, counted in the whole image."""
    votes = [np.bincount(labels[seen == c], minlength=int(labels.max()) + 1)[1:] for c in range(1, n_classes + 1)]
    return np.argmax(votes, axis=0) + 1


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from(SHAPES),
    radius=st.floats(2, 14),
    smoothing=st.sampled_from([0.0, 0.7, 2.0]),
    cap=st.sampled_from([2.0, 4.5, 30.0]),
    neck_ratio=st.sampled_from([0.5, 0.85, 1.0]),
    seed_distance=st.sampled_from([0.0, 4.0, 9.0]),
    hole=st.sampled_from([0, 3, 20]),
    plane_holes=st.booleans(),
    thick=st.sampled_from([None, 2.0, 3.3]),
    factor=st.integers(2, 5),
)
@settings(max_examples=60)
def test_objects_do_not_depend_on_the_blocks(
    seed: int,
    shape: tuple[int, ...],
    radius: float,
    smoothing: float,
    cap: float,
    neck_ratio: float,
    seed_distance: float,
    hole: int,
    plane_holes: bool,
    thick: float | None,
    factor: int,
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
        plane_holes=plane_holes,
    )
    whole = segment_mask(mask, parameters)
    assert np.unique(whole[whole > 0]).tolist() == list(range(1, int(whole.max()) + 1))
    seen = np.where(mask, rng.integers(1, 4, shape), 0).astype(np.uint8)
    block_px = [int(rng.integers(3 if n < 30 else 9, n + 2)) for n in shape]
    n_blocks = math.prod(-(-n // b) for n, b in zip(shape, block_px, strict=True))
    read = seen.__getitem__
    found = [
        segment_blocks(read, shape, parameters, block_px, factor=factor, n_classes=3, order=rng.permutation(n_blocks))
        for factor in (factor, factor, None)
    ]
    one, single = segment_blocks(read, shape, parameters, shape, n_classes=3)
    np.testing.assert_array_equal(one, whole)
    for labels, objects in [*found, (one, single)]:
        assert_same_objects(labels, whole)
        assert (objects.n_objects, objects.n_wide) == (whole.max(), single.n_wide)
        np.testing.assert_array_equal(objects.classes, counted_classes(labels, seen, 3))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    # What is one object hangs together.
    for k, where in enumerate(ndimage.find_objects(whole), start=1):
        assert ndimage.label(whole[where] == k, np.ones((3,) * mask.ndim))[1] == 1


def test_a_cell_wider_than_the_cap_stays_whole_and_is_counted() -> None:
    mask = np.zeros((60, 200), bool)
    mask[4:56, 5:150] = True
    mask[20:28, 160:168] = True
    parameters = InstanceParameters(largest_radius_px=8.0, smoothing_px=1.0)
    labels, objects = segment_blocks(mask.__getitem__, mask.shape, parameters, (32, 32))
    assert (objects.n_objects, objects.n_wide) == (2, 1)
    assert_same_objects(labels, segment_mask(mask, parameters))


def test_objects_settled_in_a_block_come_first_and_then_those_across_blocks() -> None:
    mask = np.zeros((8, 32), bool)
    # One object in each of four blocks, one across the first two, one across the middle.
    mask[4:6, 2:4] = mask[4:6, 12:14] = mask[4:6, 18:20] = mask[4:6, 28:30] = True
    mask[1:3, 6:10] = mask[1:3, 14:18] = True
    parameters = InstanceParameters(smallest_object_px=1, smoothing_px=0.0)
    labels, _ = segment_blocks(mask.__getitem__, mask.shape, parameters, (8, 8), factor=2, order=[3, 1, 0, 2])
    assert labels[4, [2, 12, 18, 28]].tolist() == [1, 2, 4, 5]
    assert labels[1, [6, 9, 14, 17]].tolist() == [3, 3, 6, 6]
    assert segment_mask(mask, parameters)[[1, 1, 4, 4, 4, 4], [6, 14, 2, 12, 18, 28]].tolist() == [1, 2, 3, 4, 5, 6]


def test_an_object_over_many_blocks_is_dropped_by_its_whole_size() -> None:
    mask = np.zeros((4, 40), bool)
    mask[1, 2:38] = True
    for smallest, n in ((36, 1), (37, 0)):
        parameters = InstanceParameters(smallest_object_px=smallest, smoothing_px=0.0, neck_ratio=0.5)
        labels, objects = segment_blocks(mask.__getitem__, mask.shape, parameters, (4, 5))
        assert objects.n_objects == labels.max() == segment_mask(mask, parameters).max() == n


def test_labels_grow_to_32_bits_when_16_do_not_hold_them() -> None:
    mask = np.zeros((512, 512), bool)
    mask[::2, ::2] = True  # 256 * 256 = 65,536
    parameters = InstanceParameters(smallest_object_px=1, largest_hole_px=0)
    assert segment_mask(mask, parameters).dtype == np.uint32
    mask[0, 0] = False
    assert segment_mask(mask, parameters).dtype == np.uint16
    labels, objects = segment_blocks(mask.__getitem__, mask.shape, parameters, (200, 300))
    assert (labels.dtype, objects.n_objects) == (np.uint16, 65535)
    mask[0, 0] = True
    labels, objects = segment_blocks(mask.__getitem__, mask.shape, parameters, (200, 300))
    assert (labels.dtype, objects.n_objects, int(labels.max())) == (np.uint32, 65536, 65536)
