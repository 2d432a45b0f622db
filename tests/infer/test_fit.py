import numpy as np
import pytest

from cellscribble.core.errors import InputError, ModelError
from cellscribble.core.volume import ImageVolume
from cellscribble.infer import fit
from cellscribble.infer.fit import check_fit
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


def test_other_channel_names_are_said():
    found = check_fit(image(channel_names=("GFP",)), metadata())
    assert found.notes[0] == "channels are called GFP; the model was trained on DAPI"
    assert "RGB" in check_fit(image(3, is_rgb=True), metadata(2, 3)).notes[0]
