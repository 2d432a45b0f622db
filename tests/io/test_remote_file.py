"""TIFFs and slides behind a URL, from a real server on this computer."""

import logging
import pickle

import numpy as np
import pytest
import tifffile

from cellscribble.core.errors import FileFormatError, InputError, RemoteError
from cellscribble.engine.zarr_job import fingerprint
from cellscribble.io import remote, remote_file, tiff_read
from cellscribble.io.images import count_pixels, level_pixel_sizes, open_image
from cellscribble.io.remote_file import RemoteFile
from cellscribble.io.tiff_pyramid import save_tiff_pyramid
from tests.io.http_folder import serve


@pytest.fixture
def served(tmp_path, monkeypatch):
    pytest.importorskip("aiohttp")
    for module in (remote, remote_file):
        monkeypatch.setattr(module, "WAITS_S", (0.05, 0.05, 0.05, 0.05))
    with serve(tmp_path) as server:
        yield server


@pytest.fixture
def slide(served):
    pixels = np.random.default_rng(3).integers(0, 250, (2, 1500, 2100), dtype=np.uint8)
    levels = [pixels[:, ::step, ::step] for step in (1, 2, 4)]
    save_tiff_pyramid(served.folder / "slide.ome.tif", levels, "CYX", (0.5, 0.25), ("a", "b"))
    return pixels


@pytest.mark.parametrize("lazy_bytes", [0, 1 << 30])
def test_a_slide_at_a_url_is_the_slide_on_the_disk(served, slide, monkeypatch, lazy_bytes):
    monkeypatch.setattr(tiff_read, "LAZY_BYTES", lazy_bytes)
    url, path = f"{served.url}/slide.ome.tif", served.folder / "slide.ome.tif"
    for level in (0, 2):
        far, near = open_image(url, level=level), open_image(path, level=level)
        np.testing.assert_array_equal(far.data[:, 3:200, 5:100], near.data[:, 3:200, 5:100])
        assert (far.axes, far.pixel_size_um, far.channel_names, far.levels, far.name, far.origin) == (
            near.axes, near.pixel_size_um, near.channel_names, near.levels, "slide", near.origin,
        )  # fmt: skip
    np.testing.assert_array_equal(open_image(url).data[:], slide)
    again = pickle.loads(pickle.dumps(open_image(url)))
    np.testing.assert_array_equal(again.data[:, :9, :9], slide[:, :9, :9])
    assert count_pixels(url) == count_pixels(path)
    assert level_pixel_sizes(url) == level_pixel_sizes(path)


def test_a_part_of_a_slide_takes_a_part_of_the_file(served, slide, monkeypatch):
    monkeypatch.setattr(tiff_read, "LAZY_BYTES", 0)
    monkeypatch.setattr(remote_file, "PIECE", 1 << 14)
    data = open_image(f"{served.url}/slide.ome.tif").data
    opening = len(served.asked)
    np.testing.assert_array_equal(data[:1, 1100:1200, 1100:1200], slide[:1, 1100:1200, 1100:1200])
    n_pieces = (served.folder / "slide.ome.tif").stat().st_size >> 14
    assert opening < n_pieces / 4
    assert len(served.asked) - opening < n_pieces / 4


def test_a_plain_tiff_at_a_url_is_read(served):
    pixels = np.arange(2000, dtype=np.uint16).reshape(40, 50)
    tifffile.imwrite(served.folder / "plain.tif", pixels)
    for lazy in (False, True):
        np.testing.assert_array_equal(open_image(f"{served.url}/plain.tif", lazy=lazy).data[0, 7:, 3:], pixels[7:, 3:])


def test_a_connection_that_drops_is_tried_again_and_then_ends(served, slide, caplog):
    url = f"{served.url}/slide.ome.tif"
    served.drops = 2
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(open_image(url).data[:], slide)
    assert len([r for r in caplog.records if "dropped" in r.message]) == 1
    data = open_image(url, lazy=True).data
    served.gone = True
    with pytest.raises(RemoteError, match=r"no connection to .*goes on where it ended"):
        data[:, 1000:1100, 1000:1100]


def test_what_cannot_be_read_is_told(served, slide):
    with pytest.raises(InputError, match=r"no image at .*none\.tif"):
        open_image(f"{served.url}/none.tif")
    (served.folder / "short.tif").write_bytes((served.folder / "slide.ome.tif").read_bytes()[:100_000])
    with pytest.raises(FileFormatError, match=r"short\.tif"):
        open_image(f"{served.url}/short.tif")
    served.ranges = False
    with pytest.raises(RemoteError, match="whole files only"):
        open_image(f"{served.url}/slide.ome.tif")


def test_another_file_at_the_url_is_noticed(served, slide):
    url = f"{served.url}/slide.ome.tif"
    before = fingerprint(url)
    assert fingerprint(url) == before
    tifffile.imwrite(served.folder / "slide.ome.tif", slide[0])
    assert fingerprint(url) != before


def test_reads_are_those_of_the_file(served):
    content = np.random.default_rng(0).bytes(3 * remote_file.PIECE + 17)
    (served.folder / "any").write_bytes(content)
    with RemoteFile(f"{served.url}/any") as file:
        for start, n in ((0, 9), (remote_file.PIECE - 3, 8), (len(content) - 4, 99), (len(content) + 5, 3)):
            file.seek(start)
            assert file.read(n) == content[start : start + n]
        assert file.seek(-5, 2) == len(content) - 5
        assert file.read() == content[-5:]
