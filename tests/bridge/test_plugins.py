"""Predict, Show labels and Train as commands of the real ImageJ."""

import time
import zipfile

import numpy as np
import pytest
import roifile
import tifffile

from cellscribble.bridge.fiji import install
from cellscribble.bridge.macro_text import quote
from cellscribble.io.scribbles import save_scribbles
from cellscribble.io.tiff import save_labels
from tests.bridge.imagej import wait_for
from tests.infer.analytic import disks, metadata, write_model

pytestmark = pytest.mark.imagej

# What the macro that called a command sees: a line into a file, since ImageJ's exit code says nothing.
REPORT = """
function report(what) {
    error = call("ij.Prefs.get", "cellscribble.error", "");
    File.append(what + "|" + error + "|" + call("ij.Prefs.get", "cellscribble.result", ""), %s);
}
function image_line() {
    getVoxelSize(w, h, d, unit);
    getDimensions(width, height, channels, slices, frames);
    getStatistics(area, mean, least, most);
    size = "" + width + "x" + height + "x" + slices;
    return getTitle() + "," + bitDepth() + "," + size + "," + d2s(w, 3) + " " + unit + "," + most;
}
"""


@pytest.fixture
def place(imagej):
    """ImageJ with our commands, a model, and an image with two bright disks, 48 x 64, 0.5 um pixels."""
    (imagej.folder / "ImageJ" / "plugins").mkdir(parents=True)
    install(imagej.plugins)
    write_model(imagej.folder / "model.onnx", metadata(pixel_size_um=(0.5, 0.5)))
    options = {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "um"}}
    tifffile.imwrite(imagej.folder / "two disks.tif", disks()[0], **options)
    return imagej


def run(imagej, macro, mode="-batch", timeout_s=180.0):
    """Lines of `report`: what, error, result."""
    out = imagej.folder / "report.txt"
    out.write_text("")
    names = {"IMAGE": "two disks.tif", "MODEL": "model.onnx", "FOLDER": "."}
    for name, file in names.items():
        macro = macro.replace(name, quote(imagej.folder / file))
    end = '\nrun("Quit");' if mode == "-macro" else ""
    imagej.run(REPORT % quote(out) + macro + end, mode=mode, timeout_s=timeout_s)
    return [line.split("|") for line in out.read_text(encoding="utf-8").splitlines()]


def test_predict_shows_labels_with_the_calibration_of_the_image(place):
    lines = run(
        place,
        """
        open(IMAGE);
        run("CellScribble Predict", "model=[" + MODEL + "] rois");
        line = image_line(); report(line + "," + nImages);
        getLut(r, g, b);
        report("" + r[0] + " " + r[1] + " " + g[1] + " " + b[1]);
        selectImage(1);
        makeRectangle(0, 0, 40, 48);
        run("CellScribble Predict", "model=[" + MODEL + "] output=[" + FOLDER + "/out]");
        line = image_line(); report(line);
        """,
    )
    labels, lut, part = lines
    assert labels[0].startswith("two disks.tif labels,16,64x48x1,0.500 ")
    assert labels[0].endswith(",2,2")
    assert lut[0] == "0 255 51 51"
    # Of the left part only, but in the place where it lies in the image.
    assert part[0].split(",")[2::2] == ["64x48x1", "1"]
    assert part[2] == f"{place.folder}/out/two disks_labels.tif"
    whole = tifffile.imread(part[2])
    assert whole.shape == (48, 64)
    assert set(np.unique(whole)) == {0, 1}
    assert not list((place.folder / "tmp").glob("*cellscribble*"))


def test_rois_are_in_the_roi_manager(place):
    """In the real window, where a person looks; in -batch a Manager is seen by its own macro only."""
    lines = run(
        place,
        """
        open(IMAGE);
        makeRectangle(3, 3, 9, 9); roiManager("add"); run("Select None");
        run("CellScribble Predict", "model=[" + MODEL + "] rois");
        names = "";
        for (i = 0; i < roiManager("count"); i++) names = names + RoiManager.getName(i) + " ";
        report(names);
        report("windows " + nImages);
        selectImage(1);
        run("CellScribble Predict", "model=[" + MODEL + ".gone]");
        report("gone");
        report("windows " + nImages);
        """,
        mode="-macro",
    )
    assert lines[0][0] == "1 2 "
    assert lines[1][0] == "windows 2"
    # No window waits for a click here either, and none is left.
    assert "there is no model file" in lines[2][1]
    assert lines[3][0] == "windows 2"


