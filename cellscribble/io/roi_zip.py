"""Zip files of ImageJ ROIs: read with care, since they come from anywhere, and written entry by entry."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import roifile

from cellscribble.core.errors import FileFormatError

SUFFIX = ".roi"
MAX_ENTRY_BYTES = 64 << 20
MAX_TOTAL_BYTES = 2 << 30
"""Unpacked; a million outlined cells are 300 MB."""

DAMAGE = (ValueError, KeyError, IndexError, TypeError, OSError, EOFError, struct.error, zipfile.BadZipFile)
"""What roifile and zipfile raise on files that are broken or something else."""


def read_zip(path: Path) -> Iterator[Any]:
    """The ROIs of a zip in their order; one without a name has that of its entry.

    Raises
    ------
    FileFormatError
        If it is no zip of ROIs, or one made to do harm: names that lead out of a folder, sizes beyond reason.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [one for one in archive.infolist() if not one.is_dir()]
            _check(entries, path)
            for entry in entries:
                roi = roifile.ImagejRoi.frombytes(archive.read(entry))
                # ImageJ's To ROI Manager numbers the entries: 1-fg_1.roi.
                roi.name = roi.name or PurePosixPath(entry.filename).name[: -len(SUFFIX)]
                yield roi
    except (*DAMAGE, RuntimeError, NotImplementedError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> FileFormatError:
    """The error to raise when a file cannot be read as ROIs."""
    return FileFormatError(
        f"{path} cannot be read as ImageJ ROIs: {error}; save it again from the ROI Manager (More > Save)"
    )


def _check(entries: list[zipfile.ZipInfo], path: Path) -> None:
    for entry in entries:
        name = entry.filename.replace("\\", "/")
        if name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/"):
            raise FileFormatError(
                f"{path} holds an entry {entry.filename!r} that leads out of its folder; it was not made by ImageJ: "
                "save the ROIs again from the ROI Manager"
            )
    alien = [one.filename for one in entries if not one.filename.lower().endswith(SUFFIX)]
    if alien:
        raise FileFormatError(
            f"{path} is no zip of ImageJ ROIs: it holds {alien[0]!r}; save the ROIs from the ROI Manager (More > Save)"
        )
    largest = max((one.file_size for one in entries), default=0)
    total = sum(one.file_size for one in entries)
    if largest > MAX_ENTRY_BYTES or total > MAX_TOTAL_BYTES:
        raise FileFormatError(
            f"{path} would unpack to {total >> 20} MiB (largest entry {largest >> 20} MiB); a ROI is at most "
            f"{MAX_ENTRY_BYTES >> 20} MiB and all are {MAX_TOTAL_BYTES >> 20} MiB: save it again from ImageJ"
        )


def write_zip(path: Path, rois: Iterator[Any]) -> None:
    """Write ROIs one by one under their names, which must differ."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for roi in rois:
            archive.writestr(roi.name + SUFFIX, roi.tobytes())
