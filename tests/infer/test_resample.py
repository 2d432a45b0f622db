"""Images, probability and labels on another grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.transform import resize

from cellscribble.core.errors import InputError
from cellscribble.core.volume import ImageVolume
from cellscribble.infer import resample
from cellscribble.infer.resample import (
    close_gaps,
    missing,
    resample_image,
    resample_labels,
    resample_part,
    resample_probability,
    seen_as,
)


def labels_as(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return resample_labels(labels.__getitem__, labels.shape, shape, tuple(slice(0, n) for n in shape))


def test_an_image_too_large_to_resample_points_to_what_works(monkeypatch):
    monkeypatch.setattr(resample, "MAX_RESAMPLED_BYTES", 100)
    with pytest.raises(InputError, match=r"OME-Zarr.*--level"):
        resample_image(ImageVolume(np.zeros((1, 8, 8), np.uint8), "CYX", (1.0, 1.0)), (16, 16))


def test_a_resampled_image_keeps_dtype_range_and_extent():
    source = ImageVolume(np.full((3, 8, 10), 250, np.uint8), "CYX", (1.0, 1.0), "a", is_rgb=True)
    out = resample_image(source, (16, 5))
    assert out.data.shape == (3, 16, 5)
    assert out.data.dtype == np.uint8
    assert (out.data == 250).all()
    assert out.pixel_size_um == (0.5, 2.0)


def test_an_image_is_linear_between_its_pixels_and_smoothed_where_it_shrinks():
    ramp = np.tile(np.arange(8, dtype=np.float32), (4, 1))[None]
    found = resample_image(ImageVolume(ramp, "CYX", (1.0, 1.0)), (4, 16)).data
    np.testing.assert_allclose(found[0, 0], np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7))
    stripes = np.tile([0, 1], 200).astype(np.float32).reshape(1, 1, -1)
    # Each second pixel alone would be all 0 or all 1.
    assert np.ptp(resample_image(ImageVolume(stripes, "CYX", (1.0, 1.0)), (1, 50)).data[..., 2:-2]) < 0.01


@given(data=st.data())
def test_the_rule_is_that_of_scikit_image_and_a_part_of_it_is_that_of_the_whole(data):
    ndim = data.draw(st.sampled_from([2, 3]))
    old, new = (tuple(data.draw(st.integers(1, 40 if ndim == 2 else 16)) for _ in range(ndim)) for _ in "ab")
    smooth = data.draw(st.booleans())
    values = np.random.default_rng(data.draw(st.integers(0, 1000))).random(old, np.float32)
    whole = resample_part(values.__getitem__, old, new, tuple(slice(0, n) for n in new), smooth=smooth)
    expected = resize(values, new, order=1, mode="edge", preserve_range=True, anti_aliasing=smooth)
    np.testing.assert_allclose(whole, expected, atol=1e-5)
    box = []
    for n in new:
        start = data.draw(st.integers(0, n - 1))
        box.append(slice(start, data.draw(st.integers(start + 1, n))))
    part = resample_part(values.__getitem__, old, new, tuple(box), smooth=smooth)
    np.testing.assert_array_equal(part, whole[tuple(box)])


def test_an_image_that_is_seen_otherwise_reads_no_more_than_it_needs():
    class Watched:
        shape, dtype = (1, 1000, 1000), np.dtype(np.uint8)

        def __getitem__(self, key):
            self.asked = [s.stop - s.start for s in key]
            return np.zeros(self.asked, np.uint8)

    source = Watched()
    image = seen_as(ImageVolume(source, "CYX", (1.0, 1.0)), (500, 2000))
    assert image.data[:, 100:200, 40:60].shape == (1, 100, 20)
    assert source.asked[1] in range(200, 208)
    assert source.asked[2] in range(10, 14)


def test_resampled_labels_are_the_labels_under_the_pixel_centres():
    labels = np.array([[1, 1, 2, 2], [1, 1, 2, 2]], np.uint16)
    np.testing.assert_array_equal(labels_as(labels, (1, 2)), [[1, 2]])
    big = np.kron(labels, np.ones((3, 3), np.uint16))
    np.testing.assert_array_equal(labels_as(big, (2, 4)), labels)


def test_objects_that_fall_between_pixels_leave_no_gap_in_the_numbers():
    found = labels_as(np.array([[1, 2, 2, 3]], np.uint16), (1, 2))
    np.testing.assert_array_equal(found, [[2, 3]])
    lost = missing(3, [found])
    assert lost.tolist() == [1]
    np.testing.assert_array_equal(close_gaps(found, lost, 3), [[1, 2]])


def test_resampled_probability_sums_to_one(rng):
    p = rng.random((8, 10), np.float32)
    out = resample_probability(np.stack([1 - p, p]), (13, 7))
    np.testing.assert_allclose(out.sum(axis=0), 1, atol=1e-5)
