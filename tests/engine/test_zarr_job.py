"""Images of any size, block by block, to OME-Zarr: the result of the whole, in one go or in many."""

import dataclasses
import itertools
import json
import math
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cellscribble.bundle import open_model
from cellscribble.core import intensity
from cellscribble.core.errors import FileFormatError, InputError, OutputError
from cellscribble.core.volume import ImageVolume
from cellscribble.engine import outputs, steps
from cellscribble.engine.batch import predict_files
from cellscribble.engine.finish import stitch
from cellscribble.engine.options import PredictOptions
from cellscribble.engine.zarr_job import fingerprint
from cellscribble.infer.predict import predict
from cellscribble.infer.runner import Runner
from cellscribble.io import ome_zarr, ome_zarr_read, tiff_read, zarr_chunks
from cellscribble.io.images import open_image
from cellscribble.io.ome_zarr import write_ome_zarr
from cellscribble.io.ome_zarr_metadata import RGB_NAMES
from tests.engine.conftest import OBJECTS
from tests.infer.analytic import disks, metadata, write_model
from tests.io.test_tiff_lazy import slide, write_slide
from tests.segment.test_blocks import assert_same_objects, blobs


def picture(shape: tuple[int, ...], seed: int = 0, radius: float = 6.0) -> np.ndarray:
    """(1, *shape) uint8: bright balls that touch, bars, holes; black around them."""
    rng = np.random.default_rng(seed)
    out = np.zeros((1, *shape), np.uint8)
    for _ in range(max(1, min(math.prod(shape) // 4000, 12))):
        out[0][blobs(rng, shape, radius)] = rng.integers(120, 255)
    out.flat[0] = 255  # the range is fitted, so that a level means the same in all
    out.flat[-1] = 0
    return out


def write(folder: Path, pixels: np.ndarray, name: str = "slide") -> Path:
    path = folder / f"{name}.zarr"
    write_ome_zarr(path, pixels, "CYX" if pixels.ndim == 3 else "CZYX", kind="image", overwrite=True)
    return path


def segment(path: Path, model, **options):
    heard = []
    (job,) = predict_files(
        [path],
        model,
        None,
        PredictOptions(device="cpu", **options),
        lambda event, /, **fields: heard.append((event, fields)),
    )
    return job, heard


def nothing(event, /, **fields):
    pass


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def chunks(folder: Path) -> dict[str, bytes]:
    """All of a store but what names the command and the date."""
    return {name: data for name, data in contents(folder).items() if Path(name).name not in (".zattrs", "zarr.json")}


@settings(max_examples=20)
@given(data=st.data())
def test_any_block_gives_the_labels_and_the_probability_of_the_whole(models, tmp_path_factory, data):
    ndim = data.draw(st.sampled_from([2, 2, 3]))
    shape = data.draw(
        st.sampled_from([(90, 120), (61, 200), (130, 130)] if ndim == 2 else [(5, 40, 50), (22, 30, 26)])
    )
    block = tuple(data.draw(st.integers(12, 70) if ndim == 2 else st.integers(6, 24)) for _ in shape)
    pixels = picture(shape, data.draw(st.integers(0, 10**6)), data.draw(st.floats(2, 14)))
    model = models[ndim]
    whole = predict(ImageVolume(pixels, model.metadata.axes), model, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ome_zarr, "CHUNK_PX", {ndim: tuple(data.draw(st.integers(7, 80)) for _ in shape)})
        path = write(tmp_path_factory.mktemp("slide"), pixels)
    skip_empty, version = data.draw(st.booleans()), data.draw(st.sampled_from(["0.4", "0.5"]))
    options = {"block_px": block, "probability": True, "skip_empty": skip_empty, "ome_zarr": version}
    n_shards = data.draw(st.integers(1, 3))
    for i in range(1, n_shards + 1) if n_shards > 1 else ():
        segment(path, model, shard=(i, n_shards), **options)
    (job,) = stitch(path.parent, nothing) if n_shards > 1 else [segment(path, model, **options)[0]]
    assert_same_objects(np.asarray(open_image(job.labels).data)[0], whole.labels)
    if not skip_empty:  # of an empty block the network was not asked
        found = np.asarray(open_image(job.probability).data)
        np.testing.assert_allclose(found / 255, whole.probability, atol=0.5 / 255 + 1e-5)
    assert json.loads(job.provenance.read_text())["n_objects"] == whole.n_objects
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "slide.zarr", "slide_labels.json", "slide_labels.zarr", "slide_probability.zarr",
    ]  # fmt: skip


@pytest.mark.parametrize("n_channels", [2, 3])
def test_channels_and_colours_are_seen_together_whatever_the_block(tmp_path, n_channels):
    """Each channel shows a third of the cells, so the mean of all is needed."""
    rgb = {"is_rgb": True, "channels": ("red", "green", "blue")} if n_channels == 3 else {}
    meta = metadata(2, n_channels, segmenter_parameters=OBJECTS | {"threshold": 0.2}, **rgb)
    model = open_model(write_model(tmp_path / "model.onnx", meta))
    pixels = np.concatenate([picture((150, 170), seed) for seed in range(n_channels)])
    path = tmp_path / "slide.zarr"
    names = RGB_NAMES if n_channels == 3 else ("a", "b")
    write_ome_zarr(path, pixels, "CYX", kind="image", channel_names=names)
    image = open_image(path)
    assert image.is_rgb == (n_channels == 3)
    whole = predict(image, model, device="cpu")
    assert whole.n_objects > 5
    for block_px in ((32,), (50, 90)):
        job, _ = segment(path, model, block_px=block_px, overwrite=True, probability=True, skip_empty=False)
        assert_same_objects(np.asarray(open_image(job.labels).data)[0], whole.labels)
        found = np.asarray(open_image(job.probability).data) / 255
        np.testing.assert_allclose(found, whole.probability, atol=0.5 / 255 + 1e-5)


@pytest.mark.parametrize("block", [(3, 20, 26), (64, 12, 40)])
def test_a_2d_model_on_a_stack_joins_its_planes_whatever_the_block(models, tmp_path, block):
    pixels = picture((14, 60, 70), 5, 7.0)
    whole = predict(ImageVolume(pixels, "CZYX"), models[2], device="cpu", planes=True)
    job, heard = segment(write(tmp_path, pixels), models[2], block_px=block, planes=True)
    assert_same_objects(np.asarray(open_image(job.labels).data)[0], whole.labels)
    assert any("2D model sees each plane" in note for note in dict(heard)["done"]["notes"])


def test_classes_and_the_class_of_each_object_are_those_of_the_whole(models, tmp_path):
    pixels = picture((150, 170), 3)
    model = models["classes"]
    image = ImageVolume(pixels, "CYX")
    job, _ = segment(write(tmp_path, pixels), model, block_px=(32,))
    whole = predict(image, model, device="cpu")
    record = json.loads(job.provenance.read_text())
    assert record["n_objects_by_class"] == np.bincount(whole.object_classes, minlength=3)[1:].tolist()
    assert sum(record["n_objects_by_class"]) == record["n_objects"] > 3
    job, _ = segment(write(tmp_path, pixels, "again"), model, block_px=(32,), as_classes=True)
    expected = predict(image, model, device="cpu", as_classes=True).labels
    np.testing.assert_array_equal(np.asarray(open_image(job.labels).data)[0], expected)


def test_every_level_shows_every_second_pixel_of_the_one_before(models, tmp_path):
    pixels = picture((700, 1300), 5, 20.0)
    job, _ = segment(write(tmp_path, pixels), models[2], block_px=(300,))
    levels = [np.asarray(open_image(job.labels, level=level).data) for level in range(3)]
    for fine, coarse in itertools.pairwise(levels):
        np.testing.assert_array_equal(coarse, fine[:, ::2, ::2])


def test_version_0_5_is_written_and_read(models, tmp_path):
    pixels = picture((90, 120))
    job, _ = segment(write(tmp_path, pixels), models[2], ome_zarr="0.5", block_px=(40,))
    other, _ = segment(write(tmp_path, pixels, "other"), models[2], block_px=(40,))
    assert (job.labels / "zarr.json").is_file()
    np.testing.assert_array_equal(np.asarray(open_image(job.labels).data), np.asarray(open_image(other.labels).data))


def test_empty_blocks_cost_no_network_and_change_nothing(models, tmp_path, monkeypatch):
    pixels = np.zeros((1, 400, 600), np.uint8)
    pixels[:, 40:110, 50:190] = picture((70, 140), 8)
    path = write(tmp_path, pixels)
    calls = []
    real = Runner.__call__
    monkeypatch.setattr(
        Runner, "__call__", lambda self, block, keep=None: (calls.append(block.shape), real(self, block, keep))[1]
    )
    job, _ = segment(path, models[2], block_px=(50,))
    n_with = len(calls)
    blocks = json.loads(job.provenance.read_text())["blocks"]
    assert blocks["n"] == 8 * 12
    # Two calls measure the network, one more asks what flat black is.
    assert n_with == 2 + blocks["n"] - blocks["empty"] + 1 < 20
    labels = np.asarray(open_image(job.labels).data)
    job, _ = segment(path, models[2], block_px=(50,), skip_empty=False, overwrite=True)
    assert len(calls) - n_with == 2 + blocks["n"]
    np.testing.assert_array_equal(np.asarray(open_image(job.labels).data), labels)
    assert labels.max() > 0


def test_the_flat_inside_of_a_large_cell_is_no_empty_block(models, tmp_path):
    pixels = np.zeros((1, 200, 200), np.uint8)
    pixels[:, 20:180, 20:180] = 255
    job, _ = segment(write(tmp_path, pixels), models[2], block_px=(40,))
    labels = np.asarray(open_image(job.labels).data)[0]
    assert (labels[30:170, 30:170] == 1).all()
    record = json.loads(job.provenance.read_text())
    assert record["n_objects"] == 1
    assert "1 objects are wider" in " ".join(record["notes"])


def test_a_large_image_unlike_those_learnt_from_is_told(models, tmp_path):
    image = write(tmp_path, picture((300, 300), 3))
    for usual, said in (((0.0, 100.0), False), ((100.0, 200.0), True)):
        model = dataclasses.replace(models[2], metadata=dataclasses.replace(models[2].metadata, usual_doubt=usual))
        job, _ = segment(image, model, block_px=(64,), overwrite=True)
        record = json.loads(job.provenance.read_text())
        assert record["unlike"] == said
        assert ("unlike the images that the model learnt from" in " ".join(record["notes"])) == said


class Killed(BaseException):
    """Ends a run at a chosen moment as nothing that is handled would."""


@pytest.mark.parametrize("step", ["See.read", "See.ask", "See.write", "Cut", "Join", "Number", "Shrink"])
def test_a_run_that_ended_anywhere_goes_on_and_gives_the_same_bytes(models, tmp_path, monkeypatch, step):
    pixels = picture((600, 700), 11)
    straight, _ = segment(write(tmp_path, pixels, "straight"), models[2], block_px=(64,), probability=True)
    path = write(tmp_path, pixels)
    name, _, method = step.partition(".")
    kind, method = getattr(steps, name), method or "__call__"
    real, lock = getattr(kind, method), threading.Lock()
    calls: list[int] = []
    state = {"left": 0}

    def fails(self, k):
        with lock:
            if step == "Shrink" or len(calls) >= state["left"]:
                raise Killed
            calls.append(k)
        return real(self, k)

    seen: list[int] = []
    decide = steps.See.write
    if name != "See":
        monkeypatch.setattr(steps.See, "write", lambda self, look: (seen.append(look.k), decide(self, look))[1])
    for n_more in (0,) if step == "Join" else (0, 1, 5):
        state["left"] = len(calls) + n_more
        with monkeypatch.context() as patch:
            patch.setattr(kind, method, fails)
            with pytest.raises(Killed):
                segment(path, models[2], block_px=(64,), probability=True)
        assert not (tmp_path / "slide_labels.zarr").exists()
        assert (tmp_path / "slide_labels.unfinished").is_dir()
    job, _ = segment(path, models[2], block_px=(64,), probability=True)
    assert chunks(job.labels) == chunks(straight.labels)
    assert chunks(job.probability) == chunks(straight.probability)
    assert len(seen) == len(set(seen))  # what was seen once is not seen again
    assert not (tmp_path / "slide_labels.unfinished").exists()


def test_another_setting_starts_anew_and_says_so(models, tmp_path, monkeypatch):
    path = write(tmp_path, picture((200, 200), 2))
    with monkeypatch.context() as patch:
        patch.setattr(steps.Number, "__call__", lambda self, k: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            segment(path, models[2], block_px=(64,))
    job, heard = segment(path, models[2], block_px=(64,), threshold=0.7)
    notes = " ".join(dict(heard)["done"]["notes"])
    assert "threshold" in notes
    assert "0.7" in notes
    other, _ = segment(write(tmp_path, picture((200, 200), 2), "other"), models[2], block_px=(64,), threshold=0.7)
    assert chunks(job.labels) == chunks(other.labels)


def test_an_image_that_was_written_anew_is_not_gone_on_with(models, tmp_path, monkeypatch):
    """Of the same size and with the same metadata: its chunks tell."""
    path = write(tmp_path, picture((200, 200), 2))
    before = fingerprint(path)
    assert fingerprint(path) == before
    with monkeypatch.context() as patch:
        patch.setattr(steps.Number, "__call__", lambda self, k: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            segment(path, models[2], block_px=(64,))
    write(tmp_path, picture((200, 200), 9))
    assert fingerprint(path) != before
    job, _ = segment(path, models[2], block_px=(64,))
    other, _ = segment(write(tmp_path, picture((200, 200), 9), "other"), models[2], block_px=(64,))
    assert chunks(job.labels) == chunks(other.labels)


def test_a_chunk_that_a_killed_writer_left_half_written_is_not_published(models, tmp_path, monkeypatch):
    path = write(tmp_path, picture((200, 200), 2))
    straight, _ = segment(write(tmp_path, picture((200, 200), 2), "straight"), models[2], block_px=(64,))
    with monkeypatch.context() as patch:
        killed = SimpleNamespace(replace=lambda *paths: (_ for _ in ()).throw(Killed()))
        patch.setattr(zarr_chunks, "os", killed)
        with pytest.raises(Killed):
            segment(path, models[2], block_px=(64,))
    assert list((tmp_path / "slide_labels.unfinished").rglob("*.partial"))
    job, _ = segment(path, models[2], block_px=(64,))
    assert chunks(job.labels) == chunks(straight.labels)


def test_more_objects_than_16_bits_hold_have_numbers_of_32(models, tmp_path):
    dot = np.zeros((8, 8), np.uint8)
    dot[2:6, 2:6] = 200
    n = 257
    path = write(tmp_path, np.kron(np.ones((n, n), np.uint8), dot)[np.newaxis])
    job, _ = segment(path, models[2], block_px=(1024,))
    labels = np.asarray(open_image(job.labels).data)[0]
    assert (labels.dtype, int(labels.max())) == (np.uint32, n * n)
    assert np.unique(labels).size == n * n + 1


def test_a_damaged_block_is_named_and_left_out_only_if_asked(models, tmp_path, monkeypatch):
    monkeypatch.setattr(ome_zarr_read, "LAZY_BYTES", 0)
    path = write(tmp_path, np.tile(picture((512, 512), 4), (1, 2, 2)))
    (path / "0" / "0" / "1" / "0").write_bytes(b"not a chunk")
    with pytest.raises(FileFormatError, match=r"slide.zarr/0/0/1/0 cannot be unpacked"):
        segment(path, models[2], block_px=(256,))
    job, heard = segment(path, models[2], block_px=(256,), on_error="skip")
    record = json.loads(job.provenance.read_text())
    boxes = [d["box_px"] for d in record["damaged"]]
    assert [[512, 768], [0, 256]] in boxes
    words = [fields["words"] for event, fields in heard if event == "progress"]
    assert any("damaged" in text for text in words)
    assert words[-1].startswith("all 16 blocks seen")
    assert "could not be read" in " ".join(dict(heard)["done"]["notes"])
    labels = np.asarray(open_image(job.labels).data)[0]
    assert not labels[512:, :512].any()
    assert labels[:512, 512:].any()


@pytest.mark.parametrize("lost", [False, True])
@pytest.mark.parametrize("block_px", [(1024,), (256,), (160,)])
def test_of_a_damaged_chunk_only_what_sees_it_may_be_wrong(models, tmp_path, monkeypatch, block_px, lost):
    monkeypatch.setattr(ome_zarr_read, "LAZY_BYTES", 0)
    pixels = np.tile(picture((512, 512), 4), (1, 2, 2))
    whole, _ = segment(
        write(tmp_path, pixels, "whole"), models[2], block_px=block_px, probability=True, skip_empty=False
    )
    path = write(tmp_path, pixels)
    chunk = path / "0" / "0" / "1" / "0"
    chunk.unlink() if lost else chunk.write_bytes(b"not a chunk")
    options = {"block_px": block_px, "on_error": "skip", "probability": True, "skip_empty": False}
    with monkeypatch.context() as patch:  # killed behind the network, and gone on with
        patch.setattr(steps.Number, "__call__", lambda self, k: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            segment(path, models[2], **options)
    job, _ = segment(path, models[2], **options)
    told = np.zeros((1024, 1024), bool)
    for damage in json.loads(job.provenance.read_text())["damaged"]:
        assert "slide.zarr/0/0/1/0" in damage["why"]
        told[tuple(slice(*s) for s in damage["box_px"])] = True
    # The chunk, and the network's halo of it: nothing is told of that is further away.
    near = np.zeros_like(told)
    (halo,) = set(models[2].metadata.halo_px)
    near[512 - halo :, : 512 + halo] = True
    if lost:  # of a few pixels at a block's border nobody can say that they were lost
        assert told[512:, :512].all()
        assert not told[~near].any()
    else:
        np.testing.assert_array_equal(told, near)
    found, expected = (np.asarray(open_image(j.probability).data) for j in (job, whole))
    np.testing.assert_array_equal(found[:, ~near], expected[:, ~near])
    assert not found[:, 512:, :512].any()
    assert not np.asarray(open_image(job.labels).data)[0, 512:, :512].any()


@pytest.mark.parametrize("overlay", [False, True])
@pytest.mark.parametrize("lost", [False, True])
def test_damage_in_a_small_image_is_left_out_too(models, tmp_path, lost, overlay):
    path = write(tmp_path, np.tile(picture((512, 512), 4), (1, 2, 2)))
    (path / "0" / "0" / "1" / "0").write_bytes(b"not a chunk")
    if lost:
        (path / "0" / "0" / "1" / "0").unlink()
    with pytest.raises(FileFormatError, match=r"slide.zarr/0/0/1/0 (is missing|cannot be unpacked)"):
        segment(path, models[2], block_px=(256,))
    job, _ = segment(path, models[2], block_px=(256,), on_error="skip", overlay=overlay)
    boxes = [d["box_px"] for d in json.loads(job.provenance.read_text())["damaged"]]
    assert [[512, 768], [0, 256]] in boxes
    assert np.asarray(open_image(job.labels).data)[0, :256, 768:].any()
    if overlay:
        picture_of = np.asarray(open_image(job.overlay).data)
        assert not picture_of[:, 600:, :400].any()
        assert picture_of[:, :400, :400].any()


def test_nan_beside_the_sample_is_no_silent_hole(models, tmp_path, monkeypatch):
    monkeypatch.setattr(intensity, "MAX_SAMPLED_VALUES", 2000)
    pixels = picture((400, 400), 4).astype(np.float32)
    pixels[0, 10:16, 300:310] = np.nan
    with pytest.raises(InputError, match=r"60 NaN or infinite pixels; replace them"):
        segment(write(tmp_path, pixels), models[2], block_px=(200,))


def test_results_that_exist_are_refused_and_replaced_if_asked(models, tmp_path):
    path = write(tmp_path, picture((90, 90)))
    segment(path, models[2])
    with pytest.raises(OutputError, match="--overwrite"):
        segment(path, models[2])
    job, _ = segment(path, models[2], overwrite=True, as_classes=True)
    assert np.asarray(open_image(job.labels).data).max() == 1


def test_a_huge_tiff_becomes_a_store_of_labels(models, tmp_path, monkeypatch):
    monkeypatch.setattr(outputs, "MAX_TIFF_PIXELS", 48 * 64 - 1)
    tifffile.imwrite(tmp_path / "huge.tif", disks()[0])
    (job,) = predict_files(
        [tmp_path / "huge.tif"],
        models[2],
        tmp_path / "out",
        PredictOptions(device="cpu"),
        lambda event, /, **fields: None,
    )
    assert job.labels == tmp_path / "out" / "huge_labels.zarr"
    assert np.asarray(open_image(job.labels).data).max() == 2


def noted_bytes(unfinished):
    return sum(path.stat().st_size for path in unfinished.glob("journal*.txt"))


def test_a_damaged_tile_of_a_tiff_is_named_and_left_out_only_if_asked(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tiff_read, "LAZY_BYTES", 0)
    monkeypatch.setattr(outputs, "MAX_TIFF_PIXELS", 100)
    path, tile_px = tmp_path / "a.tif", 256
    tifffile.imwrite(path, np.tile(picture((500, 500), 6), (1, 2, 2))[0], tile=(tile_px,) * 2, compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        (start, size) = tiff.pages.first.dataoffsets[5], tiff.pages.first.databytecounts[5]
    data = bytearray(path.read_bytes())
    data[start : start + size] = b"\xff" * size
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match="image 'a' cannot be read"):
        segment(path, models[2], block_px=(300,))
    job, _ = segment(path, models[2], block_px=(300,), on_error="skip")
    told = np.zeros((1000, 1000), bool)
    for damage in json.loads(job.provenance.read_text())["damaged"]:
        assert re.search(r"cannot be read y \d+ to \d+, x \d+ to \d+ \(", damage["why"])
        told[tuple(slice(*s) for s in damage["box_px"])] = True
    inside = np.zeros_like(told)
    inside[256:512, 256:512] = True
    assert told[inside].all()
    assert not np.asarray(open_image(job.labels).data)[0][inside].any()
    assert not told[:240].any()


@pytest.mark.parametrize(("kind", "name"), [("jpeg", "a.svs"), ("jpeg2000", "a.svs"), ("ome", "a.ome.tif")])
def test_a_slide_is_segmented_by_blocks_as_its_pixels_are_whole(tmp_path, monkeypatch, kind, name):
    monkeypatch.setattr(tiff_read, "LAZY_BYTES", 0)
    monkeypatch.setattr(outputs, "MAX_TIFF_PIXELS", 100)
    write_slide(tmp_path / name, kind, slide())
    monkeypatch.chdir(tmp_path)
    objects = OBJECTS | {"threshold": 0.75}
    meta = metadata(
        2, 3, is_rgb=True, channels=("red", "green", "blue"), pixel_size_um=(0.5, 0.5), segmenter_parameters=objects
    )
    model = open_model(write_model(tmp_path / "model.onnx", meta))
    job, _ = segment(tmp_path / name, model, block_px=(100, 130))
    assert job.by_blocks
    image = open_image(tmp_path / name)
    whole = predict(image.with_data(np.asarray(image.data[...])), model, device="cpu")
    assert_same_objects(np.asarray(open_image(job.labels).data)[0], whole.labels)
    assert whole.n_objects > 3
    assert [level.shape for level in open_image(job.labels).levels] == [level.shape for level in image.levels]


@pytest.mark.slow
def test_a_killed_program_goes_on_where_it_was(models, tmp_path):
    pixels = np.tile(picture((500, 500), 6), (1, 3, 3))
    straight, _ = segment(write(tmp_path, pixels, "straight"), models[2], block_px=(128,))
    path = write(tmp_path, pixels)
    command = [
        sys.executable, "-m", "cellscribble", "predict", str(path), "-m", str(models[2].path), "--block", "128",
        "--device", "cpu",
    ]  # fmt: skip
    finished, unfinished = tmp_path / "slide_labels.zarr", tmp_path / "slide_labels.unfinished"
    rng = np.random.default_rng(0)
    for _ in range(4):
        # Killed when it has noted some more tasks, not after some seconds: machines differ.
        enough = noted_bytes(unfinished) + rng.integers(1, 500)
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and noted_bytes(unfinished) < enough:
                time.sleep(0.001)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        assert not finished.exists()
    subprocess.run(command, check=True, capture_output=True)
    assert not unfinished.exists()
    assert chunks(finished) == chunks(straight.labels)


def test_an_image_whose_only_speck_lies_on_a_block_face_and_is_too_small_has_no_objects(models, tmp_path):
    pixels = np.zeros((1, 64, 64), np.uint8)
    pixels[0, 30:34, 30:34] = 200
    own = models[2].metadata
    settings = {**own.segmenter_parameters, "smallest_object_px": 100}
    model = dataclasses.replace(models[2], metadata=dataclasses.replace(own, segmenter_parameters=settings))
    job, _ = segment(write(tmp_path, pixels), model, block_px=(32,))
    assert json.loads(job.provenance.read_text())["n_objects"] == 0
    assert not np.asarray(open_image(job.labels).data).any()
