"""The forms of a result: levels, shards, uncertainty, TIFF pyramids, labels inside their image."""

import json
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import yaozarrs
import zarr

from cellscribble.bundle import open_model
from cellscribble.core.errors import InputError, OutputError
from cellscribble.core.volume import ImageVolume, PyramidLevel
from cellscribble.engine import into_image as into_module
from cellscribble.engine import outputs, publish, steps
from cellscribble.engine.into_image import IntoImage
from cellscribble.infer.predict import predict
from cellscribble.infer.uncertainty import uncertainty
from cellscribble.io.images import open_image
from cellscribble.io.ome_zarr import write_ome_zarr
from tests.engine.test_zarr_job import Killed, chunks, picture, segment, write
from tests.infer.analytic import metadata, write_model

# Fixtures are imported under their own names.

VERSIONS = pytest.mark.parametrize("version", ["0.4", "0.5"])


def n_files(folder) -> int:
    return sum(path.is_file() for path in folder.rglob("*"))


def pixels_of(path, level=0):
    return np.asarray(open_image(path, level=level).data)


def test_levels_of_labels_are_those_of_the_image_whatever_its_steps(models, tmp_path):
    pixels = picture((601, 1003), 5, 20.0)
    path = tmp_path / "slide.zarr"
    levels = [
        PyramidLevel((601, 1003), (0.5, 0.25), (0.0, 0.0)),
        PyramidLevel((150, 250), (2.0, 1.0), (0.75, 0.375)),  # as converters of slides write them: by 4, cut off
        PyramidLevel((75, 125), (4.0, 2.0), (1.75, 0.875)),
        PyramidLevel((50, 90), (6.0, 2.775), (2.5, 1.25)),
    ]
    write_ome_zarr(path, pixels, "CYX", (0.5, 0.25), kind="image", levels=levels)
    job, _ = segment(path, models[2], block_px=(128,), ignore_pixel_size=True, probability=True)
    for result in (job.labels, job.probability):
        yaozarrs.validate_zarr_store(str(result))
        found = open_image(result).levels
        assert [one.shape for one in found] == [one.shape for one in levels]
        for one, expected in zip(found, levels, strict=True):
            assert one.scale == pytest.approx(expected.scale)
            assert one.offset == pytest.approx(expected.offset)
    full = pixels_of(job.labels)[0]
    np.testing.assert_array_equal(pixels_of(job.labels, 1)[0], full[:600:4, :1000:4])
    np.testing.assert_array_equal(pixels_of(job.labels, 2)[0], full[:600:8, :1000:8])
    odd, fine = pixels_of(job.labels, 3)[0], pixels_of(job.labels, 2)[0]
    np.testing.assert_array_equal(odd, fine[np.ix_(np.arange(50) * 75 // 50, np.arange(90) * 125 // 90)])
    mean = pixels_of(job.probability)[:, :600, :1000].reshape(2, 150, 4, 250, 4).mean(axis=(2, 4))
    np.testing.assert_allclose(pixels_of(job.probability, 1), mean, atol=0.51)


def test_shards_hold_what_a_block_owns_and_files_are_few(models, tmp_path):
    pixels = np.tile(picture((600, 900), 4), (1, 4, 3))
    plain, _ = segment(write(tmp_path, pixels, "plain"), models[2], block_px=(1024,))
    job, _ = segment(
        write(tmp_path, pixels), models[2], block_px=(1024,), ome_zarr="0.5", probability=True, uncertainty=True
    )
    group = zarr.open_group(str(job.labels), mode="r")
    assert group["0"].shards == (1024, 1024)
    assert group["0"].chunks == (512, 512)
    for level in range(4):
        np.testing.assert_array_equal(pixels_of(job.labels, level), pixels_of(plain.labels, level))
    for path in (job.labels, job.probability, job.uncertainty):
        yaozarrs.validate_zarr_store(str(path))
    # 3 x 3 shards, one of each level above (1200 x 1350 px ...), and the headers
    assert n_files(job.labels) == 9 + 3 + 5
    assert n_files(plain.labels) > 40


def test_a_sharded_run_that_was_killed_gives_the_same_bytes(models, tmp_path, monkeypatch):
    pixels = np.tile(picture((600, 700), 11), (1, 2, 2))
    settings = {"block_px": (512, 1024), "ome_zarr": "0.5", "uncertainty": True}
    straight, _ = segment(write(tmp_path, pixels, "straight"), models[2], **settings)
    path = write(tmp_path, pixels)
    for step, method in (("See", "write"), ("Number", "__call__"), ("Shrink", "__call__")):
        kind, calls = getattr(steps, step), []
        real = getattr(kind, method)

        def fails(self, k, real=real, calls=calls):
            word = real(self, k)  # killed after it is written and before it is noted
            calls.append(k)
            if len(calls) > 1:
                raise Killed
            return word

        with monkeypatch.context() as patch:
            patch.setattr(kind, method, fails)
            with pytest.raises(Killed):
                segment(path, models[2], **settings)
    job, _ = segment(path, models[2], **settings)
    assert chunks(job.labels) == chunks(straight.labels)
    assert chunks(job.uncertainty) == chunks(straight.uncertainty)


def test_uncertainty_is_what_the_margin_says():
    probability = np.array([[[1.0, 0.5, 0.6, 0.0]], [[0.0, 0.5, 0.4, 1.0]]], np.float32)
    np.testing.assert_array_equal(uncertainty(probability), [[0, 255, 204, 0]])
    three = np.array([[[0.7, 1 / 3, 0.0]], [[0.2, 1 / 3, 0.5]], [[0.1, 1 / 3, 0.5]]], np.float32)
    np.testing.assert_array_equal(uncertainty(three), [[128, 255, 255]])  # 255 * (1 - .5) = 127.5


def test_uncertainty_is_written_block_by_block_and_in_memory(models, tmp_path):
    pixels = picture((150, 170), 3)
    whole = predict(ImageVolume(pixels, "CYX"), models["classes"], device="cpu")
    path = write(tmp_path, pixels)
    store, _ = segment(path, models["classes"], block_px=(40,), uncertainty=True, skip_empty=False)
    tiff, _ = segment(path, models["classes"], uncertainty=True, format="tiff", overwrite=True)
    assert [store.uncertainty.name, tiff.uncertainty.name] == ["slide_uncertainty.zarr", "slide_uncertainty.tif"]
    expected = uncertainty(whole.probability)
    for found in (store.uncertainty, tiff.uncertainty):
        image = open_image(found)
        assert image.data.dtype == np.uint8
        np.testing.assert_allclose(np.asarray(image.data)[0].astype(int), expected, atol=1)


def test_a_small_zarr_as_tiff_is_what_imagej_opens(models, tmp_path):
    path = write(tmp_path, picture((150, 170), 3))
    store, _ = segment(path, models[2])
    tiff, _ = segment(path, models[2], format="tiff", overwrite=True)
    assert tiff.labels == tmp_path / "slide_labels.tif"
    with tifffile.TiffFile(tiff.labels) as opened:
        assert opened.is_imagej
    np.testing.assert_array_equal(pixels_of(tiff.labels), pixels_of(store.labels))


def test_a_tiff_as_zarr(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite("cells.tif", picture((150, 170), 3)[0])
    job, _ = segment("cells.tif", models[2], format="zarr")
    yaozarrs.validate_zarr_store(str(job.labels))
    assert str(job.labels) == "cellscribble_out/cells_labels.zarr"
    assert pixels_of(job.labels).max() > 1


@pytest.mark.parametrize(("kind", "shape"), [("classes", (1200, 1310)), (3, (7, 530, 600))])
def test_a_huge_image_as_tiff_is_a_tiled_pyramid_of_the_same_labels(models, tmp_path, monkeypatch, kind, shape):
    monkeypatch.setattr(outputs, "MAX_TIFF_PIXELS", 1000)
    path = tmp_path / "slide.zarr"
    # Planes so thick that no level of the pyramid has fewer.
    size = (4.0, 0.5, 0.5)[-len(shape) :]
    write_ome_zarr(path, picture(shape, 5, 9.0), "C" + "ZYX"[-len(shape) :], size, kind="image")
    block = (512,) if len(shape) == 2 else (7, 512, 512)
    store, _ = segment(path, models[kind], block_px=block, probability=True)
    tiff, _ = segment(path, models[kind], block_px=block, probability=True, format="tiff", overwrite=True)
    with tifffile.TiffFile(tiff.labels) as opened:
        assert opened.is_bigtiff
        assert opened.is_ome
        assert opened.pages[0].is_tiled
        assert opened.pages[0].compression != 1
        levels = opened.series[0].levels
        assert [one.shape for one in levels] == [one.shape[-len(shape) :] for one in open_image(store.labels).levels]
        for level, one in enumerate(levels):
            np.testing.assert_array_equal(one.asarray(), pixels_of(store.labels, level)[0])
    np.testing.assert_array_equal(pixels_of(tiff.labels, 1), pixels_of(store.labels, 1))
    np.testing.assert_array_equal(pixels_of(tiff.probability), pixels_of(store.probability))
    assert open_image(tiff.probability).channel_names == models[kind].metadata.classes
    record = json.loads(tiff.provenance.read_text())
    if kind == "classes":
        classes = np.asarray(zarr.open_group(str(store.labels), mode="r")["object_classes"])
        assert record["object_classes"] == classes.tolist()


def image_in(tmp_path, version="0.4", name="slide"):
    path = tmp_path / f"{name}.zarr"
    write_ome_zarr(path, picture((600, 700), 11), "CYX", kind="image", version=version, overwrite=True)
    return path


def listed(path) -> list[str]:
    attributes = zarr.open_group(str(path / "labels"), mode="r", use_consolidated=False).attrs.asdict()
    return attributes.get("ome", attributes)["labels"]


@VERSIONS
def test_labels_inside_the_image_are_listed_and_lie_over_it(models, tmp_path, version):
    path = image_in(tmp_path, version)
    alone, _ = segment(image_in(tmp_path, version, "other"), models[2], ome_zarr=version)
    for name in ("nuclei", "more"):
        job, _ = segment(path, models[2], into_image=name, uncertainty=True)
        assert job.labels == path / "labels" / name
    yaozarrs.validate_zarr_store(str(path))
    assert listed(path) == ["nuclei", "more"]
    group = zarr.open_group(str(job.labels), mode="r").attrs.asdict()
    assert group.get("ome", group)["image-label"]["source"] == {"image": "../../"}
    np.testing.assert_array_equal(pixels_of(job.labels), pixels_of(alone.labels))
    assert open_image(job.labels).levels == open_image(path).levels
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("slide")) == [
        "slide.zarr", "slide_more_labels.json", "slide_more_uncertainty.zarr",
        "slide_nuclei_labels.json", "slide_nuclei_uncertainty.zarr",
    ]  # fmt: skip
    with pytest.raises(OutputError, match="--overwrite"):
        segment(path, models[2], into_image="more")
    job, _ = segment(path, models[2], into_image="nuclei", overwrite=True, as_classes=True)
    assert pixels_of(job.labels).max() == 1
    assert sorted(listed(path)) == ["more", "nuclei"]


@VERSIONS
def test_labels_of_a_rescaled_image_go_into_it_too(tmp_path, version):
    model = open_model(write_model(tmp_path / "model.onnx", metadata(pixel_size_um=(1.0, 1.0))))
    path = tmp_path / "slide.zarr"
    pixels = picture((601, 1200), 11, 20.0)
    write_ome_zarr(path, pixels, "CYX", (0.5, 0.5), kind="image", version=version)
    job, _ = segment(path, model, into_image="nuclei", rescale=True, uncertainty=True)
    yaozarrs.validate_zarr_store(str(path))
    assert listed(path) == ["nuclei"]
    assert open_image(job.labels).levels == open_image(path).levels == open_image(job.uncertainty).levels
    assert pixels_of(job.labels).shape == (1, 601, 1200)


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@VERSIONS
def test_a_table_of_contents_of_the_image_has_the_new_labels(models, tmp_path, version):
    path = image_in(tmp_path, version)
    zarr.consolidate_metadata(str(path))
    segment(path, models[2], into_image="nuclei")
    assert zarr.open_group(str(path), mode="r")["labels/nuclei/0"].shape == (600, 700)


@VERSIONS
@pytest.mark.parametrize("overwrite", [False, True])
def test_labels_are_never_listed_while_they_are_not_whole(models, tmp_path, monkeypatch, version, overwrite):
    path = image_in(tmp_path, version)
    settings = {"into_image": "nuclei", "overwrite": overwrite, "block_px": (256,)}
    straight, _ = segment(image_in(tmp_path, version, "straight"), models[2], into_image="nuclei", block_px=(256,))
    if overwrite:
        segment(path, models[2], into_image="nuclei", as_classes=True)
    moves, real = [], publish._move

    def killed(*args):
        moves.append(args)
        if len(moves) > left:
            raise Killed
        real(*args)

    def killed_enlist(self):
        raise Killed

    for n_moves, where in [(0, (publish, "_move", killed)), (1, (publish, "_move", killed)), (9, None)]:
        left = n_moves
        moves.clear()
        with monkeypatch.context() as patch:
            patch.setattr(*(where or (IntoImage, "enlist", killed_enlist)))
            with pytest.raises(Killed):
                segment(path, models[2], **settings)
        assert listed(path) == []
    job, _ = segment(path, models[2], **settings)
    assert listed(path) == ["nuclei"]
    assert chunks(job.labels) == chunks(straight.labels)
    assert not job.unfinished.exists()


def test_what_can_hold_no_labels_is_refused_and_says_why(models, tmp_path):
    tifffile.imwrite(tmp_path / "cells.tif", picture((90, 90))[0])
    path = image_in(tmp_path)
    zarr.create_group(str(tmp_path / "plain.zarr"))
    for image, settings, words in [
        (tmp_path / "cells.tif", {"into_image": "a"}, "no OME-Zarr folder"),
        (tmp_path / "plain.zarr", {"into_image": "a"}, "holds no image itself"),
        ("https://127.0.0.1:9/slide.zarr", {"into_image": "a"}, "no OME-Zarr folder"),
        (path, {"into_image": "a/b"}, "no name for labels"),
        (path, {"into_image": "../b"}, "no name for labels"),
        (path, {"into_image": "a", "format": "tiff"}, "do not apply"),
    ]:
        with pytest.raises(InputError, match=words):
            segment(image, models[2], **settings)
    assert not (path / "labels").exists()
    assert into_module.into_image(path, "a").version == "0.4"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_a_disk_that_is_full_ends_the_run_with_one_line_and_the_run_goes_on(models, tmp_path):
    pixels = np.tile(picture((500, 500), 6), (1, 4, 4))
    straight, _ = segment(write(tmp_path, pixels, "straight"), models[2], block_px=(128,))
    path = write(tmp_path, pixels)
    command = [
        sys.executable, "-m", "cellscribble", "predict", str(path), "-m", str(models[2].path), "--block", "128",
        "--device", "cpu",
    ]  # fmt: skip

    def full():
        # No file beyond 5000 bytes: the system refuses as it does on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    ended = subprocess.run(command, capture_output=True, text=True, preexec_fn=full)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("error: cannot write")
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "slide_labels.unfinished").is_dir()
    assert not (tmp_path / "slide_labels.zarr").exists()
    job, _ = segment(path, models[2], block_px=(128,))
    assert chunks(job.labels) == chunks(straight.labels)


def test_other_programs_read_labels_inside_the_image(models, tmp_path):
    reader = pytest.importorskip("ome_zarr.reader")
    location = pytest.importorskip("ome_zarr.io").parse_url
    for version in ("0.4", "0.5"):
        path = image_in(tmp_path, version, f"slide{version}")
        job, _ = segment(path, models[2], into_image="nuclei")
        nodes = list(reader.Reader(location(str(path)))())
        (labels,) = [node for node in nodes if any(isinstance(spec, reader.Label) for spec in node.specs)]
        np.testing.assert_array_equal(np.asarray(labels.data[1]), pixels_of(job.labels, 1)[0])


@VERSIONS
def test_other_programs_open_results_of_their_own(models, tmp_path, version):
    reader = pytest.importorskip("ome_zarr.reader")
    location = pytest.importorskip("ome_zarr.io").parse_url
    layers_of = pytest.importorskip("napari_ome_zarr").napari_get_reader
    path = write(tmp_path, picture((700, 1300), 5, 20.0))
    more = {"ome_zarr": version, "probability": True, "uncertainty": True, "block_px": (256,)}
    job, _ = segment(path, models[2], **more)
    for store in (job.labels, job.probability, job.uncertainty):
        yaozarrs.validate_zarr_store(str(store))
        (node,) = reader.Reader(location(str(store)))()
        (layer,) = layers_of(str(store))(str(store))
        assert layer[2] == ("labels" if store == job.labels else "image")
        for level in range(3):
            expected = pixels_of(store, level)
            shown = np.asarray(node.data[level]), np.asarray(layer[0][level])
            for values in shown:
                np.testing.assert_array_equal(values.reshape(expected.shape), expected)
