"""Chunks of Zarr arrays of version 2 in a folder, read and written as Zarr does it, without its machinery.

Zarr hands each chunk through an event loop and two threads, which takes longer than packing or unpacking it.
"""

from __future__ import annotations

import itertools
import os
import secrets
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import LocalStore

from cellscribble.core.blocks import Slices, overlap, relative

MANY = 64
"""Chunks that are read by several threads: those of an image that is taken into memory whole. A block of one has
fewer, unless chunks are small, and several blocks are under way as it is."""

THREADS = min(4, os.cpu_count() or 1)

SOME = 61
"""One line of a chunk in so many is looked at first."""

KEPT_BYTES = 64 << 20
"""Of chunks that stay unpacked: those that the next blocks of an image see again."""


class _Kept:
    """The last chunks that were unpacked, up to `KEPT_BYTES`; thread-safe.

    A block of an image is read with what lies around it. Without them each chunk is unpacked for every block that
    sees some of it: four times, or nine, where blocks and chunks are alike in size.
    """

    def __init__(self) -> None:
        self._chunks: OrderedDict[tuple[Any, ...], bytes] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()

    def unpack(self, path: Path, codec: Any) -> bytes:
        """What a codec makes of a file. Raises FileNotFoundError, and whatever the system and the codec have."""
        state = path.stat()
        key = (path, state.st_ino, state.st_mtime_ns, state.st_size)
        with self._lock:
            if key in self._chunks:
                self._chunks.move_to_end(key)
                return self._chunks[key]
        unpacked = _unpack(path, codec)
        with self._lock:
            if key not in self._chunks and len(unpacked) <= KEPT_BYTES:
                self._chunks[key] = unpacked
                self._n_bytes += len(unpacked)
            while self._n_bytes > KEPT_BYTES:
                self._n_bytes -= len(self._chunks.popitem(last=False)[1])
        return unpacked


_kept = _Kept()


def read_chunks(array: zarr.Array[Any], window: Slices) -> npt.NDArray[Any]:
    """``array[window]``, each slice with a start and a stop within the array.

    Raises
    ------
    Exception
        Of whatever kind the system and the codec have for a chunk that cannot be read.
    """
    if not _is_plain(array):
        return np.asarray(array[window])
    out = np.empty([s.stop - s.start for s in window], array.dtype)
    chunks, codec = list(_chunks(array, window)), _codec(array)
    many = len(chunks) >= MANY

    def read(path: Path, box: Slices) -> None:
        common = overlap(box, window)
        try:
            unpacked = _unpack(path, codec) if many or codec is None else _kept.unpack(path, codec)
        except FileNotFoundError:
            out[relative(common, window)] = array.metadata.fill_value or 0
            return
        chunk = np.frombuffer(unpacked, array.dtype).reshape(array.chunks)
        out[relative(common, window)] = chunk[relative(common, box)]

    if not many:
        for path, box in chunks:
            read(path, box)
        return out
    with ThreadPoolExecutor(THREADS) as executor:
        for done in [executor.submit(read, *chunk) for chunk in chunks]:
            done.result()
    return out


def write_chunks(array: Any, place: Slices, values: npt.NDArray[Any]) -> None:
    """``array[place] = values``, with the same files and the same bytes.

    A chunk appears when it is whole; one that holds nothing but the fill value has no file. What does not begin and
    end with chunks is left to Zarr.

    Raises
    ------
    OSError
        If the system refuses to write.
    """
    if not (_is_plain(array) and _on_chunks(array, place)):
        array[place] = values
        return
    values, fill = np.asarray(values, array.dtype), array.metadata.fill_value or 0
    for path, box in _chunks(array, place):
        common = overlap(box, place)
        chunk = values[relative(common, place)]
        # Most are told by some of their lines.
        if (chunk[..., ::SOME, :] == fill).all() and (chunk == fill).all():
            path.unlink(missing_ok=True)
            continue
        if chunk.shape != array.chunks:
            part, chunk = chunk, np.full(array.chunks, fill, array.dtype)
            chunk[relative(common, box)] = part
        chunk = np.ascontiguousarray(chunk)
        codec = _codec(array)
        _write(path, chunk.tobytes() if codec is None else codec.encode(chunk))


def _unpack(path: Path, codec: Any) -> bytes:
    packed = path.read_bytes()
    return packed if codec is None else codec.decode(packed)


def _is_plain(array: Any) -> bool:
    """Whether a chunk is a file, packed by one codec at most."""
    return (
        isinstance(array, zarr.Array)
        and array.metadata.zarr_format == 2
        and isinstance(array.store_path.store, LocalStore)
        and not array.metadata.filters
        and array.metadata.order == "C"
        and array.dtype.kind in "biuf"
    )


def _codec(array: Any) -> Any:
    return array.metadata.compressor


def _on_chunks(array: zarr.Array[Any], place: Slices) -> bool:
    sizes = zip(place, array.chunks, array.shape, strict=True)
    return all(s.start % size == 0 and (s.stop % size == 0 or s.stop == n) for s, size, n in sizes)


def _chunks(array: zarr.Array[Any], window: Slices) -> Iterator[tuple[Path, Slices]]:
    """The chunks that a window meets: their files, and where they lie."""
    store = array.store_path.store
    assert isinstance(store, LocalStore)
    folder = Path(store.root, array.path)
    ranges = [range(s.start // size, -(-s.stop // size)) for s, size in zip(window, array.chunks, strict=True)]
    for at in itertools.product(*ranges):
        box = tuple(slice(a * size, (a + 1) * size) for a, size in zip(at, array.chunks, strict=True))
        yield folder / array.metadata.encode_chunk_key(at), box


def _write(path: Path, packed: bytes) -> None:
    # As zarr itself names them: what a killed process leaves is known by it and removed (`engine.publish`).
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(16)}.partial")
    try:
        try:
            temporary.write_bytes(packed)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(packed)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
