import csv
import json
import os

import numpy as np
import pytest
from PIL import Image

from cellscribble import demo
from cellscribble.cli.main import run
from cellscribble.core.errors import InputError, OutputError
from cellscribble.io.images import list_images, open_image
from cellscribble.io.scribbles import find_scribbles, read_scribbles
from cellscribble.io.tiff import save_labels
from cellscribble.metrics.pairs import read_labels


@pytest.mark.parametrize(("name", "n_images", "n_unseen"), [("nuclei", 16, 6), ("histology", 5, 3)])
def test_the_shipped_examples_are_whole(name, n_images, n_unseen):
    example = demo.find_example(name)
    images, unseen = list_images(example.images), list_images(example.test_images)
    assert (len(images), len(unseen)) == (n_images, n_unseen)
    for path in images:
        image = open_image(path)
        strokes = read_scribbles(find_scribbles(example.scribbles, image.name), image.spatial_shape)
        assert set(np.unique(strokes.data)) == {-1, 0, 1}, path.name
    for path in unseen:
        labels = read_labels(example.test_labels / f"{path.stem}.tif")
        assert labels.shape == open_image(path).spatial_shape
        assert labels.max() >= 10


def test_no_unseen_image_is_among_the_training_images():
    for name in ("nuclei", "histology"):
        example = demo.find_example(name)
        trained = {open_image(p).data.tobytes() for p in list_images(example.images)}
        assert not trained & {open_image(p).data.tobytes() for p in list_images(example.test_images)}


def test_an_unknown_example_says_where_it_was_looked_for():
    with pytest.raises(InputError, match=r"install CellScribble again"):
        demo.find_example("plants")


def test_the_default_folder_is_the_next_free_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert demo.choose_place(None).folder.name == "cellscribble_demo"
    (tmp_path / "cellscribble_demo").mkdir()
    (tmp_path / "cellscribble_demo_2").mkdir()
    assert demo.choose_place(None).folder.name == "cellscribble_demo_3"
    assert demo.choose_place(None, overwrite=True).folder.name == "cellscribble_demo"


def test_a_folder_with_files_is_refused_and_overwrite_deletes_nothing_of_the_user(tmp_path):
    place = demo.Place(tmp_path)
    place.run.mkdir()
    mine, old = tmp_path / "my notes.txt", place.run / "last.pt"
    mine.write_text("keep")
    old.write_text("an earlier run")
    with pytest.raises(OutputError, match=r"give --overwrite, or another folder with -o"):
        demo.choose_place(tmp_path)
    assert old.exists()
    assert demo.choose_place(tmp_path, overwrite=True) == place
    assert mine.read_text() == "keep"
    assert not old.exists()


def test_an_empty_folder_may_be_given(tmp_path):
    assert demo.choose_place(tmp_path).folder == tmp_path


def test_otsu_is_scored_on_every_unseen_image():
    example = demo.find_example()
    scores = demo.otsu_scores(example)
    assert list(scores) == [p.stem for p in list_images(example.test_images)]
    # Bright nuclei on black: a threshold must find most of them, or the baseline is broken.
    assert 0.7 < demo.mean_scores(scores, ["iou"])["iou"] < 1


def test_a_score_is_the_plain_mean_over_images():
    scores = demo.otsu_scores(demo.find_example())
    by_hand = sum(one.dice for one in scores.values()) / len(scores)
    assert demo.mean_scores(scores, ["dice", "f1"])["dice"] == pytest.approx(by_hand)


def test_the_sheet_shows_strokes_then_image_prediction_and_truth(tmp_path):
    example = demo.find_example()
    for path in list_images(example.test_images):
        save_labels(tmp_path / f"{path.stem}_labels.tif", read_labels(example.test_labels / f"{path.stem}.tif"))
    demo.save_sheet(tmp_path / "demo.png", example, tmp_path, n_unseen=2)
    with Image.open(tmp_path / "demo.png") as sheet:
        width, height = sheet.size
        assert width == 3 * 330 + 10
        # One row of strokes, two of unseen images.
        assert 2 * 330 < height < 4 * 330
        pixels = np.asarray(sheet.convert("RGB")).reshape(-1, 3)
    assert (pixels == (255, 70, 60)).all(axis=1).any()
    assert (pixels == (70, 145, 255)).all(axis=1).any()


@pytest.mark.slow
def test_the_demo_trains_segments_scores_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["demo", "--minutes", "0.1", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    folder = tmp_path / "cellscribble_demo"
    assert (folder / "nuclei_run" / "model.onnx").is_file()
    assert (folder / "demo.png").is_file()
    with (folder / "scores.csv").open() as file:
        assert [row["image"] for row in csv.DictReader(file)] == [f"unseen_{i:02d}" for i in range(1, 7)]
    for kind in ("labels.tif", "overlay.png", "probability.tif", "labels.json"):
        assert len(list((folder / "results").glob(f"*_{kind}"))) == 6
    assert "Otsu's threshold, no training" in out
    assert "CellScribble, from strokes" in out
    # The lines that a user could type instead.
    assert err.count("$ cellscribble ") == 3
    assert os.path.join("cellscribble_demo", "demo.png") in err

    assert run(["demo", "--minutes", "0.1", "--device", "cpu", "--overwrite", "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["event"] == "demo"
    assert 0 < last["otsu_means"]["iou"] < 1
    assert not (tmp_path / "cellscribble_demo_2").exists()
