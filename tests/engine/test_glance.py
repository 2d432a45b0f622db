"""What a low level of a pyramid says of blocks."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cellscribble.bundle import open_model
from cellscribble.core.blocks import BlockGrid
from cellscribble.core.intensity import Intensity
from cellscribble.core.volume import ImageVolume, PyramidLevel
from cellscribble.engine import steps
from cellscribble.engine.glance import Glance, glance_at, glass_level, looks_empty, low_level
from cellscribble.io import ome_zarr_read
from cellscribble.io.images import open_image
from cellscribble.io.ome_zarr import write_ome_zarr
from tests.engine.conftest import OBJECTS
from tests.engine.test_zarr_job import segment
from tests.infer.analytic import metadata, write_model


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
    found = looks_empty(image, Intensity((10.0,), (200.0,)), grid, halo)
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


@given(st.data())
def test_glass_is_known_before_it_is_read_and_the_smallest_cell_never_goes_with_it(data):
    """Faint cells of eight pixels across, in 2D and in stacks, on levels of 4 and 8 px and any blocks."""
    step, planes = data.draw(st.sampled_from([4, 8])), data.draw(st.sampled_from([(), (2,)]))
    size = tuple(step * data.draw(st.integers(12, 40)) for _ in range(2))
    block = (*(1 for _ in planes), *(data.draw(st.integers(24, 90)) for _ in range(2)))
    around = (*(0 for _ in planes), *(data.draw(st.integers(8, 24)) for _ in range(2)))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    full = 100 + rng.normal(0, 2, (*planes, *size)).astype(np.float32)
    y, x = (rng.integers(8, n - 8) for n in size)
    cell = np.hypot(np.arange(size[0])[:, np.newaxis] - y, np.arange(size[1]) - x) <= 4.5
    full[..., cell] += 80
    low = full.reshape(*planes, size[0] // step, step, size[1] // step, step).mean(axis=(-3, -1))
    grid = BlockGrid(full.shape, block)
    axes = "CZYX" if planes else "CYX"
    glance = Glance(ImageVolume(low[np.newaxis], axes), grid, around, Intensity((0.0,), (255.0,)))
    for k in range(len(grid)):
        window = grid.window(k, around)[-2:]
        if cell[window].sum() == cell.sum():
            assert glance(k) is None
        elif min(s.stop - s.start for s in window) >= 32:
            near = [slice(max(s.start - step, 0), s.stop + step) for s in window]
            if not cell[tuple(near)].any():
                assert glance(k) == pytest.approx(100 / 255, abs=0.01)


def test_what_may_never_have_been_written_or_is_damaged_says_nothing():
    noise = np.random.default_rng(0).normal(100, 0.5, (1, 64, 64)).astype(np.float32)
    grid = BlockGrid((512, 512), (128, 128))

    def known(pixels):
        glance = Glance(ImageVolume(pixels, "CYX"), grid, (16, 16), Intensity((0.0,), (255.0,)))
        return [glance(k) is not None for k in range(len(grid))]

    assert all(known(noise))
    assert not any(known(np.zeros_like(noise)))
    damaged = noise.copy()
    damaged[0, 40, 40] = np.nan
    assert not any(known(damaged))


@pytest.mark.parametrize(
    ("shapes", "seen", "level"),
    [
        ([(8192, 8192), (4096, 4096), (2048, 2048), (1024, 1024), (512, 512)], (8192, 8192), 3),
        # As slides are: 4, 16 and 32 px.
        ([(40000, 30001), (10000, 7500), (2500, 1875), (1250, 937)], (40000, 30001), 1),
        # A level of 2 px is hardly cheaper to read.
        ([(8192, 8192), (4096, 4096)], (8192, 8192), 0),
        ([(8192, 8192)], (8192, 8192), 0),
        # A pixel stands for four planes, too.
        ([(64, 8192, 8192), (16, 2048, 2048), (8, 1024, 1024)], (64, 8192, 8192), 1),
        # Seen at half size by --rescale, cells are half as large.
        ([(8192, 8192), (2048, 2048), (1024, 1024), (512, 512)], (4096, 4096), 3),
    ],
)
def test_the_level_that_still_shows_the_smallest_cell_decides(shapes, seen, level):
    levels = tuple(PyramidLevel(shape, (1.0,) * len(shape), (0.0,) * len(shape)) for shape in shapes)
    data = np.broadcast_to(np.uint8(0), (1, *shapes[0]))
    assert glass_level(ImageVolume(data, "CZYX" if len(seen) == 3 else "CYX", levels=levels), seen) == level


class Counted:
    """A level of a pyramid on a disk; counts the times it is read."""

    def __init__(self, pixels):
        self.pixels, self.shape, self.dtype, self.ndim, self.n_read = (
            pixels,
            pixels.shape,
            pixels.dtype,
            pixels.ndim,
            0,
        )

    def __getitem__(self, key):
        self.n_read += 1
        return self.pixels[key]

    def __array__(self, dtype=None, copy=None):
        return self[...]


def _pyramid(full, n_levels):
    """Levels of half the size each, by averaging; the way to open them; and what counts how often each is read."""
    levels = [full]
    for _ in range(n_levels - 1):
        c, y, x = levels[-1].shape
        levels.append(levels[-1].reshape(c, y // 2, 2, x // 2, 2).mean(axis=(2, 4), dtype=np.float32))
    kept = [Counted(level) for level in levels]
    places = tuple(PyramidLevel(one.shape[1:], (1.0, 1.0), (0.0, 0.0)) for one in kept)
    image = ImageVolume(kept[0], "CYX", levels=places)
    return image, lambda below: ImageVolume(kept[below], "CYX") if below else None, kept


@pytest.mark.parametrize("seed", range(4))
def test_the_lowest_level_spares_looking_closer_and_decides_nothing_by_itself(seed):
    """Levels of 8 px, where cells show, and of 32 px, where single ones hardly do; tissue in some of the blocks."""
    rng = np.random.default_rng(seed)
    full = rng.normal(100, 2, (1, 4096, 4096)).astype(np.float32)
    grid, around = BlockGrid((4096, 4096), (512, 512)), (32, 32)
    tissue = rng.random(len(grid)) < 0.1
    for k in np.flatnonzero(tissue):
        full[:, *grid.box(k)] = 100 + 80 * (rng.random((512, 512)) < 0.5)
    y, x = rng.integers(0, 4096 - 9, 2)
    full[:, y : y + 9, x : x + 9] += 80
    cell = {
        k for k in range(len(grid)) if all(s.start <= p < s.stop for s, p in zip(grid.box(k), (y, x), strict=True))
    }
    image, open_level, kept = _pyramid(full, 6)
    intensity = Intensity((0.0,), (255.0,))
    glance = glance_at(image, open_level, grid, around, intensity)
    alone = Glance(open_level(3), grid, around, intensity)
    before = kept[3].n_read
    known = {k for k in range(len(grid)) if glance(k) is not None}
    assert known <= {k for k in range(len(grid)) if alone(k) is not None}
    assert not known & (cell | set(np.flatnonzero(tissue)))
    shown = tissue | np.isin(np.arange(len(grid)), sorted(cell))
    assert known >= set(np.flatnonzero(~ndimage.binary_dilation(shown.reshape(8, 8), np.ones((3, 3)))))
    assert known
    assert kept[5].n_read == 1
    assert kept[0].n_read == 0
    assert kept[3].n_read - before <= 2  # a group of blocks, and the same again for `alone`


def test_where_all_is_tissue_no_block_is_looked_at_twice():
    full = 255 * (np.random.default_rng(0).random((1, 2048, 2048)) < 0.5).astype(np.float32)
    full[:, ::64, :] = 0
    image, open_level, kept = _pyramid(full, 6)
    grid = BlockGrid((2048, 2048), (512, 512))
    glance = glance_at(image, open_level, grid, (32, 32), Intensity((0.0,), (255.0,)))
    assert all(glance(k) is None for k in range(len(grid)))
    assert [level.n_read for level in kept] == [0, 0, 0, 0, 0, 1]


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """A slide whose glass is grey and noisy, cells in one corner; the model that finds them."""
    folder = tmp_path_factory.mktemp("glass")
    pixels = np.random.default_rng(0).normal(30, 2, (1, 1024, 1024)).round().astype(np.uint8)
    y, x = np.mgrid[:1024, :1024]
    for cell_y, cell_x in ((60, 60), (72, 66), (150, 200), (200, 120)):
        pixels[0, np.hypot(y - cell_y, x - cell_x) < 8] = 220
    path = folder / "slide.zarr"
    write_ome_zarr(path, pixels, "CYX", (0.5, 0.5), kind="image", n_levels=4)
    return path, open_model(write_model(folder / "m.onnx", metadata(2, segmenter_parameters=OBJECTS)))


def _labels(path, model, **options):
    job, _ = segment(path, model, block_px=(128,), overwrite=True, **options)
    return np.asarray(open_image(job.labels).data), json.loads(job.provenance.read_text())["blocks"]["empty"]


def test_glass_is_not_read_at_full_size_and_labels_are_the_same(slide, monkeypatch):
    path, model = slide
    monkeypatch.setattr(ome_zarr_read, "LAZY_BYTES", 1000)
    expected, _ = _labels(path, model, skip_empty=False)
    assert expected.max() >= 3
    read = []
    real = steps.read_padded
    monkeypatch.setattr(steps, "read_padded", lambda data, window: (read.append(window), real(data, window))[1])
    labels, n_empty = _labels(path, model)
    np.testing.assert_array_equal(labels, expected)
    assert n_empty >= 50
    assert len(read) == 64 - n_empty


def test_a_pyramid_that_was_never_filled_hides_no_cell(slide, tmp_path, monkeypatch):
    path, model = slide
    monkeypatch.setattr(ome_zarr_read, "LAZY_BYTES", 1000)
    bare = shutil.copytree(path, tmp_path / "bare.zarr")
    for level in "123":
        for chunk in (bare / level).rglob("[0-9]*"):
            if chunk.is_file():
                chunk.unlink()
    expected, n_empty = _labels(path, model)
    labels, n = _labels(bare, model)
    np.testing.assert_array_equal(labels, expected)
    assert n == n_empty
