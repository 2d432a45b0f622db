from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from cellscribble.cli.simulate import command
from cellscribble.core.errors import BatchError


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    (tmp_path / "labels").mkdir()
    cells = np.zeros((40, 80), np.uint16)
    for k in range(4):
        cells[12:28, 20 * k + 4 : 20 * k + 16] = k + 1
    for name in "ab":
        tifffile.imwrite(tmp_path / "labels" / f"{name}.tif", cells)
    return tmp_path / "labels"


def test_each_label_image_gets_a_scribble_file_of_its_name(labels: Path, tmp_path: Path) -> None:
    args = [str(labels), "-o", str(tmp_path / "out"), "--share", "0.5"]
    assert CliRunner().invoke(command, args, catch_exceptions=False).exit_code == 0
    cells = tifffile.imread(labels / "a.tif")
    for name in "ab":
        scribbles = tifffile.imread(tmp_path / "out" / f"{name}.tif")
        # file convention: 1 background, 2 the class
        assert np.unique(scribbles).tolist() == [0, 1, 2]
        assert len(np.unique(cells[scribbles == 2])) == 2


def test_the_same_seed_gives_the_same_strokes_whatever_else_is_in_the_folder(labels: Path, tmp_path: Path) -> None:
    for source, out in ((labels, "all"), (labels / "b.tif", "one")):
        CliRunner().invoke(command, [str(source), "-o", str(tmp_path / out)], catch_exceptions=False)
    files = [tifffile.imread(tmp_path / out / "b.tif") for out in ("all", "one")]
    np.testing.assert_array_equal(*files)


def test_existing_scribbles_are_kept_and_told(labels: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.tif").write_text("drawn by hand")
    with pytest.raises(BatchError, match=r"1 of 2 files failed:\n  a: .*--overwrite"):
        CliRunner().invoke(command, [str(labels), "-o", str(tmp_path / "out")], catch_exceptions=False)
    assert (tmp_path / "out" / "a.tif").read_text() == "drawn by hand"
    assert (tmp_path / "out" / "b.tif").exists()
