import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from cellscribble.core.errors import InputError
from cellscribble.core.volume import ImageVolume
from cellscribble.io.pictures import (
    contact_sheet,
    heat,
    overlay_labels,
    overlay_scribbles,
    save_png,
    stroked_slice,
    to_rgb,
)


def test_grey_picture_uses_the_full_range_and_rgb_stays(rng):
    grey = to_rgb(ImageVolume(rng.integers(1000, 1200, (1, 40, 50)).astype(np.uint16), "CYX"))
    assert grey.shape == (40, 50, 3)
    assert grey.dtype == np.uint8
    assert (grey.min(), grey.max()) == (0, 255)
    assert (grey[..., 0] == grey[..., 2]).all()
    colour = rng.integers(0, 255, (3, 40, 50), dtype=np.uint8)
    shown = to_rgb(ImageVolume(colour, "CYX", is_rgb=True))
    np.testing.assert_array_equal(shown, np.moveaxis(colour, 0, -1))


@pytest.mark.parametrize("n_channels", [2, 3, 9])
def test_channels_have_colours_and_constant_images_no_warning(n_channels):
    data = np.zeros((n_channels, 8, 8), np.float32)
    assert to_rgb(ImageVolume(data, "CYX")).max() == 0
    data[0, 4] = 1
    data[1, :, 4] = 1
    shown = to_rgb(ImageVolume(data, "CYX"))
    assert tuple(shown[4, 0]) != tuple(shown[0, 4])
    assert shown[0, 0].max() == 0


def test_volume_shows_one_slice():
    data = np.zeros((1, 3, 8, 10), np.uint8)
    data[0, 2, 4] = 9
    assert to_rgb(ImageVolume(data, "CZYX")).max() == 0
    assert to_rgb(ImageVolume(data, "CZYX"), z=2).shape == (8, 10, 3)
    assert to_rgb(ImageVolume(data, "CZYX"), z=2).max() == 255
    scribbles = np.full((3, 8, 10), -1)
    scribbles[1, :2] = 0
    assert stroked_slice(scribbles) == 1


def test_outline_lies_on_the_objects_rim_and_touching_objects_differ():
    labels = np.zeros((9, 12), np.uint16)
    labels[2:7, 1:6], labels[2:7, 6:11] = 1, 2
    rgb = np.full((9, 12, 3), 20, np.uint8)
    shown = overlay_labels(rgb, labels)
    changed = (shown != rgb).any(axis=-1)
    assert not changed[4, 3]
    assert changed[2:7, 5].all()
    assert changed[2:7, 6].all()
    assert np.abs(shown[4, 5].astype(int) - shown[4, 6]).max() > 60
    # Beside them on the ground a dark line, no wider.
    beside = (labels == 0) & ndimage.binary_dilation(labels > 0)
    np.testing.assert_array_equal(changed & (labels == 0), beside)
    assert (shown[beside] == 0).all()


@pytest.mark.parametrize("ground", [0, 60, 128, 190, 255])
def test_an_outline_is_seen_on_any_ground(ground):
    """The line or the one beside it is far from the image in red, green or blue, for each of the colours."""
    labels = np.kron(np.arange(1, 97).reshape(8, 12), np.pad(np.ones((4, 4), int), 1))
    rgb = np.full((*labels.shape, 3), ground, np.uint8)
    distance = np.abs(overlay_labels(rgb, labels).astype(int) - ground).max(axis=-1)
    assert distance.reshape(8, 6, 12, 6).max(axis=(1, 3)).min() > 90


@pytest.mark.parametrize(("radius", "rim_px"), [(7, 1), (60, 5)])
def test_on_a_large_picture_rims_are_wide_but_a_cell_is_seen_inside_its_own(radius, rim_px):
    y, x = np.mgrid[-100:100, -100:100]
    labels = np.tile(y**2 + x**2 <= radius**2, (12, 12)).astype(np.uint16)
    rgb = np.full((*labels.shape, 3), 90, np.uint8)
    changed = (overlay_labels(rgb, labels) != rgb).any(axis=-1)
    assert changed[100, 100 : 100 + radius + 1].sum() == rim_px


def test_strokes_are_thick_and_keep_their_colours():
    scribbles = np.full((400, 400), -1)
    scribbles[100, 50:200], scribbles[300, 50:200] = 0, 1
    colors = ((0, 0, 255), (255, 0, 0))
    shown = overlay_scribbles(np.full((400, 400, 3), 90, np.uint8), scribbles, colors)
    assert [tuple(int(v) for v in shown[y, 100]) for y in (99, 101, 299)] == [colors[0], colors[0], colors[1]]
    with pytest.raises(InputError, match="class 1 but there are 1 colours"):
        overlay_scribbles(shown, scribbles, colors[:1])
    with pytest.raises(InputError, match=r"\(400, 400\) px but what is drawn on it is \(5, 5\)"):
        overlay_labels(shown, np.zeros((5, 5), int))


def test_heat_gets_brighter_with_probability():
    brightness = heat(np.linspace(0, 1, 50, dtype=np.float32)[None]).astype(int).sum(axis=-1)[0]
    assert (np.diff(brightness) >= 0).all()
    np.testing.assert_array_equal(heat(np.array([[0, 255]], np.uint8)), heat(np.array([[0.0, 1.0]])))


def test_contact_sheet_holds_pictures_of_any_size(tmp_path, rng):
    pictures = [
        ("a very long title " * 9, rng.integers(0, 255, (40, 90, 3), dtype=np.uint8)),
        ("b", np.zeros((900, 300, 3), np.uint8)),
        ("c", np.zeros((1, 1, 3), np.uint8)),
    ]
    sheet = contact_sheet(pictures, columns=2, tile_px=100)
    assert sheet.shape[1] == 2 * 110 + 10
    save_png(tmp_path / "a.png", sheet)
    with Image.open(tmp_path / "a.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), sheet)
    with pytest.raises(InputError, match="at least one"):
        contact_sheet([])
