import numpy as np
import pytest

from cellscribble.core.errors import InputError, ModelError
from cellscribble.core.volume import ImageVolume
from cellscribble.infer import fit
from cellscribble.infer.fit import check_fit, resample_image, resample_labels, resample_probability
from tests.infer.analytic import metadata


def image(n_channels=1, size=None, axes="CYX", **more):
    shape = (n_channels, 8, 10) if axes == "CYX" else (n_channels, 4, 8, 10)
    return ImageVolume(np.zeros(shape, np.uint8), axes, size, "a", **more)


def test_an_image_like_the_training_images_fits_silently():
    meta = metadata(pixel_size_um=(0.5, 0.45))
    assert check_fit(image(size=(0.5, 0.5)), meta) == fit.Fit(meta)


def test_wrong_channels_name_both_sides_and_the_remedy():
    with pytest.raises(ModelError, match=r"expects 1 channel \(DAPI\), image 'a' has 3 \(RGB\): .*8-bit"):
        check_fit(image(3, is_rgb=True), metadata())
    with pytest.raises(ModelError, match=r"has 1 \(unnamed\): .*RGB Color"):
        check_fit(image(1), metadata(2, 3, is_rgb=True))
    with pytest.raises(ModelError, match=r"expects 2 channels \(DAPI, GFP\), .* in this order"):
        check_fit(image(3), metadata(2, 2))


def test_wrong_dimensions_say_what_to_do():
    with pytest.raises(ModelError, match=r"2D images .* is 3D .* --planes"):
        check_fit(image(axes="CZYX"), metadata(2))
    with pytest.raises(ModelError, match=r"3D images .* is 2D .* --axes"):
        check_fit(image(), metadata(3))


@pytest.mark.parametrize(("have", "fits"), [(0.6, True), (0.61, False), (0.42, True), (0.41, False)])
def test_pixel_sizes_may_differ_by_a_fifth(have, fits):
    meta = metadata(pixel_size_um=(0.5, 0.5))
    if fits:
        assert check_fit(image(size=(0.5, have)), meta) == fit.Fit(meta)
        return
    with pytest.raises(ModelError, match=r"trained on 0\.5 x 0\.5 µm; --rescale .* --ignore-pixel-size"):
        check_fit(image(size=(0.5, have)), meta)


def test_rescale_gives_the_shape_for_the_network_and_ignore_leaves_it():
    meta = metadata(pixel_size_um=(0.5, 0.5))
    found = check_fit(image(size=(1.0, 0.25)), meta, rescale=True)
    assert found.shape == (16, 5)
    assert "resampled" in found.notes[0]
    assert check_fit(image(size=(1.0, 0.25)), meta, ignore_pixel_size=True).shape is None


@pytest.mark.parametrize(("have", "want"), [(None, (0.5, 0.5)), ((0.5, 0.5), None)])
def test_an_unknown_pixel_size_is_said_and_cannot_be_rescaled(have, want):
    meta = metadata(pixel_size_um=want)
    assert "does not say its pixel size" in check_fit(image(size=have), meta).notes[0]
    with pytest.raises(InputError, match="needs both pixel sizes"):
        check_fit(image(size=have), meta, rescale=True)


def test_contradicting_options_are_refused():
    with pytest.raises(InputError, match="exclude each other"):
        check_fit(image(), metadata(), rescale=True, ignore_pixel_size=True)


def test_an_image_too_large_to_resample_points_to_the_pyramid(monkeypatch):
    monkeypatch.setattr(fit, "MAX_RESAMPLED_BYTES", 100)
    with pytest.raises(InputError, match="--level"):
        check_fit(image(size=(1.0, 1.0)), metadata(pixel_size_um=(0.5, 0.5)), rescale=True)


def test_other_channel_names_are_said():
    found = check_fit(image(channel_names=("GFP",)), metadata())
    assert found.notes[0] == "channels are called GFP; the model was trained on DAPI"
    assert "RGB" in check_fit(image(3, is_rgb=True), metadata(2, 3)).notes[0]


def test_a_resampled_image_keeps_dtype_range_and_extent():
    source = ImageVolume(np.full((3, 8, 10), 250, np.uint8), "CYX", (1.0, 1.0), "a", is_rgb=True)
    out = resample_image(source, (16, 5))
    assert out.data.shape == (3, 16, 5)
    assert out.data.dtype == np.uint8
    assert (out.data == 250).all()
    assert out.pixel_size_um == (0.5, 2.0)


def test_resampled_labels_are_the_labels_under_the_pixel_centres():
    labels = np.array([[1, 1, 2, 2], [1, 1, 2, 2]], np.uint16)
    np.testing.assert_array_equal(resample_labels(labels, (1, 2), consecutive=True), [[1, 2]])
    big = np.kron(labels, np.ones((3, 3), np.uint16))
    np.testing.assert_array_equal(resample_labels(big, (2, 4), consecutive=True), labels)


def test_objects_that_fall_between_pixels_leave_no_gap_in_the_numbers():
    labels = np.array([[1, 2, 2, 3]], np.uint16)
    np.testing.assert_array_equal(resample_labels(labels, (1, 2), consecutive=True), [[1, 2]])
    np.testing.assert_array_equal(resample_labels(labels, (1, 2), consecutive=False), [[2, 3]])


def test_resampled_probability_sums_to_one(rng):
    p = rng.random((8, 10), np.float32)
    out = resample_probability(np.stack([1 - p, p]), (13, 7))
    np.testing.assert_allclose(out.sum(axis=0), 1, atol=1e-5)
