"""Segmenting an image behind a URL, whatever its server does meanwhile."""

import json

import pytest

from cellscribble.core.errors import RemoteError
from cellscribble.engine import steps
from cellscribble.io import ome_zarr_read, remote
from tests.engine.test_zarr_job import chunks, picture, segment, write
from tests.io.http_folder import serve

# Fixtures are imported under their own names.

BLOCKS = {"block_px": (64,)}


@pytest.fixture
def served(tmp_path, monkeypatch):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(ome_zarr_read, "LAZY_BYTES", 0)
    monkeypatch.setattr(remote, "WAITS_S", (0.05, 0.05, 0.05, 0.05))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write(tmp_path, picture((600, 700), 11))
    with serve(tmp_path) as server:
        yield server


def test_a_url_gives_the_labels_of_the_file_in_the_current_folder(models, served, tmp_path):
    near, _ = segment(tmp_path / "slide.zarr", models[2], **BLOCKS)
    far, _ = segment(f"{served.url}/slide.zarr", models[2], **BLOCKS)
    assert far.labels.resolve() == tmp_path / "here" / "slide_labels.zarr"
    assert chunks(far.labels) == chunks(near.labels)
    assert json.loads(far.provenance.read_text())["image"]["path"] == f"{served.url}/slide.zarr"


def test_connections_that_drop_now_and_then_change_nothing(models, served, tmp_path, monkeypatch):
    near, _ = segment(tmp_path / "slide.zarr", models[2], **BLOCKS)
    read = steps.See.read

    def drops(self, k):
        if k % 8 == 0:  # several blocks are read at once, and none gives up before its fifth try
            served.drops = 2
        return read(self, k)

    monkeypatch.setattr(steps.See, "read", drops)
    far, _ = segment(f"{served.url}/slide.zarr", models[2], **BLOCKS)
    assert chunks(far.labels) == chunks(near.labels)


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_a_server_that_dies_ends_the_run_and_when_it_is_back_the_run_goes_on(
    models, served, tmp_path, monkeypatch, on_error
):
    near, _ = segment(tmp_path / "slide.zarr", models[2], **BLOCKS)
    url, write, seen = f"{served.url}/slide.zarr", steps.See.write, []

    def counted(self, look):
        word = write(self, look)
        seen.append(look.k)
        served.gone = served.gone or len(seen) >= 7
        return word

    monkeypatch.setattr(steps.See, "write", counted)
    with pytest.raises(RemoteError, match="same command again"):
        segment(url, models[2], on_error=on_error, **BLOCKS)
    assert (tmp_path / "here" / "slide_labels.unfinished").is_dir()
    with pytest.raises(RemoteError):  # still gone
        segment(url, models[2], on_error=on_error, **BLOCKS)
    n_before = len(seen)
    monkeypatch.setattr(steps.See, "write", lambda self, look: (seen.append(look.k), write(self, look))[1])
    served.gone = False
    far, _ = segment(url, models[2], on_error=on_error, **BLOCKS)
    assert chunks(far.labels) == chunks(near.labels)
    assert 7 <= n_before < len(seen)
    assert len(seen) - len(set(seen)) <= 3  # what was seen is not seen again, but for what was in flight
    assert not json.loads(far.provenance.read_text())["damaged"]
