"""Training on a level of a pyramid: OME-Zarr and TIFF, in train, compare and adapt."""

import json

import numpy as np
import pytest
import tifffile
import zarr

from cellscribble.bundle import open_model
from cellscribble.cli.main import run
from cellscribble.io.images import open_image
from cellscribble.io.ome_zarr import write_ome_zarr
from cellscribble.train.inputs import open_training_set
from tests.conftest import make_disks

TINY = """
patch_px = 32
batch_size = 2
holdout_share = 0.25
device = "cpu"
"""


def enlarged(seed: int) -> np.ndarray:
    """(128, 128) uint16: disks of which level 1 of a pyramid is `make_disks` again."""
    return make_disks(seed).image.data[0].repeat(2, 0).repeat(2, 1)


def save_zarr(path, seed, um=0.25):
    write_ome_zarr(path, enlarged(seed)[None], "CYX", um and (um, um), kind="image", n_levels=3)


def save_slide(path, seed):
    """A tiled TIFF with its coarser levels as sub-images, as Bio-Formats writes them."""
    pixels = enlarged(seed)
    about = {"axes": "YX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(pixels, subifds=2, tile=(32, 32), metadata=about)
        for step in (2, 4):
            tiff.write(pixels[::step, ::step], subfiletype=1, tile=(32, 32))


@pytest.fixture(params=["zarr", "tiff"])
def place(request, tmp_path, monkeypatch):
    """Two pyramids of 128, 64 and 32 px, 0.25 um at the finest, with strokes and masks of their level 1."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)
    for folder in ("imgs", "strokes", "masks"):
        (tmp_path / folder).mkdir()
    for seed, name in enumerate("ab"):
        if request.param == "zarr":
            save_zarr(tmp_path / "imgs" / f"{name}.zarr", seed)
        else:
            save_slide(tmp_path / "imgs" / f"{name}.ome.tif", seed)
        tifffile.imwrite(tmp_path / "strokes" / f"{name}.tif", (make_disks(seed).scribbles + 1).astype(np.uint8))
        tifffile.imwrite(tmp_path / "masks" / f"{name}.tif", make_disks(seed).mask.astype(np.uint16))
    return tmp_path


def train(*args: str) -> int:
    return run(["train", "imgs", "strokes", "-o", "out", *args])


def error_of(capsys) -> str:
    return capsys.readouterr().err.rpartition("error: ")[2]


def test_a_level_is_learnt_from_resumed_recorded_and_found_by_predict(place, capsys):
    assert train("--level", "1", "--epochs", "1", "--config", "tiny.toml") == 0
    assert "1x64x64  CYX   0.5 µm" in capsys.readouterr().err
    metadata = open_model(place / "out" / "model.onnx").metadata
    assert metadata.config["level"] == 1
    assert metadata.pixel_size_um == pytest.approx((0.5, 0.5))
    assert json.loads((place / "out" / "config.json").read_text())["level"] == 1
    # The level needs not be said again, and no other can be.
    assert train("--resume", "--level", "2") == 1
    assert "the run in out has level 1, not 2; leave --level out to resume it" in error_of(capsys)
    assert train("--resume") == 0
    assert "resumed after epoch 1 of 1" in capsys.readouterr().err
    image = min((place / "imgs").iterdir())
    assert run(["predict", str(image), "-m", "out", "-o", "found"]) == 0
    assert "level 1 of 3 (from 0), 0.5 x 0.5 µm, is nearest to the model's 0.5 x 0.5 µm" in capsys.readouterr().err
    (labels,) = (path for path in (place / "found").iterdir() if path.stem == "a_labels" and path.suffix != ".json")
    assert open_image(labels).spatial_shape == (64, 64)


def test_strokes_of_another_level_say_which(place, capsys):
    for args, shape in (((), "(128, 128)"), (("--level", "2"), "(32, 32)")):
        assert train("--epochs", "1", *args) == 1
        error = error_of(capsys)
        assert f"are (64, 64) but the image is {shape}" in error
        assert "they fit level 1 of its pyramid: --level 1 learns from that" in error
        assert not (place / "out").exists()


def test_a_level_that_is_not_there_is_refused(place, capsys):
    assert train("--level", "3", "--epochs", "1") == 1
    assert "no pyramid level 3; it has 0" in error_of(capsys)
    assert not (place / "out").exists()


def test_a_config_file_may_say_the_level(place):
    (place / "tiny.toml").write_text(TINY + "level = 1\nepochs = 1\n")
    assert train("--config", "tiny.toml") == 0
    assert open_model(place / "out" / "model.onnx").metadata.config["level"] == 1


def test_compare_trains_and_scores_on_the_level(place, capsys):
    args = ["compare", "imgs", "strokes", "--methods", "otsu,partial_cross_entropy", "--epochs", "1"]
    args += ["--config", "tiny.toml", "-o", "compared", "--labels", "masks"]
    assert run([*args, "--level", "1"]) == 0
    captured = capsys.readouterr()
    assert "1x64x64" in captured.err
    assert "scored on the masks of 2 of the 2 images" in captured.err
    for path in (place / "strokes").iterdir():
        tifffile.imwrite(path, tifffile.imread(path)[::2, ::2])
    assert run([*args[:-2], "--level", "2"]) == 1
    assert "compared holds a comparison with other level" in error_of(capsys)


def test_compare_reads_unseen_images_at_the_level_too(place, capsys):
    (place / "new").mkdir()
    (place / "new_masks").mkdir()
    if (place / "imgs" / "a.zarr").exists():
        save_zarr(place / "new" / "c.zarr", 7)
    else:
        save_slide(place / "new" / "c.ome.tif", 7)
    tifffile.imwrite(place / "new_masks" / "c.tif", make_disks(7).mask.astype(np.uint16))
    args = ["compare", "imgs", "strokes", "--methods", "otsu", "-o", "compared", "--level", "1"]
    assert run([*args, "--test-images", "new", "--test-labels", "new_masks"]) == 0
    assert "scored on 1 unseen images" in capsys.readouterr().err


def test_adapt_learns_from_strokes_on_a_level(place):
    assert train("--level", "1", "--epochs", "2", "--config", "tiny.toml") == 0
    image = min((place / "imgs").iterdir())
    assert run(["adapt", "out", str(image), "strokes/a.tif", "-o", "adapted.onnx", "--level", "1"]) == 0
    assert open_model(place / "adapted.onnx").metadata.pixel_size_um == pytest.approx((0.5, 0.5))


def test_without_a_pixel_size_it_is_said_how_to_predict_on_the_level(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)
    save_zarr(tmp_path / "a.zarr", 0, um=None)
    tifffile.imwrite("a.tif", (make_disks().scribbles + 1).astype(np.uint8))
    args = ["-o", "out", "--level", "1", "--epochs", "1", "--config", "tiny.toml"]
    assert run(["train", "a.zarr", "a.tif", *args]) == 0
    assert "next: cellscribble predict YOUR_IMAGES --level 1" in capsys.readouterr().err


def test_the_level_has_the_pixels_of_the_file(tmp_path):
    save_zarr(tmp_path / "a.zarr", 0)
    tifffile.imwrite(tmp_path / "a.tif", (make_disks().scribbles + 1).astype(np.uint8))
    (pair,) = open_training_set(tmp_path / "a.zarr", tmp_path / "a.tif", level=1).pairs
    np.testing.assert_array_equal(pair.image.data[0], zarr.open(str(tmp_path / "a.zarr"))["1"][...].squeeze())
