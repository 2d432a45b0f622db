import numpy as np
import pytest
import tifffile

from cellscribble.core.errors import InputError
from cellscribble.data.holdout import hold_out_strokes
from cellscribble.train.inputs import open_training_set, samples_of
from tests.conftest import make_disks
from tests.train.folders import save_disks


def save_masks(folder, *names: str, suffix: str = "") -> None:
    (folder / "masks").mkdir(exist_ok=True)
    for seed, name in enumerate(names):
        tifffile.imwrite(folder / "masks" / f"{name}{suffix}.tif", make_disks(seed).mask.astype(np.uint16))


def open_with_masks(folder):
    return open_training_set(folder / "imgs", folder / "strokes", folder / "masks")


@pytest.mark.parametrize("suffix", ["", "_labels"])
def test_numbered_objects_are_cells(tmp_path, suffix):
    save_masks(save_disks(tmp_path), "a", "b", suffix=suffix)
    data = open_with_masks(tmp_path)
    assert data.has_masks
    for pair in data.pairs:
        np.testing.assert_array_equal(pair.mask, make_disks().mask > 0)
    assert {"a", "a (strokes)", "a (labels)"} <= data.hashes.keys()


def test_images_without_labels_are_named_before_any_image_is_read(tmp_path):
    save_masks(save_disks(tmp_path), "a")
    (tmp_path / "imgs" / "a.tif").write_bytes(b"no picture at all")
    with pytest.raises(InputError, match=r"1 of 2 images have no labels in .*masks \(b\); save them under"):
        open_with_masks(tmp_path)


def test_labels_of_another_size_are_refused(tmp_path):
    save_masks(save_disks(tmp_path), "a", "b")
    tifffile.imwrite(tmp_path / "masks" / "b.tif", np.ones((10, 64), np.uint8))
    with pytest.raises(InputError, match=r"b\.tif is \(10, 64\) px but its image is \(64, 64\) px"):
        open_with_masks(tmp_path)


def test_with_several_classes_the_number_is_the_class(tmp_path):
    save_disks(tmp_path, "a")
    example = make_disks()
    strokes = example.scribbles.copy()
    strokes[30:35, 30:35] = 2
    tifffile.imwrite(tmp_path / "strokes" / "a.tif", (strokes + 1).astype(np.uint8))
    save_masks(tmp_path, "a")
    with pytest.raises(InputError, match="numbers from 0 to 9; expected 0 for background and 1 to 2 for the classes"):
        open_with_masks(tmp_path)
    classes = np.minimum(example.mask, 2).astype(np.uint8)
    tifffile.imwrite(tmp_path / "masks" / "a.tif", classes)
    np.testing.assert_array_equal(open_with_masks(tmp_path).pairs[0].mask, classes)


def test_masks_are_blank_under_held_out_strokes_and_the_set_keeps_its_own(tmp_path):
    save_masks(save_disks(tmp_path), "a", "b")
    data = open_with_masks(tmp_path)
    before = data.hashes
    samples = samples_of(data)
    hold_out_strokes(samples, 2, 0.2, np.random.default_rng(0))
    for sample in samples:
        np.testing.assert_array_equal(sample.mask == -1, sample.held_out != -1)
    assert any((sample.held_out != -1).any() for sample in samples)
    # Held out of the copies: a second run on the same set has all strokes and labels again.
    assert data.hashes == before
