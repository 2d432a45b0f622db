"""Cut and reassemble gives the same image; a local function gives the same result by blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cellscribble.core.blocks import map_blocks, padded_shape, plan_blocks, read_padded
from cellscribble.core.errors import InputError


@settings(max_examples=60, deadline=None)
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
