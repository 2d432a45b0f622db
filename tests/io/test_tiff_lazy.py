"""TIFFs that are read piece by piece."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellscribble.io import tiff_read
from cellscribble.io.images import count_pixels, level_pixel_sizes, open_image
from tests.io.ndpi import write_ndpi


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


def slide() -> list[np.ndarray]:
    """Three levels (Y, X, 3) uint8, smooth, so that JPEG changes little."""
    y, x = np.mgrid[:512, :768]
    waves = [127 + 120 * np.sin(y / a) * np.cos(x / b) for a, b in ((60, 90), (80, 50), (45, 70))]
    finest = np.stack(waves, axis=-1).astype(np.uint8)
    return [finest, finest[::2, ::2].copy(), finest[::4, ::4].copy()]


def write_slide(path: Path, kind: str, levels: list[np.ndarray]) -> None:
    if kind == "ndpi":
        write_ndpi(path, levels, 20_000)
        return
    more = {"tile": (128, 128), "photometric": "rgb", "metadata": None}
    with tifffile.TiffWriter(path, bigtiff=kind == "ome", ome=kind == "ome") as tiff:
        for number, level in enumerate(levels):
            if kind == "ome":
                own = {"subifds": 2, "metadata": {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}} if number == 0 else {}
                tiff.write(level, subfiletype=int(number > 0), compression="lzw", **(more | own))
                continue
            text = "Aperio Image Library v11\r\n768x512|AppMag = 20|MPP = 0.5"
            tiff.write(level, description=text, compression=kind, **more)
            if number == 0:  # as Aperio does it, the second picture is a thumbnail
                tiff.write(levels[2], photometric="rgb", metadata=None, description="Aperio Image Library v11")


@pytest.mark.parametrize(
    ("kind", "name"), [("ndpi", "a.ndpi"), ("jpeg", "a.svs"), ("jpeg2000", "a.svs"), ("ome", "a.ome.tif")]
)
def test_every_level_of_a_slide_is_read_piece_by_piece(tmp_path, monkeypatch, kind, name):
    levels, path = slide(), tmp_path / name
    write_slide(path, kind, levels)
    assert len(level_pixel_sizes(path)) == 3
    for number, level in enumerate(levels):
        monkeypatch.setattr(tiff_read, "LAZY_BYTES", 1 << 28)
        whole = open_image(path, level=number)
        monkeypatch.setattr(tiff_read, "LAZY_BYTES", 0)
        image = open_image(path, level=number)
        assert not isinstance(image.data, np.ndarray)
        assert image.pixel_size_um == pytest.approx((0.5 * 2**number,) * 2)
        assert (image.is_rgb, len(image.levels)) == (True, 0 if number == 2 else 3 - number)
        np.testing.assert_array_equal(image.data[:, 30:99, 60:151], whole.data[:, 30:99, 60:151])
        assert np.abs(whole.data.astype(int) - np.moveaxis(level, -1, 0)).mean() < 3
    assert max(image.data.chunks) < 512
