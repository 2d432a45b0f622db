"""Cut and reassemble gives the same image; a local function gives the same result by blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellscribble.core.blocks import BlockGrid, levels, map_blocks, padded_shape, plan_blocks, read_padded
from cellscribble.core.errors import InputError


@settings(max_examples=60)
@given(data=st.data())
def test_every_pixel_is_written_once_and_reads_itself(data):
    ndim = data.draw(st.sampled_from([2, 3]))
    ints = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(ndim))  # noqa: E731
    shape, block, halo, multiple = ints(1, 40), ints(1, 20), ints(0, 9), ints(1, 4)
    image = np.arange(np.prod(shape)).reshape(1, *shape)
    out = np.full(shape, -1)
    n_written = 0
    for piece in plan_blocks(shape, block, halo, multiple):
        assert all(s.start % m == 0 for s, m in zip(piece.read, multiple, strict=True))
        assert all((s.stop - s.start) % m == 0 for s, m in zip(piece.read, multiple, strict=True))
        out[piece.write] = read_padded(image, piece.read)[0][piece.keep]
        n_written += int(np.prod([s.stop - s.start for s in piece.write]))
    assert n_written == image.size
    np.testing.assert_array_equal(out, image[0])


@pytest.mark.parametrize("shape", [(37, 50), (9, 21, 30)])
def test_blockwise_equals_whole_for_a_local_filter(shape, rng):
    image = rng.normal(size=(1, *shape)).astype(np.float32)
    blur = lambda block: ndimage.uniform_filter(block, (0,) + (5,) * len(shape), mode="constant")  # noqa: E731
    multiple = (4,) * len(shape)
    whole = map_blocks(blur, image, 1, padded_shape(shape, multiple), (0,) * len(shape), multiple)
    parts = map_blocks(blur, image, 1, (8,) * len(shape), (4,) * len(shape), multiple)
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def test_an_image_smaller_than_the_stride_is_mirrored():
    image = np.array([[[1.0, 2.0, 3.0]]])
    out = read_padded(image, (slice(0, 2), slice(0, 8)))
    np.testing.assert_array_equal(out[0, 0], [1, 2, 3, 2, 1, 2, 3, 2])
    np.testing.assert_array_equal(out[0, 1], out[0, 0])


def test_a_block_of_nothing_is_refused():
    with pytest.raises(InputError, match="block"):
        list(plan_blocks((8, 8), (0, 4), (0, 0), (1, 1)))


@settings(max_examples=60)
@given(data=st.data())
def test_a_grid_covers_each_pixel_once_and_finds_the_blocks_of_a_window(data):
    ndim = data.draw(st.sampled_from([2, 3]))
    ints = lambda low, high: tuple(data.draw(st.integers(low, high)) for _ in range(ndim))  # noqa: E731
    grid = BlockGrid(ints(1, 20), ints(1, 9))
    of = np.full(grid.shape, -1)
    for k in range(len(grid)):
        assert grid.number(grid.place(k)) == k
        assert (of[grid.box(k)] == -1).all()
        of[grid.box(k)] = k
        window = grid.window(k, ints(0, 3))
        found = grid.numbers(grid.meeting(window))
        assert found == np.unique(of_all(grid)[window]).tolist()
        assert np.arange(len(grid)).reshape(grid.counts)[grid.meeting(window)].ravel().tolist() == found
    assert of.min() == 0
    np.testing.assert_array_equal(of, of_all(grid))


def of_all(grid: BlockGrid) -> np.ndarray:
    """For each pixel the number of its block, from its coordinates."""
    places = [axis // b for axis, b in zip(np.indices(grid.shape), grid.block_px, strict=True)]
    return np.ravel_multi_index(places, grid.counts)


def test_blocks_come_in_raster_order_and_a_halo_ends_at_the_image():
    grid = BlockGrid((10, 25), (4, 10))
    assert (grid.counts, len(grid)) == ((3, 3), 9)
    assert grid.box(5) == (slice(4, 8), slice(20, 25))
    assert grid.window(5, (2, 3)) == (slice(2, 10), slice(17, 25))
    assert grid.meeting((slice(3, 5), slice(9, 40))) == (slice(0, 2), slice(0, 3))
    with pytest.raises(IndexError, match="block 9; there are 9"):
        grid.box(9)
    with pytest.raises(IndexError, match="block -1"):
        grid.box(-1)
    with pytest.raises(InputError, match=r"blocks of \(4, 0\) px"):
        BlockGrid((10, 25), (4, 0))


def test_levels_grow_until_one_block_is_left():
    assert [grid.counts for grid in levels(BlockGrid((10, 25), (4, 1)), 3)] == [(3, 25), (1, 9), (1, 3), (1, 1)]
    assert [grid.counts for grid in levels(BlockGrid((10, 25), (10, 25)), 2)] == [(1, 1)]
    assert BlockGrid((10, 25), (4, 1)).coarser(3) == BlockGrid((10, 25), (12, 3))
