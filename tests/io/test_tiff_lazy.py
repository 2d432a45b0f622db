"""TIFFs that are read piece by piece."""

import pickle

import numpy as np
import pytest
import tifffile

from cellscribble.io import tiff_read
from cellscribble.io.images import count_pixels, open_image


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_pieces_of_a_large_tiff_are_those_of_the_whole(tmp_path, monkeypatch, compression, byteorder):
    pixels = np.random.default_rng(0).integers(0, 60_000, (3, 40, 50), np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, pixels, compression=compression, byteorder=byteorder, metadata={"axes": "CYX"}, photometric="minisblack"
    )
    monkeypatch.setattr(tiff_read, "LAZY_BYTES", 0)
    image = open_image(path)
    assert not isinstance(image.data, np.ndarray)
    for data in (image.data, pickle.loads(pickle.dumps(image.data))):
        np.testing.assert_array_equal(data[:, 5:30, 7:9], pixels[:, 5:30, 7:9])
        np.testing.assert_array_equal(np.asarray(data), pixels)


def test_pixels_are_counted_without_being_read(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 40, 50), np.uint8), metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((40, 50, 3), np.uint8), photometric="rgb")
    monkeypatch.setattr(tiff_read, "_read", lambda *_: pytest.fail("pixels were read"))
    assert count_pixels(tmp_path / "a.tif") == 5 * 40 * 50
    assert count_pixels(tmp_path / "b.tif") == 40 * 50