def test_what_fails_is_one_line_and_nothing_hangs(place):
    tifffile.imwrite(place.folder / "colour.tif", np.zeros((48, 64, 3), np.uint8), photometric="rgb")
    (place.folder / "readonly.txt").write_text("x")
    lines = run(
        place,
        """
        run("CellScribble Predict", "model=[" + MODEL + "]"); report("no image");
        open(IMAGE);
        run("CellScribble Predict", "model=[" + MODEL + ".gone]"); report("no model");
        run("CellScribble Predict", "rois"); report("no model named");
        run("CellScribble Predict", "model=[" + MODEL + "] input=[/no/such]"); report("no input");
        run("CellScribble Predict", "model=[" + MODEL + "] output=[" + FOLDER + "/readonly.txt]"); report("no output");
        run("CellScribble Show labels", "labels=[" + MODEL + "]"); report("no labels");
        run("CellScribble Train", "images=[/no/such]"); report("no images");
        run("CellScribble Annotate", "images=[" + FOLDER + "]"); report("no window");
        run("CellScribble Suggest regions", "model=[" + MODEL + ".gone]"); report("no model to suggest");
        run("CellScribble Suggest regions", "model=[" + MODEL + "] input=[/no/such]"); report("nothing to look at");
        close();
        open(FOLDER + "/colour.tif");
        run("CellScribble Predict", "model=[" + MODEL + "]"); report("colour");
        report("images " + nImages);
        """,
        timeout_s=240,
    )
    errors = {what: error for what, error, _ in lines}
    assert "no image is open; open one" in errors["no image"]
    assert "there is no model file" in errors["no model"]
    assert "no model is chosen" in errors["no model named"]
    assert "there is no file or folder /no/such" in errors["no input"]
    assert "cannot write into" in errors["no output"]
    assert "cannot" in errors["no labels"] or "not read here" in errors["no labels"]
    assert "there is no folder of images /no/such" in errors["no images"]
    assert "Annotate needs ImageJ's window" in errors["no window"]
    assert "there is no model file" in errors["no model to suggest"]
    assert "there is no file or folder /no/such" in errors["nothing to look at"]
    assert "the model expects 1 channel (DAPI)" in errors["colour"]
    assert "images 1" in errors
    assert all(result == "" for _, _, result in lines)
    # Nothing lies about but the logs that the errors name.
    assert {p.suffix for p in (place.folder / "tmp").glob("*cellscribble*")} == {".log"}


def test_strokes_that_cannot_be_used_are_told_in_one_line(place):
    """A zip made to do harm, strokes of a larger image, a place where nothing can be saved."""
    entry = stroke_roi("nucleus_1", 300).tobytes()
    for name, inner in (("harm", "../out.roi"), ("alien", "nucleus_1.roi")):
        folder = place.folder / name
        folder.mkdir()
        tifffile.imwrite(folder / "a.tif", disks()[0])
        with zipfile.ZipFile(folder / "a_rois.zip", "w") as archive:
            archive.writestr(inner, entry)
    lines = run(
        place,
        """
        run("CellScribble Train", "images=[" + FOLDER + "/harm] minutes=0.1"); report("harm");
        run("CellScribble Train", "images=[" + FOLDER + "/alien] minutes=0.1"); report("alien");
        run("CellScribble Annotate", "images=[" + FOLDER + "/alien] strokes=[/proc] classes=[nucleus] width=3");
        report("proc");
        run("CellScribble Annotate", "images=[" + FOLDER + "/alien] strokes=[/no/such] classes=[nucleus] width=3");
        report("gone");
        """,
        mode="-macro",
    )
    errors = {what: error for what, error, _ in lines}
    assert "leads out of its folder" in errors["harm"]
    assert not list(place.folder.rglob("out.roi"))
    assert "px but the image is (48, 64)" in errors["alien"]
    assert "draw them on this image" in errors["alien"]
    assert "nothing can be saved in /proc; give a folder of your own as Strokes" in errors["proc"]
    assert "there is no folder /no/such for the strokes" in errors["gone"]


def stroke_roi(name, x):
    line = roifile.ImagejRoi.frompoints(np.array([(x, 5), (x + 20, 5)]))
    line.roitype, line.name, line.stroke_width = roifile.ROI_TYPE.FREELINE, name, 3
    return line


