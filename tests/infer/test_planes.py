import numpy as np
import pytest

from cellscribble.bundle import open_model
from cellscribble.core.errors import ModelError
from cellscribble.core.volume import ImageVolume
from cellscribble.infer.planes import over_planes
from cellscribble.infer.predict import predict
from tests.infer.analytic import disks, metadata, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return open_model(write_model(tmp_path_factory.mktemp("model") / "model.onnx"))


def stack(size=(0.5, 0.5, 0.5)) -> ImageVolume:
    return ImageVolume(disks((20, 48, 64)), "CZYX", size, "balls")


def test_each_plane_is_seen_as_a_picture_of_its_own(model):
    volume = stack()
    found = predict(volume, model, device="cpu", planes=True)
    bright = int(np.argmax(volume.data[0].sum(axis=(1, 2))))
    alone = predict(ImageVolume(volume.data[:, bright], "CYX"), model, device="cpu")
    np.testing.assert_allclose(found.probability[:, bright], alone.probability, atol=1e-6)


def test_a_ball_is_one_object_through_its_planes(model):
    found = predict(stack(), model, device="cpu", planes=True)
    assert found.n_objects == 2
    for label in (1, 2):
        z = np.flatnonzero((found.labels == label).any(axis=(1, 2)))
        assert len(z) > 8
        assert (np.diff(z) == 1).all()


def test_without_being_asked_a_2d_model_is_not_put_on_a_stack(model):
    with pytest.raises(ModelError, match="--planes"):
        predict(stack(), model, device="cpu")


@pytest.mark.parametrize(
    ("size", "apart", "said"),
    [((2.0, 0.5, 0.5), 4.0, "4 pixels apart"), ((0.3, 0.2, 0.25), 1.5, "1.5 pixels"), (None, 1.0, "does not say")],
)
def test_planes_lie_as_far_apart_as_the_image_says(size, apart, said):
    meta, note = over_planes(metadata(pixel_size_um=(0.5, 0.5)), stack(size))
    assert meta.segmenter_parameters["spacing"] == [apart, 1.0, 1.0]
    assert meta.segmenter_parameters["plane_holes"]
    assert said in note
    assert (meta.ndim, meta.halo_px, meta.stride_multiple) == (3, (0, 2, 2), (1, 2, 2))


def test_thick_sections_do_not_make_two_cells_one(model):
    """Two cells above each other that overlap little: near in voxels, far in micrometres."""
    grid = np.indices((6, 60, 60))
    pixels = np.zeros((1, 6, 60, 60), np.uint8)
    pixels[0][(grid[0] < 3) & ((grid[1] - 20) ** 2 + (grid[2] - 24) ** 2 < 100)] = 200
    pixels[0][(grid[0] >= 3) & ((grid[1] - 34) ** 2 + (grid[2] - 36) ** 2 < 100)] = 200
    found = predict(ImageVolume(pixels, "CZYX", (5.0, 1.0, 1.0)), model, device="cpu", planes=True)
    assert found.n_objects == 2
