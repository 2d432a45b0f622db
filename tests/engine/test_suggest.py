import numpy as np
import pytest
import tifffile

from cellscribble.bundle import open_model
from cellscribble.core.errors import BatchError, InputError, ModelError, OutputError
from cellscribble.engine import suggest
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.suggest import suggest_files
from cellscribble.infer import blockwise
from cellscribble.io.averages import save_averages
from cellscribble.io.images import open_image
from cellscribble.io.rois import read_rois
from cellscribble.io.tiff import save_image
from tests.infer.analytic import metadata, write_model


def picture(shape=(200, 300), *grey):
    """Black (p 0) with one bright square (p 1), and half bright ones (p 0.5) of 30 px at `grey`."""
    out = np.zeros(shape, np.uint8)
    out[..., 0:30, 0:30] = 200
    for corner in grey:
        out[tuple(slice(c, c + 30) for c in corner)] = 100
    return out


@pytest.fixture
def model(tmp_path):
    return open_model(write_model(tmp_path / "model.onnx"))


def run(model, inputs, out, n=10, size_px=40, **options):
    return suggest_files(inputs, model, out, PredictOptions(**options), n=n, size_px=size_px)


def test_boxes_are_where_the_model_is_unsure(model, tmp_path):
    image = tmp_path / "a.tif"
    tifffile.imwrite(image, picture((400, 600), (320, 500), (40, 100)))
    found = run(model, [image], tmp_path / "rois.zip", n=2)
    assert found.files == [tmp_path / "rois.zip"]
    for one, (y, x) in zip(sorted(found.suggestions, key=lambda s: s.corner), [(40, 100), (320, 500)], strict=True):
        assert all(a <= b and b + 30 <= a + 40 for a, b in zip(one.corner, (y, x), strict=True))
        assert one.score == pytest.approx(30 * 30 / 40**2, rel=0.2)
    rois = read_rois(tmp_path / "rois.zip")
    assert [roi.name for roi in rois] == ["suggest_01", "suggest_02"]
    assert [(roi.top, roi.left) for roi in rois] == [s.corner for s in found.suggestions]


