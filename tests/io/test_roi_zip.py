import struct
import zipfile

import numpy as np
import pytest
import roifile

from cellscribble.core.errors import FileFormatError
from cellscribble.io import roi_zip
from cellscribble.io.roi_zip import read_zip

ROI = roifile.ImagejRoi.frompoints(np.array([(1, 1), (5, 1), (5, 4)])).tobytes()


def write(path, *entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return path


def test_a_roi_without_a_name_has_that_of_its_entry(tmp_path):
    named = roifile.ImagejRoi.frombytes(ROI)
    named.name = "fg_1"
    nameless = roifile.ImagejRoi.frombytes(ROI)
    nameless.name = ""
    path = write(tmp_path / "a.zip", ("1-fg_1.roi", named.tobytes()), ("zellkern \xe4.roi", nameless.tobytes()))
    assert [roi.name for roi in read_zip(path)] == ["fg_1", "zellkern \xe4"]


@pytest.mark.parametrize("name", ["../fg_1.roi", "/etc/fg_1.roi", "a/../../b.roi", "..\\b.roi", "C:\\b.roi"])
def test_entries_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    with pytest.raises(FileFormatError, match=r"leads out of its folder.*ROI Manager"):
        list(read_zip(write(tmp_path / "a.zip", (name, ROI))))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = write(tmp_path / "a.zip", ("fg_1.roi", ROI), ("fg_2.roi", bytes(roi_zip.MAX_ENTRY_BYTES + 1)))
    assert path.stat().st_size < 200_000
    with pytest.raises(FileFormatError, match="would unpack to 64 MiB"):
        next(read_zip(path))


def test_many_entries_are_a_bomb_too(tmp_path):
    """Sizes as a bomb's directory claims them, 33 times 64 MiB; nothing of it is there to unpack."""
    path = write(tmp_path / "a.zip", *[(f"{i}.roi", ROI) for i in range(33)])
    content = bytearray(path.read_bytes())
    at = content.find(b"PK\1\2")
    while at >= 0:
        struct.pack_into("<I", content, at + 24, roi_zip.MAX_ENTRY_BYTES)
        at = content.find(b"PK\1\2", at + 1)
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="would unpack to 2112 MiB"):
        next(read_zip(path))


def test_a_size_that_the_directory_hides_is_not_unpacked(tmp_path):
    path = write(tmp_path / "a.zip", ("fg_1.roi", ROI + bytes(1 << 20)))
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, content.find(b"PK\1\2") + 24, len(ROI))
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="cannot be read as ImageJ ROIs"):
        list(read_zip(path))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("a.roi", b"Iout")], "cannot be read as ImageJ ROIs"),
        ([("a.roi", bytes(80))], "cannot be read as ImageJ ROIs"),
        ([("fg_1.roi", ROI), ("model.onnx", b"x")], "no zip of ImageJ ROIs: it holds 'model.onnx'"),
    ],
)
def test_another_zip_says_what_it_is(tmp_path, entries, message):
    with pytest.raises(FileFormatError, match=message):
        list(read_zip(write(tmp_path / "a.zip", *entries)))
