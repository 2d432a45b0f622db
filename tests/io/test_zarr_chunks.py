"""Chunks without Zarr's machinery: what Zarr would have read and written, to the byte."""

from unittest.mock import patch

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from cellscribble.io.ome_zarr import create_ome_zarr
from cellscribble.io.zarr_chunks import _Kept, read_chunks, write_chunks

SHAPE, CHUNK = (2, 21, 30), (8, 16)


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def store(path, version):
    return create_ome_zarr(path, SHAPE, np.uint16, "CYX", kind="image", version=version, chunk_px=CHUNK)["0"]


@given(data=st.data(), version=st.sampled_from(["0.4", "0.5"]))
def test_files_and_pixels_are_those_of_zarr(tmp_path_factory, data, version):
    path = tmp_path_factory.mktemp("stores")
    ours, zarrs = store(path / "ours", version), store(path / "zarrs", version)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    for _ in range(3):
        # On chunks, beside them, or up to the end of the array; a chunk that becomes empty goes.
        step = data.draw(st.sampled_from([1, 8]))
        starts = [
            0,
            step * data.draw(st.integers(0, 20 // step)),
            2 * step * data.draw(st.integers(0, 29 // step // 2)),
        ]
        place = tuple(
            slice(low, data.draw(st.sampled_from([low + 1, min(low + 16, n), n])))
            for low, n in zip(starts, SHAPE, strict=True)
        )
        values = rng.integers(0, data.draw(st.sampled_from([1, 500])), [s.stop - s.start for s in place], np.uint16)
        write_chunks(ours, place, values)
        zarrs[place] = values
        np.testing.assert_array_equal(read_chunks(ours, place), values)
    assert files(path / "ours") == files(path / "zarrs")
    # One after the other, or by several threads.
    with patch("cellscribble.io.zarr_chunks.MANY", data.draw(st.sampled_from([1, 1000]))):
        np.testing.assert_array_equal(read_chunks(zarrs, tuple(slice(0, n) for n in SHAPE)), ours[...])


@pytest.mark.parametrize("compressor", [None, {"id": "zlib", "level": 1}])
def test_arrays_that_others_wrote_are_read(tmp_path, compressor):
    values = np.arange(35, dtype=">i2").reshape(5, 7) - 9
    array = zarr.create_array(
        str(tmp_path), shape=(5, 7), chunks=(2, 4), dtype=">i2", zarr_format=2, compressors=compressor, fill_value=-3
    )
    array[:4] = values[:4]
    expected = np.concatenate([values[:4], np.full((1, 7), -3)])
    found = read_chunks(array, (slice(1, 5), slice(2, 7)))
    np.testing.assert_array_equal(found, expected[1:5, 2:7])
    assert found.dtype == array.dtype


def test_a_damaged_chunk_is_an_error_whoever_reads_it(tmp_path):
    array = store(tmp_path / "s", "0.4")
    array[...] = np.random.default_rng(0).integers(0, 60000, SHAPE, np.uint16)
    chunk = sorted(p for p in (tmp_path / "s" / "0").rglob("*") if p.is_file() and not p.name.startswith("."))[3]
    chunk.write_bytes(chunk.read_bytes()[:9])
    for many in (1, 1000):
        with patch("cellscribble.io.zarr_chunks.MANY", many), pytest.raises(Exception):  # noqa: B017
            read_chunks(array, tuple(slice(0, n) for n in SHAPE))


def test_a_write_that_fails_leaves_no_file_behind(tmp_path):
    array = store(tmp_path / "store", "0.4")
    (tmp_path / "store" / "0" / "0").write_text("in the way of the folder of the first channel")
    with pytest.raises(OSError):
        write_chunks(array, (slice(0, 1), slice(0, 8), slice(0, 16)), np.ones((1, 8, 16), np.uint16))
    assert not list(tmp_path.rglob("*.partial"))


def test_what_is_kept_of_a_file_is_not_taken_for_what_it_became(tmp_path):
    array, whole = store(tmp_path / "s", "0.4"), tuple(slice(0, n) for n in SHAPE)
    for value in (1, 2):
        write_chunks(array, whole, np.full(SHAPE, value, np.uint16))
        assert np.unique(read_chunks(array, whole)).tolist() == [value]
        assert np.unique(read_chunks(array, whole)).tolist() == [value]


def test_kept_chunks_are_bounded(tmp_path):
    array, whole = store(tmp_path / "s", "0.4"), tuple(slice(0, n) for n in SHAPE)
    values = np.random.default_rng(0).integers(0, 60000, SHAPE, np.uint16)
    write_chunks(array, whole, values)
    with (
        patch("cellscribble.io.zarr_chunks.KEPT_BYTES", 3 * 2 * 8 * 16),
        patch("cellscribble.io.zarr_chunks._kept", _Kept()) as kept,
    ):
        for _ in range(2):
            np.testing.assert_array_equal(read_chunks(array, whole), values)
            assert sum(map(len, kept._chunks.values())) <= 3 * 2 * 8 * 16
