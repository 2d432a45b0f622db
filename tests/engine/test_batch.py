import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

from cellscribble._version import __version__
from cellscribble.bundle import open_model
from cellscribble.core.errors import BatchError, FileFormatError, InputError, OutputError
from cellscribble.core.volume import ImageVolume
from cellscribble.engine import batch, one_image, write
from cellscribble.engine.batch import predict_files
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.outputs import plan_jobs
from cellscribble.io.images import open_image
from cellscribble.io.ome_zarr import write_ome_zarr
from tests.infer.analytic import disks, metadata, write_model


@pytest.fixture
def model(tmp_path):
    return open_model(write_model(tmp_path / "model.onnx", metadata(pixel_size_um=(0.5, 0.5))))


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "imgs"
    folder.mkdir()
    for name in ("a", "b"):
        tifffile.imwrite(folder / f"{name}.tif", disks()[0], imagej=True, resolution=(2, 2), metadata={"unit": "um"})
    return folder


class Listener(list):
    def __call__(self, event, /, **fields):
        self.append((event, fields))

    def fields(self, event):
        return [fields for name, fields in self if name == event]


CPU_ONLY = PredictOptions(device="cpu")


def files(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_folder_gives_labels_that_keep_the_pixel_size(images, model, tmp_path):
    heard = Listener()
    jobs = predict_files([images], model, tmp_path / "out", CPU_ONLY, heard)
    assert files(tmp_path / "out") == ["a_labels.json", "a_labels.tif", "b_labels.json", "b_labels.tif"]
    labels = open_image(jobs[0].labels)
    assert labels.pixel_size_um == pytest.approx((0.5, 0.5))
    assert int(np.asarray(labels.data).max()) == 2
    assert [event for event, _ in heard if event != "progress"] == ["start", *(["image", "done"] * 2)]
    assert heard.fields("done")[0]["n_objects"] == 2


def test_all_outputs_are_written_when_asked_for(images, model, tmp_path):
    options = PredictOptions(device="cpu", probability=True, overlay=True)
    predict_files([images / "a.tif"], model, tmp_path / "out", options, Listener())
    assert files(tmp_path / "out") == ["a_labels.json", "a_labels.tif", "a_overlay.png", "a_probability.tif"]
    probability = open_image(tmp_path / "out" / "a_probability.tif", axes=None)
    np.testing.assert_allclose(np.asarray(probability.data).sum(axis=0), 1, atol=1e-6)
    with Image.open(tmp_path / "out" / "a_overlay.png") as overlay:
        assert overlay.size == (64, 48)


def test_a_result_names_what_made_it(images, model, tmp_path):
    options = PredictOptions(device="cpu", threshold=0.4, block_px=(32,))
    predict_files([images / "a.tif"], model, tmp_path / "out", options, Listener())
    record = json.loads((tmp_path / "out" / "a_labels.json").read_text())
    assert record["model"]["sha256"] == model.sha256
    assert record["versions"]["cellscribble"] == __version__
    assert {"python", "numpy"} <= record["versions"].keys()
    assert any(name.startswith("onnxruntime") for name in record["versions"])
    assert record["settings"]["threshold"] == 0.4
    assert record["settings"]["block_px"] == [32]
    assert record["segmenter"]["name"] == "instances"
    assert record["segmenter"]["parameters"]["threshold"] == 0.4
    assert record["provider"] == "CPUExecutionProvider"
    assert record["image"]["shape"] == [1, 48, 64]
    assert record["image"]["pixel_size_um"] == pytest.approx([0.5, 0.5])
    assert record["n_objects"] == 2
    assert record["command"]
    assert record["created"]
    assert record["seconds"] > 0


def test_a_zarr_gets_its_labels_beside_it(model, tmp_path):
    write_ome_zarr(tmp_path / "slide.zarr", disks(), "CYX", (0.5, 0.5), kind="image")
    options = PredictOptions(device="cpu", probability=True)
    (job,) = predict_files([tmp_path / "slide.zarr"], model, None, options, Listener())
    assert job.labels == tmp_path / "slide_labels.zarr"
    labels = open_image(job.labels)
    assert labels.data.shape == (1, 48, 64)
    assert labels.pixel_size_um == pytest.approx((0.5, 0.5))
    assert int(np.asarray(labels.data).max()) == 2
    assert (tmp_path / "slide_labels.json").is_file()
    assert open_image(tmp_path / "slide_probability.zarr").data.shape == (2, 48, 64)


def test_one_bad_file_does_not_stop_the_others(images, model, tmp_path):
    whole = (images / "a.tif").read_bytes()
    (images / "a.tif").write_bytes(whole[: len(whole) // 2])
    tifffile.imwrite(images / "c.tif", np.zeros((48, 64, 3), np.uint8), photometric="rgb")
    heard = Listener()
    with pytest.raises(BatchError, match=r"2 of 3 files failed:\n.*a\.tif.*copy it again\n.*c\.tif.*8-bit") as error:
        predict_files([images], model, tmp_path / "out", CPU_ONLY, heard)
    assert error.value.n_done == 1
    assert files(tmp_path / "out") == ["b_labels.json", "b_labels.tif"]
    assert [fields["image"].name for fields in heard.fields("failed")] == ["a.tif", "c.tif"]


def test_a_single_bad_file_raises_its_own_error(images, model, tmp_path):
    whole = (images / "a.tif").read_bytes()
    (images / "a.tif").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="copy it again"):
        predict_files([images / "a.tif"], model, tmp_path / "out", CPU_ONLY, Listener())


def test_results_that_exist_are_refused_before_anything_is_computed(images, model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "b_labels.tif").write_bytes(b"mine")
    monkeypatch.setattr(batch, "Runner", None)
    with pytest.raises(OutputError, match=r"b_labels\.tif exists already; give --overwrite"):
        predict_files([images], model, out, CPU_ONLY, Listener())
    assert (out / "b_labels.tif").read_bytes() == b"mine"
    monkeypatch.undo()
    predict_files([images], model, out, PredictOptions(device="cpu", overwrite=True), Listener())
    assert tifffile.imread(out / "b_labels.tif").max() == 2


@pytest.mark.parametrize("at", ["save_labels", "save_json"])
def test_results_that_cannot_be_replaced_stay_as_they_were(images, model, tmp_path, monkeypatch, at):
    out, options = tmp_path / "out", PredictOptions(device="cpu", probability=True)
    predict_files([images / "a.tif"], model, out, options, Listener())
    before = {p.name: p.read_bytes() for p in out.iterdir()}

    def full(*args, **kwargs):
        raise OutputError("the disk is full")

    monkeypatch.setattr(write, at, full)
    with pytest.raises(OutputError, match="disk is full"):
        predict_files([images / "a.tif"], model, out, replace(options, overwrite=True, threshold=0.9), Listener())
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


def test_the_same_command_goes_on_with_the_images_that_are_left(images, model, tmp_path):
    out, options = tmp_path / "out", PredictOptions(device="cpu", probability=True)
    predict_files([images], model, out, options, Listener())
    labels, first = (out / "b_labels.tif").read_bytes(), (out / "a_labels.json").read_bytes()
    (out / "b_labels.tif").unlink()  # as if killed before its last file
    heard = Listener()
    assert len(predict_files([images], model, out, options, heard)) == 2
    assert [fields["image"].name for fields in heard.fields("image")] == ["b.tif"]
    assert heard.fields("start")[0]["n_done"] == 1
    assert (out / "b_labels.tif").read_bytes() == labels
    assert (out / "a_labels.json").read_bytes() == first
    with pytest.raises(OutputError, match="exists already"):
        predict_files([images], model, out, options, Listener())
    # A job of an array that is started once more has nothing left to do.
    shards = [predict_files([images], model, out, replace(options, shard=(i, 2)), Listener()) for i in (1, 2)]
    assert [[job.done for job in jobs] for jobs in shards] == [[True], [True]]


def test_results_of_another_command_or_image_are_refused_however_few_are_left(images, model, tmp_path):
    out = tmp_path / "out"
    predict_files([images], model, out, CPU_ONLY, Listener())
    (out / "b_labels.tif").unlink()
    with pytest.raises(OutputError, match=r"a_labels\.json and 2 more exists already"):
        predict_files([images], model, out, replace(CPU_ONLY, threshold=0.7), Listener())
    tifffile.imwrite(images / "a.tif", disks(value=90)[0])
    with pytest.raises(OutputError, match=r"a_labels\.json and 1 more exists already"):
        predict_files([images], model, out, CPU_ONLY, Listener())
    predict_files([images / "b.tif"], model, out, CPU_ONLY, Listener())
    assert files(out) == ["a_labels.json", "a_labels.tif", "b_labels.json", "b_labels.tif"]


def test_an_output_that_cannot_be_written_is_said_before_anything_is_computed(images, model, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write into .* another folder with -o"):
        predict_files([images], model, tmp_path / "file" / "out", CPU_ONLY, Listener())


def test_a_full_disk_leaves_nothing_that_looks_finished(images, model, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OutputError("cannot write: the disk is full")

    monkeypatch.setattr(write, "save_labels", full)
    options = PredictOptions(device="cpu", probability=True)
    with pytest.raises(OutputError, match="disk is full"):
        predict_files([images / "a.tif"], model, tmp_path / "out", options, Listener())
    assert files(tmp_path / "out") == []


def test_two_images_of_one_name_are_not_written_over_each_other(images, tmp_path):
    Image.fromarray(disks()[0]).save(images / "a.png")
    with pytest.raises(InputError, match=r"a\.png and .*a\.tif have one name"):
        plan_jobs([images], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_image_given_twice_is_segmented_once(images, tmp_path):
    assert len(plan_jobs([images, images / "a.tif"], tmp_path / "out")) == 2


def test_results_go_to_the_current_folder_by_default(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert str(plan_jobs([images])[0].labels) == "cellscribble_out/a_labels.tif"


def test_no_input_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no image"):
        plan_jobs([tmp_path / "nope.tif"])


def test_the_overlay_of_a_stack_is_its_middle_plane_and_thinned_when_huge(tmp_path, monkeypatch):
    model = open_model(write_model(tmp_path / "model.onnx", metadata(3)))
    tifffile.imwrite(tmp_path / "s.tif", disks((24, 48, 64))[0], imagej=True, metadata={"axes": "ZYX"})
    monkeypatch.setattr(write, "MAX_OVERLAY_PX", 40)
    options = PredictOptions(device="cpu", overlay=True)
    predict_files([tmp_path / "s.tif"], model, tmp_path / "out", options, Listener())
    with Image.open(tmp_path / "out" / "s_overlay.png") as overlay:
        assert overlay.size == (32, 24)
        pixels = np.asarray(overlay).astype(int)
    assert (np.ptp(pixels, axis=-1) > 0).any()


def test_a_limit_of_memory_makes_the_overlay_smaller():
    pixels = np.zeros((1, 900, 1200), np.uint8)
    pixels[0, 100:500, 200:900] = 90
    image, labels = ImageVolume(pixels, "CYX"), (pixels[0] > 0).astype(np.uint16)
    whole = write.overlay(image, labels)
    limit = 8 * write.OVERLAY_BYTES * 500**2
    small = write.overlay(image, labels, max_memory=limit)
    assert (whole.shape, small.shape) == ((900, 1200, 3), (300, 400, 3))
    np.testing.assert_array_equal(small.any(axis=-1)[40:160, 70:290], whole[::3, ::3].any(axis=-1)[40:160, 70:290])


@pytest.mark.parametrize(
    ("error", "remedy"), [(MemoryError(), "smaller --block"), (PermissionError(13, "no"), "permissions")]
)
def test_troubles_of_the_machine_are_told_with_a_remedy(images, model, tmp_path, monkeypatch, error, remedy):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(one_image, "open_image", fail)
    with pytest.raises(InputError, match=remedy):
        predict_files([images / "a.tif"], model, tmp_path / "out", CPU_ONLY, Listener())
