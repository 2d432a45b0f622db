import numpy as np
import pytest
import scipy.ndimage

from cellscribble.bundle import open_model
from cellscribble.core.errors import InputError, ModelError
from cellscribble.core.volume import ImageVolume
from cellscribble.infer.predict import predict
from cellscribble.infer.runner import CPU
from tests.infer.analytic import disks, metadata, write_model


@pytest.fixture
def model(tmp_path):
    return open_model(write_model(tmp_path / "model.onnx", metadata(pixel_size_um=(0.5, 0.5))))


def test_two_cells_are_two_objects(model):
    image = ImageVolume(disks(), "CYX", (0.5, 0.5), "two")
    found = predict(image, model, device="cpu")
    assert found.n_objects == 2
    assert found.labels.dtype == np.uint16
    assert found.labels[24, 12] == 1
    assert found.labels[24, 50] == 2
    assert found.labels[0, 0] == 0
    assert (found.name, found.provider, found.pixel_size_um) == ("two", CPU, (0.5, 0.5))
    assert found.object_classes is None
    assert found.notes == ()


def test_the_block_size_changes_nothing_in_the_labels(model, rng):
    scene = scipy.ndimage.gaussian_filter(rng.normal(size=(90, 70)), 3)
    image = ImageVolume((scene * 1000 + 300).astype(np.float32)[None], "CYX", (0.5, 0.5))
    whole = predict(image, model, device="cpu")
    assert whole.n_objects > 3
    for block in ((16, 16), (7, 33), (90, 10)):
        np.testing.assert_array_equal(predict(image, model, device="cpu", block_px=block).labels, whole.labels)


def test_a_stack_is_segmented_in_3d(tmp_path):
    model = open_model(write_model(tmp_path / "model.onnx", metadata(3)))
    found = predict(ImageVolume(disks((24, 24, 40)), "CZYX"), model, device="cpu", block_px=(8, 16, 16))
    assert found.labels.shape == (24, 24, 40)
    assert found.n_objects == 2


def test_classes_come_instead_of_objects(model):
    found = predict(ImageVolume(disks(), "CYX", (0.5, 0.5)), model, device="cpu", as_classes=True)
    assert set(np.unique(found.labels)) == {0, 1}
    assert (found.as_classes, found.n_objects) == (True, 0)


def test_objects_of_several_classes_say_theirs(tmp_path):
    meta = metadata(classes=("background", "a", "b"), colors=((0, 0, 0),) * 3)
    model = open_model(write_model(tmp_path / "model.onnx", meta))
    found = predict(ImageVolume(disks(), "CYX"), model, device="cpu")
    # The network gives both classes the same probability; the first wins.
    assert found.object_classes is not None
    assert found.object_classes.tolist() == [1, 1]


def test_a_higher_threshold_makes_smaller_objects(model):
    image = ImageVolume(disks(), "CYX", (0.5, 0.5))
    areas = [int((predict(image, model, device="cpu", threshold=t).labels > 0).sum()) for t in (0.2, 0.5, 0.9)]
    assert areas[0] > areas[1] > areas[2] > 0


@pytest.mark.parametrize("threshold", [0, 1.5])
def test_a_threshold_is_a_probability(model, threshold):
    with pytest.raises(InputError, match="between 0 and 1"):
        predict(ImageVolume(disks(), "CYX"), model, threshold=threshold)


def test_a_threshold_for_classes_is_refused_not_ignored(model):
    with pytest.raises(InputError, match="does not apply"):
        predict(ImageVolume(disks(), "CYX"), model, threshold=0.5, as_classes=True)


def test_rescaled_results_lie_on_the_images_own_grid(model):
    large = np.kron(disks(), np.ones((1, 2, 2), np.uint8))
    image = ImageVolume(large, "CYX", (0.25, 0.25), "large")
    with pytest.raises(ModelError, match="--rescale"):
        predict(image, model)
    found = predict(image, model, device="cpu", rescale=True)
    small = predict(ImageVolume(disks(), "CYX", (0.5, 0.5)), model, device="cpu")
    assert found.labels.shape == found.probability.shape[1:] == (96, 128)
    assert found.n_objects == 2
    truth = np.kron(small.labels, np.ones((2, 2), np.uint16))
    assert ((found.labels > 0) != (truth > 0)).mean() < 0.02
    assert "resampled" in found.notes[0]


def test_an_unknown_pixel_size_is_said(model):
    assert "does not say" in predict(ImageVolume(disks(), "CYX"), model, device="cpu").notes[0]


def test_a_constant_image_is_refused(model):
    with pytest.raises(InputError, match="constant"):
        predict(ImageVolume(disks() * 0, "CYX", (0.5, 0.5)), model, device="cpu")