def test_a_program_that_is_gone_says_install_again(place):
    file = place.plugins / "plugins" / "CellScribble" / "CellScribble_Predict.ijm"
    text = file.read_text().splitlines()
    text[1] = 'var python = "/no/such/python";'
    file.write_text("\n".join(text))
    ((_, error, _),) = run(place, 'open(IMAGE); run("CellScribble Predict", "model=[" + MODEL + "]"); report("");')
    assert error.startswith(
        "the program /no/such/python is not there or may not be run; type `cellscribble fiji-install`"
    )


def test_files_and_folders_and_their_labels_shown(place):
    save_labels(place.folder / "stack_labels.tif", np.full((3, 20, 30), 70_000))
    lines = run(
        place,
        """
        options = "model=[" + MODEL + "] input=[" + IMAGE + "] output=[" + FOLDER + "/one]";
        run("CellScribble Predict", options);
        line = image_line(); report(line);
        run("CellScribble Predict", options); report("again");
        run("CellScribble Predict", options + " overwrite"); report("over");
        run("CellScribble Show labels", "labels=[" + FOLDER + "/stack_labels.tif]");
        line = image_line(); report(line);
        """,
        timeout_s=180,
    )
    assert lines[0][0].startswith("two disks_labels.tif,16,64x48x1,0.500 ")
    assert "exists already" in lines[1][1]
    assert lines[2][1:] == ["", f"{place.folder}/one/two disks_labels.tif"]
    # ImageJ has no 32-bit integers: what is above 65,535 comes as float, exactly.
    assert lines[3][0].startswith("stack_labels.tif,32,30x20x3,")
    assert lines[3][0].endswith(",70000")


def test_train_from_strokes_then_predict(place, disks_2d):
    (place.folder / "imgs").mkdir()
    tifffile.imwrite(place.folder / "imgs" / "a.tif", disks_2d.image.data[0])
    save_scribbles(place.folder / "imgs" / "a_scribbles.tif", disks_2d.scribbles)
    lines = run(
        place,
        """
        run("CellScribble Train", "images=[" + FOLDER + "/imgs] minutes=0.1 output=[" + FOLDER + "/my run]");
        report("train");
        model = call("ij.Prefs.get", "cellscribble.result", "");
        open(FOLDER + "/imgs/a.tif");
        run("CellScribble Predict", "model=[" + model + "]");
        line = image_line(); report(line);
        """,
        timeout_s=300,
    )
    assert lines[0] == ["train", "", f"{place.folder}/my run/model.onnx"]
    assert lines[1][0].startswith("a.tif labels,16,64x64x1,")


def dialog(place, command):
    """The window of a command's dialog; "" where there is none."""
    return place.xdotool("search", "--onlyvisible", "--name", f"^CellScribble {command}$").rpartition("\n")[2]


def press_ok(place, command):
    """Whether there was a dialog."""
    window = dialog(place, command)
    corner = dict(line.split("=") for line in place.xdotool("getwindowgeometry", "--shell", window).splitlines())
    if window and corner:
        x, y, width, height = (int(corner[name]) for name in ("X", "Y", "WIDTH", "HEIGHT"))
        place.xdotool("mousemove", x + width - 39, y + height - 21, "click", 1)
        time.sleep(1)
    return window


@pytest.mark.parametrize(
    ("command", "options"),
    [("Predict", "input=[] output=[] rois"), ("Suggest regions", "number=10 size=96 input=[] output=[]")],
)
def test_the_recorder_writes_what_replays(place, command, options):
    """The dialog, answered by its button OK, is recorded as the call that a macro makes, when the command ends."""
    out = place.folder / "recorded.txt"
    macro = f"""
        open({quote(place.folder / "two disks.tif")});
        call("ij.Prefs.set", "cellscribble.model", {quote(place.folder / "model.onnx")});
        run("Record...");
        doCommand("CellScribble {command}");
        for (i = 0; i < 700 && !isOpen("ROI Manager"); i++) wait(100);
        // That is nearly the last that both do.
        wait(3000);
        selectWindow("Recorder");
        text = getInfo("window.contents");
        if (text == "") text = getInfo("selection.name");
        File.saveString(text, {quote(out)});
    """
    process = place.start("-macro", macro)
    try:
        wait_for(lambda: dialog(place, command))
        # It may still be on its way to its place: click OK until it is gone.
        wait_for(lambda: not press_ok(place, command))
        wait_for(out.exists)
    finally:
        place.screenshot()
        process.kill()
        process.communicate()
    model = place.folder / "model.onnx"
    line = f'run("CellScribble {command}", "model=[{model}] {options}");'
    assert line in out.read_text(encoding="utf-8")
