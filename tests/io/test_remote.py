"""Images behind a URL, from a real server on this computer."""

import logging
import pickle

import numpy as np
import pytest
from PIL import Image

from cellscribble.core.errors import FileFormatError, InputError, MissingExtraError, RemoteError
from cellscribble.io import ome_zarr_read, remote
from cellscribble.io.images import count_pixels, image_name, open_image
from cellscribble.io.ome_zarr import write_ome_zarr
from cellscribble.io.ome_zarr_read import metadata_sha256
from cellscribble.io.remote import is_url
from tests.io.http_folder import serve

WEB = pytest.mark.parametrize("version", ["0.4", "0.5"])


@pytest.fixture
def served(tmp_path, monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(remote, "WAITS_S", (0.05, 0.05, 0.05, 0.05))
    with serve(tmp_path) as server:
        yield server


def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 250, (2, 700, 1100), dtype=np.uint8)


@WEB
@pytest.mark.parametrize("lazy_bytes", [0, 1 << 30])
def test_an_image_at_a_url_is_the_image_on_the_disk(served, monkeypatch, version, lazy_bytes):
    monkeypatch.setattr(ome_zarr_read, "LAZY_BYTES", lazy_bytes)
    path = served.folder / "slide.zarr"
    write_ome_zarr(path, pixels(), "CYX", (0.5, 0.25), kind="image", channel_names=("a", "b"), version=version)
    for url in (f"{served.url}/slide.zarr", f"{served.url}/slide.zarr/"):
        far, near = open_image(url, level=1), open_image(path, level=1)
        np.testing.assert_array_equal(far.data[:, 3:200, ::2], near.data[:, 3:200, ::2])
        assert (far.axes, far.pixel_size_um, far.channel_names, far.levels, far.name) == (
            near.axes, near.pixel_size_um, near.channel_names, near.levels, "slide",
        )  # fmt: skip
        np.testing.assert_array_equal(open_image(url).data[:], pixels())
    assert metadata_sha256(f"{served.url}/slide.zarr") == metadata_sha256(path)
    again = pickle.loads(pickle.dumps(open_image(f"{served.url}/slide.zarr")))
    np.testing.assert_array_equal(again.data[:, :9, :9], pixels()[:, :9, :9])


@WEB
def test_the_head_of_each_level_is_read_once(served, monkeypatch, version):
    monkeypatch.setattr(ome_zarr_read, "LAZY_BYTES", 0)
    write_ome_zarr(served.folder / "slide.zarr", pixels(), "CYX", (0.5, 0.25), kind="image", version=version)
    image = open_image(f"{served.url}/slide.zarr")
    head = ".zarray" if version == "0.4" else "zarr.json"
    heads = [f"/slide.zarr/{level}/{head}" for level in range(len(image.levels))]
    assert len(heads) > 1
    assert sorted(path for path in served.asked if path in heads) == heads


def test_a_server_that_sends_whole_files_only_serves_shards_too(served, monkeypatch):
    monkeypatch.setattr(ome_zarr_read, "LAZY_BYTES", 0)
    write_ome_zarr(served.folder / "slide.zarr", pixels(), "CYX", kind="image", version="0.5")
    served.ranges = False
    data = open_image(f"{served.url}/slide.zarr").data
    np.testing.assert_array_equal(data[:, 600:, 500:520], pixels()[:, 600:, 500:520])


def test_a_connection_that_drops_is_tried_again_and_that_is_said_once(served, caplog):
    write_ome_zarr(served.folder / "slide.zarr", pixels(), "CYX", kind="image")
    served.drops = 4
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(open_image(f"{served.url}/slide.zarr").data, pixels())
    assert sum("dropped" in record.getMessage() for record in caplog.records) == 1


def test_a_server_that_is_gone_is_named_with_what_to_do(served):
    served.gone = True
    with pytest.raises(RemoteError, match=r"no connection to http://127.0.0.1.*tried 5 times.*same command again"):
        open_image(f"{served.url}/slide.zarr")
    assert len(served.asked) >= 5


def test_nothing_at_a_url_is_no_image_and_no_lost_connection(served):
    with pytest.raises(InputError, match=r"no image at http://127.0.0.1.*slide.zarr"):
        open_image(f"{served.url}/slide.zarr")


