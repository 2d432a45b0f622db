"""What a low level of a pyramid says of blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellscribble.core.blocks import BlockGrid
from cellscribble.core.intensity import IntensityRule
from cellscribble.core.volume import ImageVolume
from cellscribble.engine.glance import looks_empty, low_level


@given(st.data())
def test_a_block_looks_empty_where_its_window_shows_one_grey(data):
    ndim = data.draw(st.sampled_from([2, 3]))
    size = data.draw(st.tuples(*[st.integers(1, 9)] * ndim))
    step, block, halo = (data.draw(st.tuples(*[st.integers(low, 12)] * ndim)) for low in (1, 3, 0))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    low = np.where(rng.random(size) < 0.1, 200, 10).astype(np.uint8)
    low.flat[0], low.flat[-1] = 10, 200
    grid = BlockGrid(tuple(n * s for n, s in zip(size, step, strict=True)), block)
    if low.min() == low.max():
        return
    image = ImageVolume(low[np.newaxis], "CYX" if ndim == 2 else "CZYX")
    found = looks_empty(image, IntensityRule(), grid, halo)
    full = low
    for axis, s in enumerate(step):
        full = full.repeat(s, axis)
    expected = [len(np.unique(full[grid.window(k, halo)])) == 1 for k in range(len(grid))]
    assert found.tolist() == expected


@pytest.mark.parametrize(
    ("shapes", "level"),
    [
        # 10 blocks along an edge want 160 px.
        ([(8192, 8192), (4096, 4096), (400, 400), (200, 200), (100, 100)], 3),
        ([(8192, 8192), (128, 128), (64, 64)], 1),
        ([(8192, 8192)], 0),
        # None of these is small.
        ([(80000, 80000), (40000, 40000)], 0),
        ([(30, 800, 800), (30, 400, 400), (30, 200, 200)], 2),
    ],
)
def test_the_lowest_level_that_still_shows_blocks_is_looked_at(shapes, level):
    assert low_level(shapes, (1,) * (len(shapes[0]) - 2) + (10, 10)) == level
