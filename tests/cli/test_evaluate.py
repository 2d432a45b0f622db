import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

from cellscribble.cli.evaluate import command
from cellscribble.core.errors import BatchError, OutputError

CELLS = np.zeros((12, 12), np.uint16)
CELLS[1:5, 1:5] = 1
CELLS[6:11, 6:11] = 2


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    for folder in ("out", "truth"):
        (tmp_path / folder).mkdir()
    for name, k in (("a", 3), ("b", 1)):
        tifffile.imwrite(tmp_path / "out" / f"{name}_labels.tif", np.where(k * CELLS <= 3, k * CELLS, 0))
        tifffile.imwrite(tmp_path / "truth" / f"{name}.tif", CELLS)
    return str(tmp_path / "out"), str(tmp_path / "truth")


def test_scores_are_printed_and_saved(folders: tuple[str, str], tmp_path: Path) -> None:
    result = CliRunner().invoke(command, folders, catch_exceptions=False)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert " ".join(lines[0].split()) == "image IoU Dice mDice S2L mDice ImP F1 AP.50 AP PQ ARAND"
    # a lacks cell 2: 16 of 41 px, AP 1/2
    assert lines[1].split()[:2] == ["a", "0.390"]
    assert any(line.startswith("mean of 2") for line in lines)
    table = (tmp_path / "scores.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["image", "a", "b"]


def test_json_lines_hold_every_score(folders: tuple[str, str]) -> None:
    result = CliRunner().invoke(command, [*folders, "--json"], catch_exceptions=False)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["event"] for event in events] == ["scores", "scores", "summary"]
    assert events[0]["ap_50"] == 0.5
    assert events[0]["auc"] is None
    assert events[2]["means"]["ap_50"]["mean"] == 0.75
    assert events[2]["means"]["ap_50"]["n"] == 2


def test_a_name_without_partner_fails_after_the_rest_is_done(folders: tuple[str, str], tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "truth" / "c.tif", CELLS)
    with pytest.raises(BatchError, match=r"1 of 3 files failed:\n  c: no prediction c_labels\.tif"):
        CliRunner().invoke(command, folders, catch_exceptions=False)
    assert (tmp_path / "scores.csv").exists()


def test_a_table_is_not_overwritten_unasked(folders: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_text("mine")
    with pytest.raises(OutputError, match="--overwrite"):
        CliRunner().invoke(command, folders, catch_exceptions=False)
    assert (tmp_path / "scores.csv").read_text() == "mine"
    assert CliRunner().invoke(command, [*folders, "--overwrite"], catch_exceptions=False).exit_code == 0


def test_masks_are_said_to_be_scored_by_pixels_only(tmp_path: Path) -> None:
    paths = [tmp_path / "a_labels.tif", tmp_path / "a.tif"]
    for path, top in zip(paths, (1, 255), strict=True):
        tifffile.imwrite(path, np.where(CELLS > 0, top, 0).astype(np.uint8))
    result = CliRunner().invoke(command, [*map(str, paths), "--csv", str(tmp_path / "t.csv")], catch_exceptions=False)
    assert "1 of 1 images are masks" in result.stderr
    assert "PQ" not in result.stdout
