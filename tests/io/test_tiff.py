import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.core.errors import InputError, OutputError
from cellscribble.io import tiff
from cellscribble.io.images import open_image
from cellscribble.io.tiff import save_image, save_labels

sizes_um = st.floats(1e-3, 1e3)


@settings(max_examples=40)
@given(data=st.data(), ndim=st.sampled_from([2, 3]), highest=st.sampled_from([1, 255, 65535, 65536, 2**31]))
def test_labels_come_back_with_axes_and_pixel_size(tmp_path_factory, data, ndim, highest):
    shape = data.draw(st.tuples(*[st.integers(2, 7)] * ndim))
    size = data.draw(st.tuples(*[sizes_um] * ndim))
    labels = np.random.default_rng(0).integers(0, highest, shape, endpoint=True)
    labels.flat[0] = highest
    path = tmp_path_factory.mktemp("labels") / "a_labels.tif"
    save_labels(path, labels, size)
    image = open_image(path)
    np.testing.assert_array_equal(image.data[0], labels)
    assert image.data.dtype == (np.uint16 if highest <= 65535 else np.uint32)
    assert image.pixel_size_um == pytest.approx(size, rel=1e-4)


@settings(max_examples=25)
@given(
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    axes=st.sampled_from(["CYX", "CZYX"]),
    n_channels=st.integers(1, 4),
)
def test_image_comes_back_with_channel_names(tmp_path_factory, dtype, axes, n_channels):
    shape = (n_channels, 3, 5, 6) if axes == "CZYX" else (n_channels, 5, 6)
    data = (np.random.default_rng(0).random(shape) * 200).astype(dtype)
    names = tuple(f"class {i}" for i in range(n_channels))
    path = tmp_path_factory.mktemp("image") / "a.tif"
    save_image(path, data, axes, (2.0, 0.5, 0.25)[-len(axes) + 1 :], names)
    image = open_image(path)
    np.testing.assert_array_equal(image.data, data)
    assert image.axes == axes
    assert image.pixel_size_um == pytest.approx((2.0, 0.5, 0.25)[-len(axes) + 1 :])
    assert not image.is_rgb
    assert image.channel_names == (names if n_channels > 1 else ())


def test_label_tiff_is_imagejs_own_form(tmp_path):
    labels = np.zeros((4, 20, 30), int)
    labels[1, 3:9, 4:8] = 300
    save_labels(tmp_path / "a.tif", labels, (1.5, 0.325, 0.325))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.is_imagej
        assert file.series[0].axes == "ZYX"
        metadata = file.imagej_metadata
    assert (metadata["unit"], metadata["spacing"], metadata["max"]) == ("um", 1.5, 300.0)


def test_label_that_does_not_fit_is_refused_not_wrapped(tmp_path):
    with pytest.raises(InputError, match="go down to -1"):
        save_labels(tmp_path / "a.tif", np.full((4, 5), -1))
    with pytest.raises(InputError, match="expected integers"):
        save_labels(tmp_path / "a.tif", np.zeros((4, 5), np.float32))
    with pytest.raises(InputError, match="uint32"):
        save_labels(tmp_path / "a.tif", np.full((4, 5), 2**33))


def test_existing_file_stays_unless_overwrite_is_given(tmp_path):
    path = tmp_path / "new" / "a.tif"
    save_labels(path, np.ones((4, 5), int))
    with pytest.raises(OutputError, match="--overwrite"):
        save_labels(path, np.full((4, 5), 2))
    assert open_image(path).data.max() == 1
    save_labels(path, np.full((4, 5), 2), overwrite=True)
    assert open_image(path).data.max() == 2


def test_failed_writing_leaves_nothing(tmp_path, monkeypatch):
    def full_disk(path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tiff.tifffile, "imwrite", full_disk)
    with pytest.raises(OutputError, match="the disk is full"):
        save_labels(tmp_path / "a.tif", np.ones((4, 5), int))
    assert list(tmp_path.iterdir()) == []


def test_huge_image_becomes_ome_tiff(tmp_path, monkeypatch, rng):
    monkeypatch.setattr(tiff, "MAX_IMAGEJ_BYTES", 100)
    data = rng.random((2, 3, 20, 30)).astype(np.float32)
    save_image(tmp_path / "a.tif", data, "CZYX", (2.0, 0.5, 0.5), ("a", "b"))
    image = open_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(image.data, data)
    assert image.pixel_size_um == (2.0, 0.5, 0.5)
    assert image.channel_names == ("a", "b")
