"""A slide as Hamamatsu's scanners write it: TIFF with 64-bit offsets, each level one JPEG that is found in parts."""

import io
import itertools
import struct
from pathlib import Path

import numpy as np
from PIL import Image

TILE_PX = 64, 8
"""Across and down: what lies between two restart marks of a JPEG."""


def jpeg_in_parts(pixels: np.ndarray) -> tuple[bytes, list[int]]:
    """A JPEG of (Y, X, 3) uint8, and where its parts begin in it."""
    file = io.BytesIO()
    # Without subsampling a row of units is 8 px high.
    Image.fromarray(pixels).save(
        file, "JPEG", quality=90, subsampling=0, restart_marker_blocks=TILE_PX[0] // 8, optimize=False
    )
    data = file.getvalue()
    scan = data.index(b"\xff\xda")
    first = scan + 2 + struct.unpack(">H", data[scan + 2 : scan + 4])[0]
    marks = [at for at in range(first, len(data) - 1) if data[at] == 0xFF and 0xD0 <= data[at + 1] <= 0xD7]
    return data, [first, *(at + 2 for at in marks)]


def write_ndpi(path: Path, levels: list[np.ndarray], per_cm: float) -> None:
    """Write levels (Y, X, 3) uint8, whose sides are multiples of `TILE_PX`; the finest has so many pixels a cm."""
    out = bytearray(b"II*\0" + bytes(8))
    link = 4
    for number, pixels in enumerate(levels):
        step = levels[0].shape[1] / pixels.shape[1]
        data, starts = jpeg_in_parts(pixels)

        def put(values: bytes) -> int:
            out.extend(bytes(-len(out) % 4))
            out.extend(values)
            return len(out) - len(values)

        height, width = pixels.shape[:2]
        bits, strip = put(struct.pack("<3H", 8, 8, 8)), put(data)
        ratio = put(struct.pack("<2I", round(per_cm / step), 1))
        make, parts = put(b"Hamamatsu\0"), put(struct.pack(f"<{len(starts)}I", *starts))
        magnification = struct.unpack("<I", struct.pack("<f", 20 / step))[0]
        tags = [
            (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 3, 1, 7), (262, 3, 1, 6),
            (271, 2, 10, make), (273, 4, 1, strip), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(data)),
            (282, 5, 1, ratio), (283, 5, 1, ratio), (296, 3, 1, 3), (65420, 4, 1, 1), (65421, 11, 1, magnification),
            (65426, 4, len(starts), parts),
        ]  # fmt: skip
        entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
        page = put(struct.pack("<H", len(tags)) + entries + bytes(8) + bytes(4 * len(tags)))
        struct.pack_into("<Q", out, link, page)
        link = page + 2 + len(entries)
        assert number == 0 or all(n > m for n, m in itertools.pairwise(level.shape[0] for level in levels))
    path.write_bytes(bytes(out))