def test_of_a_folder_the_best_images_get_a_zip(model, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(images / "sure.tif", picture())
    tifffile.imwrite(images / "unsure.tif", picture((200, 300), (120, 200), (40, 100)))
    tifffile.imwrite(images / "a little.tif", picture((200, 300), (80, 80)))
    found = run(model, [images], tmp_path / "out", n=3)
    assert {p.name for p in found.files} == {"unsure_suggestions.zip", "a little_suggestions.zip"}
    assert [s.rank for s in found.suggestions] == [1, 2, 3]
    names = [roi.name for path in found.files for roi in read_rois(path)]
    assert sorted(names) == ["suggest_01", "suggest_02", "suggest_03"]


def test_a_second_time_needs_overwrite_and_takes_old_boxes_away(model, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(images / "a.tif", picture((200, 300), (120, 200)))
    run(model, [images], tmp_path / "out")
    with pytest.raises(OutputError, match="exists already"):
        run(model, [images], tmp_path / "out")
    tifffile.imwrite(images / "a.tif", picture())
    assert run(model, [images], tmp_path / "out", overwrite=True).suggestions == []
    assert not list((tmp_path / "out").iterdir())


def test_a_stack_has_boxes_on_planes(tmp_path):
    model = open_model(write_model(tmp_path / "model.onnx", metadata(3)))
    stack = picture((20, 60, 120), (12, 20, 70))
    stack[12:] = stack[12:] * (np.arange(8) < 3)[:, None, None]
    save_image(tmp_path / "s.tif", stack[None], "CZYX", (1.0, 0.5, 0.5))
    found = run(model, [tmp_path / "s.tif"], tmp_path / "r.zip", n=1)
    (one,) = found.suggestions
    assert one.plane in (12, 13, 14)
    (roi,) = read_rois(tmp_path / "r.zip")
    assert (roi.z_position, roi.bottom - roi.top) == (one.plane + 1, 40)


def test_a_2d_model_looks_at_planes(model, tmp_path):
    save_image(tmp_path / "s.tif", picture((8, 60, 120), (5, 20, 70))[None], "CZYX", None)
    with pytest.raises(ModelError, match="--planes"):
        run(model, [tmp_path / "s.tif"], tmp_path / "r.zip")
    assert run(model, [tmp_path / "s.tif"], tmp_path / "r.zip", planes=True).suggestions[0].plane >= 5


def test_of_many_blocks_a_sample_is_looked_at_the_same_each_time(model, tmp_path, monkeypatch):
    monkeypatch.setattr(suggest, "MAX_BLOCKS", 3)
    monkeypatch.setitem(blockwise.DEFAULT_BLOCK_PX, 2, (64, 64))
    rng = np.random.default_rng(0)
    tifffile.imwrite(tmp_path / "a.tif", rng.integers(0, 200, (640, 640), np.uint8))
    one, again = (run(model, [tmp_path / "a.tif"], tmp_path / name) for name in ("1.zip", "2.zip"))
    assert "a: 3 of 100 blocks were looked at, drawn at random" in one.notes
    assert {tuple(c // 64 for c in s.corner) for s in one.suggestions} == {
        tuple(c // 64 for c in s.corner) for s in again.suggestions
    }
    assert 1 <= len({tuple(c // 64 for c in s.corner) for s in one.suggestions}) <= 3


def test_empty_blocks_do_not_use_up_the_sample(model, tmp_path, monkeypatch):
    monkeypatch.setattr(suggest, "MAX_BLOCKS", 1)
    monkeypatch.setattr(suggest, "MAX_EMPTY", 100)
    monkeypatch.setitem(blockwise.DEFAULT_BLOCK_PX, 2, (64, 64))
    image = np.zeros((640, 640), np.uint8)
    image[330:370, 330:370] = 100
    image[340:342, 340:342] = 200
    tifffile.imwrite(tmp_path / "a.tif", image)
    (one,) = run(model, [tmp_path / "a.tif"], tmp_path / "r.zip", n=1).suggestions
    assert all(320 <= c < 384 for c in one.corner)


def test_boxes_of_a_resampled_image_lie_on_the_image(tmp_path):
    model = open_model(write_model(tmp_path / "model.onnx", metadata(pixel_size_um=(1.0, 1.0))))
    save_image(tmp_path / "a.tif", picture((200, 300), (120, 200))[None], "CYX", (0.5, 0.5))
    with pytest.raises(ModelError, match="--rescale"):
        run(model, [tmp_path / "a.tif"], tmp_path / "r.zip")
    (one,) = run(model, [tmp_path / "a.tif"], tmp_path / "r.zip", n=1, rescale=True).suggestions
    assert one.size_px == (40, 40)
    assert all(abs(a + 5 - b) <= 6 for a, b in zip(one.corner, (120, 200), strict=True))


def test_a_box_larger_than_the_image_is_the_image(model, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture((60, 80), (30, 40)))
    (one,) = run(model, [tmp_path / "a.tif"], tmp_path / "r.zip", size_px=500).suggestions
    assert (one.corner, one.size_px) == ((0, 0), (60, 80))


def test_one_zip_for_several_images_is_refused(model, tmp_path):
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", picture())
    with pytest.raises(InputError, match=r"one zip but there are 2 images; give a folder"):
        run(model, [tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "r.zip")


def test_an_image_that_fails_leaves_the_others(model, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture((200, 300), (120, 200)))
    (tmp_path / "b.tif").write_bytes(b"II*\0broken")
    with pytest.raises(BatchError) as error:
        run(model, [tmp_path / "a.tif", tmp_path / "b.tif"], tmp_path / "out")
    assert list(error.value.failures) == [str(tmp_path / "b.tif")]
    assert (tmp_path / "out" / "a_suggestions.zip").exists()


def in_a_run(image, at, ndim=2, **meta):
    """A model in its run folder, which has an average of the image: as the model says, but 1 in a window of it."""
    folder = image.parent / "run"
    folder.mkdir()
    model = open_model(write_model(folder / "model.onnx", metadata(ndim, **meta)))
    opened = open_image(image)
    y = (np.asarray(opened.data) > 150).astype(np.float32)
    y[(slice(None), *at)] = 1
    save_averages(folder, [(opened, y)])
    return model


def test_where_model_and_average_disagree_the_box_comes_first(tmp_path):
    """Also where the model is sure, and only for the image that was averaged, whatever its file is called."""
    tifffile.imwrite(tmp_path / "a.tif", picture((200, 300), (120, 200)))
    model = in_a_run(tmp_path / "a.tif", np.s_[60:100, 100:140])
    (tmp_path / "a.tif").rename(tmp_path / "b.tif")
    tifffile.imwrite(tmp_path / "other.tif", picture((200, 300), (40, 100)))
    found = run(model, [tmp_path / "b.tif", tmp_path / "other.tif"], tmp_path / "out", n=3)
    assert (found.suggestions[0].image, found.suggestions[0].corner) == (tmp_path / "b.tif", (60, 100))
    assert found.suggestions[0].score == pytest.approx(1)
    assert "its own average from training counts as doubt too, in the 1 of 2 images" in found.notes[-1]
    # A copy of the model elsewhere has the margin alone.
    alone = open_model(write_model(tmp_path / "model.onnx"))
    found = run(alone, [tmp_path / "b.tif"], tmp_path / "r.zip", n=1)
    assert found.suggestions[0].corner != (60, 100)
    assert not any("average" in note for note in found.notes)


def test_the_average_of_a_stack_and_of_a_resampled_image(tmp_path):
    for name in "su":
        (tmp_path / name).mkdir()
    save_image(tmp_path / "s" / "s.tif", picture((20, 60, 120))[None], "CZYX", (1.0, 0.5, 0.5))
    model = in_a_run(tmp_path / "s" / "s.tif", np.s_[12:16, 20:50, 70:100], 3)
    (one,) = run(model, [tmp_path / "s" / "s.tif"], tmp_path / "s.zip", n=1).suggestions
    assert 12 <= one.plane < 16
    assert all(c <= p and p + 30 <= c + 40 for c, p in zip(one.corner, (20, 70), strict=True))
    save_image(tmp_path / "u" / "u.tif", picture((200, 300))[None], "CYX", (0.5, 0.5))
    model = in_a_run(tmp_path / "u" / "u.tif", np.s_[120:160, 200:240], pixel_size_um=(1.0, 1.0))
    (one,) = run(model, [tmp_path / "u" / "u.tif"], tmp_path / "u.zip", n=1, rescale=True).suggestions
    assert all(abs(c - p) <= 20 for c, p in zip(one.corner, (120, 200), strict=True))


def test_averages_of_other_classes_are_not_used_and_a_damaged_file_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", picture((200, 300), (120, 200)))
    model = in_a_run(tmp_path / "a.tif", np.s_[60:100, 100:140])
    save_averages(tmp_path / "run", [(open_image(tmp_path / "a.tif"), np.ones((2, 200, 300)))])
    found = run(model, [tmp_path / "a.tif"], tmp_path / "r.zip", n=1)
    assert "in the 0 of 1 images" in found.notes[-1]
    (tmp_path / "run" / "averages.npz").write_bytes(b"PK no zip")
    with pytest.raises(ModelError, match=r"averages\.npz cannot be read .* delete it"):
        run(model, [tmp_path / "a.tif"], tmp_path / "r.zip", overwrite=True)
    save_averages(tmp_path / "run", [])
    assert not (tmp_path / "run" / "averages.npz").exists()
