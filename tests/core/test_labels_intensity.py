import numpy as np
import pytest

from cellscribble.core import intensity
from cellscribble.core.errors import InputError
from cellscribble.core.intensity import Intensity, IntensityRule, fit_intensity
from cellscribble.core.labels import from_file, label_dtype, to_file
from cellscribble.core.volume import ImageVolume


def test_file_zero_is_unlabelled_and_one_is_background():
    memory = from_file(np.array([0, 1, 2, 3], np.uint8))
    np.testing.assert_array_equal(memory, [-1, 0, 1, 2])
    np.testing.assert_array_equal(to_file(memory), [0, 1, 2, 3])


def test_a_label_image_is_not_taken_for_scribbles():
    with pytest.raises(InputError, match="0 to 900"):
        from_file(np.array([0, 900], np.uint16))


@pytest.mark.parametrize(("n", "dtype"), [(65_535, np.uint16), (65_536, np.uint32)])
def test_labels_never_wrap(n, dtype):
    assert label_dtype(n) is dtype


def test_percentiles_make_two_exposures_of_one_scene_equal(rng):
    scene = rng.random((1, 64, 64))
    dim, bright = (ImageVolume((scene * gain + 7).astype(np.float32), "CYX") for gain in (10, 1000))
    rule = IntensityRule()
    a, b = (fit_intensity(image, rule).apply(image.data) for image in (dim, bright))
    np.testing.assert_allclose(a, b, atol=1e-3)


def test_rgb_colours_do_not_depend_on_the_rest_of_the_image():
    rule = IntensityRule("range")
    pale = np.full((3, 4, 4), 250, np.uint8)
    pale[0, 0, 0] = 120
    fitted = fit_intensity(ImageVolume(pale, "CYX", is_rgb=True), rule)
    assert fitted.apply(pale)[1, 1, 1] == pytest.approx(250 / 255)


def test_one_nan_is_named_with_its_remedy():
    data = np.ones((1, 4, 4), np.float32)
    data[0, 0, 0] = np.nan
    with pytest.raises(InputError, match="1 NaN"):
        fit_intensity(ImageVolume(data, "CYX", name="a"), IntensityRule())


def test_a_constant_image_is_refused():
    with pytest.raises(InputError, match="constant"):
        fit_intensity(ImageVolume(np.zeros((1, 4, 4), np.uint8), "CYX"), IntensityRule())


def test_sparse_spots_use_the_full_range():
    data = np.zeros((1, 100, 100), np.uint8)
    data[0, 5, 5] = 200
    assert fit_intensity(ImageVolume(data, "CYX"), IntensityRule()) == Intensity((0.0,), (200.0,))


class Counted:
    """An array that knows the most that was read of it at once, and which of its rows were."""

    def __init__(self, data):
        self.data, self.shape, self.dtype, self.ndim, self.most = data, data.shape, data.dtype, data.ndim, 0
        self.rows = np.zeros(self.shape[1], bool)

    def __getitem__(self, place):
        part = self.data[place]
        self.rows[place[1]] = True
        self.most = max(self.most, part.size)
        return part


@pytest.mark.parametrize("shape", [(1, 900, 700), (1, 30, 200, 160), (2, 3, 400, 300), (1, 40, 30, 20)])
@pytest.mark.parametrize("empty", [False, True])
def test_of_a_large_image_never_more_than_the_limit_is_read_at_once(monkeypatch, shape, empty, rng):
    """Also of a volume each of whose planes is larger than the limit."""
    monkeypatch.setattr(intensity, "MAX_SAMPLED_VALUES", 16_000)
    data = np.sort(rng.integers(0, 250, shape).astype(np.uint8), axis=-2)  # brighter further down
    if empty:
        data[:] = 3
        data[..., shape[-2] // 2 :, shape[-1] // 2 :] = 200
    counted = Counted(data)
    axes = "CYX" if len(shape) == 3 else "CZYX"
    fitted = fit_intensity(ImageVolume(counted, axes), IntensityRule("percentile", 1.0, 99.0))
    assert counted.most <= 16_000 * shape[0]
    if empty:
        assert fitted.low[0] == 3
        assert fitted.high[0] in (4.0, 200.0)
    else:
        expected = np.percentile(data.reshape(shape[0], -1), [1, 99], axis=1)
        np.testing.assert_allclose([fitted.low, fitted.high], expected, atol=12)


def test_slabs_lie_all_over_a_large_image_and_not_at_even_distances(monkeypatch):
    """Wells, spots and cores of tissue arrays lie at even distances; so that not all slabs meet the gaps."""
    monkeypatch.setattr(intensity, "MAX_SAMPLED_VALUES", 16_000)
    counted = [Counted(np.arange(1600 * 100, dtype=np.float32).reshape(1, 1600, 100)) for _ in range(2)]
    for one in counted:
        fit_intensity(ImageVolume(one, "CYX"), IntensityRule())
    assert (counted[0].rows == counted[1].rows).all()
    starts = np.flatnonzero(np.diff(counted[0].rows.astype(int), prepend=0) == 1)
    assert starts[0] < 100
    assert starts[-1] >= 1400
    assert len(set(np.diff(starts))) > 8


@pytest.mark.parametrize("shape", [(3, 700, 300), (2, 100, 60, 60)])
def test_cells_beside_all_slabs_of_an_almost_empty_image_are_found(monkeypatch, shape):
    monkeypatch.setattr(intensity, "MAX_SAMPLED_VALUES", 20_000)
    data = np.full(shape, 7, np.uint8)
    axes = "CYX" if len(shape) == 3 else "CZYX"
    # Where the image is not empty no more is read than the slabs.
    counted = Counted(np.arange(data.size, dtype=np.float32).reshape(shape))
    fit_intensity(ImageVolume(counted, axes), IntensityRule())
    data[:, ~counted.rows, 20:60, ...] = 200
    assert counted.rows.any()
    assert (~counted.rows).sum() > 2
    data[0] = 7
    image = ImageVolume(data, axes)
    fitted = fit_intensity(image, IntensityRule())
    assert fitted.low == (7.0,) * shape[0]
    assert fitted.high == (8.0, *(200.0,) * (shape[0] - 1))  # a channel that is all one value becomes 0
    with pytest.raises(InputError, match="constant"):
        fit_intensity(image.with_data(data[:1]), IntensityRule())
