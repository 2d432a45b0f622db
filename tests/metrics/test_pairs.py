from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellscribble.core.errors import InputError, OutputError
from cellscribble.metrics.pairs import evaluate_files, find_pairs, read_foreground, read_labels, save_csv

CELLS = np.zeros((12, 12), np.uint16)
CELLS[1:5, 1:5] = 1
CELLS[6:11, 6:11] = 2


def _save(path: Path, data: np.ndarray, **kwargs: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    tifffile.imwrite(path, data, **kwargs)
    return path


def test_labels_are_paired_with_the_image_they_are_named_after(tmp_path: Path) -> None:
    for name in ("a2", "a10"):
        _save(tmp_path / "out" / f"{name}_labels.tif", CELLS)
        _save(tmp_path / "truth" / f"{name}.tif", CELLS)
    probability = _save(tmp_path / "out" / "a2_probability.tif", np.zeros((2, 12, 12), np.float32))
    _save(tmp_path / "out" / "a2_overlay.tif", CELLS)
    pairs, unpaired = find_pairs(tmp_path / "out", tmp_path / "truth")
    assert [pair.name for pair in pairs] == ["a2", "a10"]
    assert pairs[0].probability == probability
    assert pairs[1].probability is None
    assert unpaired == {}


def test_names_without_a_partner_are_told_on_both_sides(tmp_path: Path) -> None:
    _save(tmp_path / "out" / "a.tif", CELLS)
    _save(tmp_path / "truth" / "b.tif", CELLS)
    pairs, unpaired = find_pairs(tmp_path / "out", tmp_path / "truth")
    assert pairs == []
    assert "no label image a.tif" in unpaired["a"]
    assert "no prediction b_labels.tif" in unpaired["b"]


def test_two_files_are_a_pair_whatever_their_names(tmp_path: Path) -> None:
    a, b = _save(tmp_path / "x_labels.tif", CELLS), _save(tmp_path / "y.tif", CELLS)
    (pair,), unpaired = find_pairs(a, b)
    assert (pair.name, unpaired) == ("x", {})


def test_one_prediction_is_looked_up_in_a_folder_of_labels(tmp_path: Path) -> None:
    a = _save(tmp_path / "x_labels.tif", CELLS)
    for name in "xyz":
        _save(tmp_path / "truth" / f"{name}.tif", CELLS)
    pairs, unpaired = find_pairs(a, tmp_path / "truth")
    assert [pair.name for pair in pairs] == ["x"]
    assert unpaired == {}


def test_two_files_of_one_name_are_ambiguous(tmp_path: Path) -> None:
    _save(tmp_path / "out" / "a.tif", CELLS)
    _save(tmp_path / "truth" / "a.tif", CELLS)
    _save(tmp_path / "truth" / "a.tiff", CELLS)
    assert "keep one" in find_pairs(tmp_path / "out", tmp_path / "truth")[1]["a"]


def test_a_pair_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    for name, data in (("a", CELLS), ("b", CELLS[:10])):
        _save(tmp_path / "out" / f"{name}_labels.tif", data)
        _save(tmp_path / "truth" / f"{name}.tif", CELLS)
    evaluation = evaluate_files(tmp_path / "out", tmp_path / "truth")
    assert evaluation.scores["a"].panoptic_quality == 1
    assert "(10, 12) but the truth is (12, 12)" in evaluation.failures["b"]


def test_volumes_are_scored_too(tmp_path: Path) -> None:
    volume = np.stack([CELLS] * 3)
    a = _save(tmp_path / "a_labels.tif", volume, imagej=True, metadata={"axes": "ZYX"})
    assert evaluate_files(a, a).scores["a"].n_truth == 2


def test_whole_numbers_stored_as_float_are_labels_but_fractions_are_not(tmp_path: Path) -> None:
    stored = read_labels(_save(tmp_path / "a.tif", CELLS.astype(np.float32)))
    np.testing.assert_array_equal(stored, CELLS)
    assert stored.dtype.kind == "i"
    with pytest.raises(InputError, match="fractions"):
        read_labels(_save(tmp_path / "b.tif", CELLS / 3))
    with pytest.raises(InputError, match="goes down to -1; expected 0 for background"):
        read_labels(_save(tmp_path / "c.tif", CELLS.astype(np.int16) - 1))


def test_a_coloured_picture_of_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="3 channels"):
        read_labels(_save(tmp_path / "a.tif", np.zeros((12, 12, 3), np.uint8), photometric="rgb"))


def test_foreground_is_all_but_background(tmp_path: Path) -> None:
    probability = np.stack([np.full((4, 4), v, np.float32) for v in (0.2, 0.5, 0.3)])
    path = _save(tmp_path / "a_probability.tif", probability, imagej=True, metadata={"axes": "CYX"})
    np.testing.assert_allclose(read_foreground(path), 0.8)


def test_table_has_a_line_an_image_and_is_not_overwritten(tmp_path: Path) -> None:
    a = _save(tmp_path / "a_labels.tif", CELLS)
    scores = evaluate_files(a, a).scores
    save_csv(tmp_path / "scores.csv", scores)
    header, line = (tmp_path / "scores.csv").read_text().splitlines()
    row = dict(zip(header.split(","), line.split(","), strict=True))
    assert row["image"] == "a"
    assert row["ap_50"] == "1.0"
    assert row["auc"] == ""
    with pytest.raises(OutputError, match="--overwrite"):
        save_csv(tmp_path / "scores.csv", scores)