@WEB
def test_a_chunk_that_is_not_there_is_background_and_a_damaged_one_is_named(served, version):
    path = served.folder / "slide.zarr"
    write_ome_zarr(path, pixels(), "CYX", kind="image", n_levels=1, version=version)
    chunk = "0/1/0/0" if version == "0.4" else "0/c/1/0/0"
    (path / chunk).unlink()
    data = open_image(f"{served.url}/slide.zarr").data
    assert not data[1, :512, :512].any()
    np.testing.assert_array_equal(data[0], pixels()[0])
    (path / chunk).write_bytes(b"nonsense")
    with pytest.raises(FileFormatError, match=rf"slide.zarr/{chunk} cannot be unpacked"):
        open_image(f"{served.url}/slide.zarr")


@WEB
def test_a_chunk_that_was_lost_is_named_where_the_pyramid_shows_something(served, version):
    path = served.folder / "slide.zarr"
    write_ome_zarr(path, pixels(), "CYX", kind="image", version=version)
    chunk = "0/1/0/0" if version == "0.4" else "0/c/1/0/0"
    (path / chunk).unlink()
    with pytest.raises(FileFormatError, match=rf"slide.zarr/{chunk} is missing"):
        open_image(f"{served.url}/slide.zarr")


@pytest.mark.parametrize("name", ["rgb.png", "palette.png", "grey.jpg", "sixteen.png"])
def test_a_picture_behind_a_url_is_that_of_the_disk(served, name):
    picture = Image.fromarray(np.arange(40 * 50 * 3, dtype=np.uint8).reshape(40, 50, 3))
    mode = {"rgb.png": "RGB", "palette.png": "P", "grey.jpg": "L", "sixteen.png": "I;16"}[name]
    (picture.convert("L").convert(mode) if mode == "I;16" else picture.convert(mode)).save(served.folder / name)
    found, expected = open_image(f"{served.url}/{name}"), open_image(served.folder / name)
    np.testing.assert_array_equal(found.data, expected.data)
    assert (found.axes, found.name, found.origin) == (expected.axes, expected.name, expected.origin)
    assert count_pixels(f"{served.url}/{name}") == 2000


def test_no_picture_behind_a_url_and_a_damaged_one_are_named(served):
    with pytest.raises(InputError, match=r"^no image at http://127.0.0.1.*cells.png"):
        open_image(f"{served.url}/cells.png")
    (served.folder / "cells.png").write_bytes(b"nonsense")
    with pytest.raises(FileFormatError, match=r"http://127.0.0.1.*cells.png cannot be read as a picture"):
        open_image(f"{served.url}/cells.png")
    with pytest.raises(InputError, match="no pyramid level 1"):
        open_image(f"{served.url}/cells.png", level=1)


def test_an_unknown_kind_of_address_and_a_missing_package_say_what_to_do():
    with pytest.raises(RemoteError, match="no address"):
        open_image("gopher://host/slide.zarr")
    try:
        import gcsfs  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match=r"pip install 'cellscribble\[remote\]'"):
            open_image("gs://bucket/slide.zarr")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("https://h/a/s.zarr", True), ("s3://b/s.zarr", True), ("C:/a/s.zarr", False), ("a/s.zarr", False)],
)
def test_what_a_url_is(text, expected):
    assert is_url(text) is expected


@pytest.mark.parametrize(
    ("url", "name"),
    [("https://h/a/s.ome.zarr/", "s"), ("https://h/a/s.2.zarr?version=1", "s.2"), ("s3://bucket/plain", "plain")],
)
def test_an_image_at_a_url_is_named_after_its_folder(url, name):
    assert image_name(url) == name


def error_of(module: str, *names: str) -> Exception:
    """An error whose class and its bases are called so, as those of a package that is not installed here."""
    kind: type[Exception] = Exception
    for name in names:
        kind = type(name, (kind,), {"__module__": module})
    return kind()


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (error_of("botocore.exceptions", "BotoCoreError", "ConnectionError", "EndpointConnectionError"), True),
        (error_of("botocore.exceptions", "BotoCoreError", "HTTPClientError", "ConnectionClosedError"), True),
        (error_of("botocore.exceptions", "BotoCoreError", "NoCredentialsError"), False),
        (error_of("aiohttp.client_exceptions", "ClientError", "ServerDisconnectedError"), True),
        (ConnectionResetError(), True),
        (PermissionError(), False),
        (KeyError("a"), False),
    ],
)
def test_lost_connections_are_tried_again_and_nothing_else(error, may_pass):
    assert remote._may_pass(error) is may_pass
