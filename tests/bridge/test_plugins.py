"""Predict, Show labels and Train as commands of the real ImageJ."""

import re
import shutil
import zipfile

import numpy as np
import pytest
import roifile
import tifffile

from cellscribble.bridge.fiji import install
from cellscribble.bridge.macro_text import quote
from cellscribble.io.box_rois import MarkedBox, save_box_rois
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


def test_a_selection_beyond_the_border_and_labels_that_were_selected_on_lie_where_they_are(place):
    lines = run(
        place,
        """
        open(IMAGE);
        makeRectangle(-10, -10, 50, 70);
        run("CellScribble Predict", "model=[" + MODEL + "] output=[" + FOLDER + "/out]");
        line = image_line(); report(line);
        makeRectangle(30, 0, 34, 48);
        run("CellScribble Show labels", "rois");
        roiManager("select", 0);
        Roi.getBounds(x, y, w, h);
        report("" + roiManager("count") + " " + x);
        selectImage(1);
        makeRectangle(100, 100, 5, 5);
        run("CellScribble Predict", "model=[" + MODEL + "]");
        report("beside");
        """,
        mode="-macro",
    )
    assert lines[0][0].split(",")[2::2] == ["64x48x1", "1"]
    whole = tifffile.imread(place.folder / "out" / "two disks_labels.tif")
    y, x = np.nonzero(whole)
    assert (y.mean(), x.mean()) == pytest.approx((24, 12), abs=0.5)
    assert sorted(p.name for p in (place.folder / "out").iterdir()) == [
        "two disks_labels.json",
        "two disks_labels.tif",
    ]
    assert lines[1][0] == f"1 {x.min()}"
    assert "the selection lies beside the image" in lines[2][1]


def test_stacks_series_and_pixels_of_another_size(place):
    """A 2D model sees the planes of a stack, of a series the present one, and rescales where it was told to."""
    planes = np.stack([disks()[0]] * 3)
    planes[2, :, 30:] = 0
    for axis in "ZT":
        tifffile.imwrite(place.folder / f"{axis}.tif", planes, imagej=True, metadata={"axes": f"{axis}YX"})
    half = {"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um"}}
    tifffile.imwrite(place.folder / "fine.tif", disks()[0].repeat(2, 0).repeat(2, 1), **half)
    lines = run(
        place,
        """
        open(FOLDER + "/Z.tif"); makeRectangle(0, 0, 40, 48);
        run("CellScribble Predict", "model=[" + MODEL + "]");
        line = image_line(); report(line);
        open(FOLDER + "/T.tif"); setSlice(3);
        run("CellScribble Predict", "model=[" + MODEL + "]");
        line = image_line(); report(line);
        open(FOLDER + "/fine.tif");
        fine = getImageID();
        run("CellScribble Predict", "model=[" + MODEL + "]");
        report("stop");
        run("CellScribble Suggest regions", "model=[" + MODEL + "] pixel=other");
        report("other");
        run("CellScribble Predict", "model=[" + MODEL + "] pixel=rescale");
        line = image_line(); report(line);
        selectImage(fine);
        run("CellScribble Suggest regions", "model=[" + MODEL + "] pixel=ignore");
        report("ignore");
        """,
    )
    assert lines[0][0].startswith("Z.tif labels,16,64x48x3,")
    assert lines[0][0].endswith(",1")
    assert lines[1][0].startswith("T.tif labels,16,64x48x1,")
    assert lines[1][0].endswith(",1")
    assert "--rescale resamples the image" in lines[2][1]
    assert "choose stop, rescale or ignore" in lines[3][1]
    assert lines[4][0].startswith("fine.tif labels,16,128x96x1,0.250 ")
    assert lines[4][0].endswith(",2")
    assert lines[5][1] == ""


def test_more_objects_than_16_bits_count_are_shown(place):
    """Python stores them as 32-bit integers, which ImageJ does not open."""
    dots = np.zeros((1100, 1100), np.uint8)
    for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
        dots[y::4, x::4] = 255
    tifffile.imwrite(place.folder / "dots.tif", dots)
    parameters = {"threshold": 0.4, "smallest_object_px": 1}
    write_model(place.folder / "model.onnx", metadata(segmenter_parameters=parameters))
    lines = run(
        place,
        """
        options = "model=[" + MODEL + "] ";
        run("CellScribble Predict", options + "input=[" + FOLDER + "/dots.tif] output=[" + FOLDER + "/out]");
        line = image_line(); report(line);
        open(FOLDER + "/dots.tif");
        makeRectangle(0, 0, 1100, 1080);
        run("CellScribble Predict", "model=[" + MODEL + "]");
        line = image_line(); report(line);
        """,
    )
    assert lines[0][0].startswith("dots_labels.tif,32,1100x1100x1,")
    assert lines[0][0].endswith(",75625")
    assert lines[0][2] == f"{place.folder}/out/dots_labels.tif"
    assert lines[1][0].startswith("dots.tif labels,32,1100x1100x1,")
    assert lines[1][0].endswith(",74250")


def test_an_image_beyond_imagej_s_rois_is_shown_without_them(place):
    wide = np.zeros((48, 61_000), np.uint8)
    wide[:, -64:] = disks()[0]
    tifffile.imwrite(place.folder / "wide.tif", wide)
    lines = run(
        place,
        """
        run("CellScribble Predict", "model=[" + MODEL + "] input=[" + FOLDER + "/wide.tif] rois");
        line = image_line(); report(line);
        """,
    )
    assert lines[0][0].startswith("wide_labels.tif,16,61000x48x1,")
    assert lines[0][1:] == ["", f"{place.folder}/cellscribble_out/wide_labels.tif"]


def test_titles_that_are_no_file_names(place):
    titles = ["a/b: c*?.tif", "", "..", "-m.tif", 'it\'s "q" $HOME `x`', "caf\xe9 \u7ec6\u80de.ome.tif", "long" * 70]
    calls = "".join(
        f"""
        open(IMAGE); rename({quote(title)});
        run("CellScribble Predict", "model=[" + MODEL + "]");
        title = "" + getTitle(); report(title);
        close("*");
        """
        for title in titles
    )
    lines = run(place, calls, timeout_s=240)
    assert lines == [[f"{title} labels", "", ""] for title in titles]


def test_what_fails_is_one_line_and_nothing_hangs(place):
    tifffile.imwrite(place.folder / "colour.tif", np.zeros((48, 64, 3), np.uint8), photometric="rgb")
    tiles = {"compression": "zlib", "tile": (16, 16)}
    tifffile.imwrite(place.folder / "tiles.tif", disks()[0], **tiles)
    (place.folder / "readonly.txt").write_text("x")
    lines = run(
        place,
        """
        run("CellScribble Predict", "model=[" + MODEL + "]"); report("no image");
        run("CellScribble Predict"); report("no options");
        run("CellScribble Train", ""); report("nothing said");
        options = "model=[" + MODEL + "] size=16 input=[" + FOLDER + "/tiles.tif] ";
        run("CellScribble Suggest regions", options + "output=[" + FOLDER + "/boxes]");
        report("tiles are looked at");
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
        run("CellScribble Show labels", "labels=[]"); report("coloured labels");
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
    assert "the open image is a colour picture" in errors["coloured labels"]
    for silent in ("no options", "nothing said"):
        assert "no window to ask in; give options" in errors[silent]
    assert "images 1" in errors
    assert errors["tiles are looked at"] == ""
    assert all(result == "" for what, _, result in lines if what != "tiles are looked at")
    # Nothing lies about but the logs that the errors name.
    assert {p.suffix for p in (place.folder / "tmp").glob("*cellscribble*")} == {".log"}


@pytest.mark.parametrize("mode", ["-batch", "-macro"])
def test_options_that_are_not_understood_are_named_and_no_window_waits(place, mode):
    """ImageJ asks in a window what `minutes=five` means, and does not notice a key that it does not know."""
    wrong = {
        ("Train", "images=[FOLDER] minutes=five"): "minutes=five is no number; write digits, such as minutes=5",
        ("Train", "images=[FOLDER] minutes="): "minutes= is no number",
        ("Train", "images=[FOLDER] minutes=[]"): "minutes=[] is no number",
        ("Train", "images=[FOLDER] minutes"): "minutes has no value",
        ("Train", "images=[FOLDER] minutes=-1"): "Minutes must be a number above 0, not -1",
        ("Train", "images=[FOLDER] minute=5"): "'minute' is no option of this command, which has: images",
        ("Train", "images=/my cells minutes=5"): "'cells' is no option",
        ("Train", "images=[/my [cells] minutes=5"): "the bracket of images=[/my [cells] minutes=5 is not closed",
        ("Suggest regions", "model=[MODEL] number=ten"): "number=ten is no number",
        ("Suggest regions", "model=[MODEL] number=2 size=x2"): "size=x2 is no number",
        ("Annotate", "images=[FOLDER] classes=[a] width=thin"): "width=thin is no number",
        ("Predict", "model=[MODEL] rois=true"): "write the word rois alone for yes",
        ("Predict", "model=[MODEL] input=[/a b/[c] (1)] rois"): "there is no file or folder /a b/[c] (1)",
        ("Show labels", "labels=[] roi"): "'roi' is no option of this command, which has: labels rois",
    }
    words = {"FOLDER": '" + FOLDER + "', "MODEL": '" + MODEL + "'}
    calls = ""
    for i, (command, options) in enumerate(wrong):
        for name, there in words.items():
            options = options.replace(name, there)
        calls += f'run("CellScribble {command}", "{options}"); report("{i}");\n'
    lines = run(place, "open(IMAGE);\n" + calls, mode=mode)
    assert len(lines) == len(wrong)
    for (_, error, result), expected in zip(lines, wrong.values(), strict=True):
        assert expected in error
        assert result == ""


def test_strokes_that_cannot_be_used_are_told_in_one_line(place):
    """A zip made to do harm, strokes of a larger image, a place where nothing can be saved."""
    entry = stroke_roi("nucleus_1", 300).tobytes()
    for name, inner in (("harm", "../out.roi"), ("alien", "nucleus_1.roi")):
        folder = place.folder / name
        folder.mkdir()
        tifffile.imwrite(folder / "a.tif", disks()[0])
        with zipfile.ZipFile(folder / "a_rois.zip", "w") as archive:
            archive.writestr(inner, entry)
    for name in ("bomb", "broken"):
        (place.folder / name).mkdir()
        tifffile.imwrite(place.folder / name / "a.tif", disks()[0])
    with (
        zipfile.ZipFile(place.folder / "bomb" / "a_rois.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("nucleus_1.roi", "w") as big,
    ):
        for _ in range(5):
            big.write(bytes(64 << 20))
    (place.folder / "broken" / "a.tif").write_bytes(b"no image")
    lines = run(
        place,
        """
        run("CellScribble Annotate", "images=[" + FOLDER + "/bomb] classes=[nucleus] width=3"); report("bomb");
        run("CellScribble Annotate", "images=[" + FOLDER + "/broken] classes=[nucleus] width=3"); report("broken");
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
    assert "bomb/a_rois.zip is no zip of ROIs; move it away" in errors["bomb"]
    assert "ImageJ cannot open" in errors["broken"]
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
    return window


@pytest.mark.parametrize(
    ("command", "options", "made"),
    [
        ("Annotate", "images=[FOLDER/cells/] strokes=[] classes=nucleus width=3", "FOLDER/cells/a.tif"),
        ("Train", "images=[FOLDER/cells/] scribbles=[] minutes=0.050 output=[]", "/model.onnx"),
        ("Predict", "model=[FOLDER/model.onnx] input=[] output=[] rois pixel=stop", ""),
        ("Predict", "model=[FOLDER/model.onnx] input=[FOLDER/cells/a.tif] output=[] rois pixel=stop", "a_labels.tif"),
        ("Suggest regions", "model=[FOLDER/model.onnx] number=10 size=96 input=[] output=[] pixel=stop", ""),
        (
            "Suggest regions",
            "model=[FOLDER/model.onnx] number=10 size=96 input=[FOLDER/fog.tif] output=[] pixel=stop",
            "FOLDER/fog_suggestions.zip",
        ),
        ("Show labels", "labels=[]", ""),
        ("Show labels", "labels=[FOLDER/some_labels.tif] rois", "FOLDER/some_labels.tif"),
    ],
)
def test_what_the_recorder_writes_runs_again(place, disks_2d, command, options, made):
    """The dialog, answered by its button OK, is recorded as one call, which does the same again without a window."""
    (place.folder / "cells").mkdir()
    tifffile.imwrite(place.folder / "cells" / "a.tif", disks_2d.image.data[0])
    save_scribbles(place.folder / "cells" / "a_scribbles.tif", disks_2d.scribbles)
    tifffile.imwrite(place.folder / "fog.tif", np.tile(disks()[0], (2, 2)) // 2 + 60)
    save_labels(place.folder / "some_labels.tif", np.eye(20, 30, dtype=int))
    if command == "Annotate":
        roifile.roiwrite(place.folder / "cells" / "a_rois.zip", [stroke_roi("nucleus_1", 10)])
        box = MarkedBox("suggest_01", (2, 2), (20, 20), None, 0.5)
        save_box_rois(place.folder / "cells" / "a_suggestions.zip", [box], (64, 64))
    options = options.replace("FOLDER", str(place.folder))
    preset_dialog(place, command, options)
    out = place.folder / "recorded.txt"
    macro = f"""
        open({quote(place.folder / "two disks.tif")});
        if ({int("rois" in options.split())}) {{
            makeRectangle(3, 3, 9, 9); roiManager("add"); run("Select None");
        }}
        call("ij.Prefs.set", "cellscribble.model", {quote(place.folder / "model.onnx")});
        call("ij.Prefs.set", "cellscribble.images", {quote(place.folder / "cells")});
        call("ij.Prefs.set", "cellscribble.classes", "nucleus");
        run("Record...");
        doCommand("CellScribble {command}");
        // The command's line is written by the first run() in it, others may follow until its thread ends.
        do {{
            wait(200);
            threads = "" + call("java.lang.Thread.getAllStackTraces");
        }} while (indexOf(threads, "CellScribble {command}") >= 0);
        selectWindow("Recorder");
        File.saveString(getInfo("window.contents"), {quote(out)});
    """
    process = place.start("-macro", macro)
    try:
        wait_for(lambda: dialog(place, command))
        # It may still be on its way to its place: click OK until it is gone.
        wait_for(lambda: not press_ok(place, command), pause_s=1)
        wait_for(out.exists)
    finally:
        place.screenshot()
        process.kill()
        process.communicate()
    # ImageJ's own warning, that a path is not ASCII, stands in brackets.
    lines = [line for line in out.read_text(encoding="utf-8").splitlines() if not line.strip().startswith("<<")]
    assert lines == [f'run("CellScribble {command}", "{options}");']
    shutil.rmtree(place.folder / "cells" / "cellscribble_out", ignore_errors=True)
    call = "+".join(quote(part) for part in ("", options))
    ((_, error, result),) = run(
        place, f'open(IMAGE); run("CellScribble {command}", {call}); report("");', mode="-macro"
    )
    assert error == ""
    assert result.endswith(made.replace("FOLDER", str(place.folder)))


def preset_dialog(place, command, options):
    """The dialog's fields as `options` has them, so that pressing OK is all that is left to do."""
    file = place.plugins / "plugins" / "CellScribble" / f"CellScribble_{command.replace(' ', '_')}.ijm"
    text = file.read_text().replace('"Minutes", 5', '"Minutes", 0.05')
    for key in ("Input", "Labels"):
        (value,) = re.findall(key.lower() + r"=\[(.*?)\]", options) or [""]
        text = re.sub(f'(addString\\("{key} [^"]*"), ""', lambda found, v=value: f"{found[1]}, {quote(v)}", text)
    if "rois" in options.split():
        text = text.replace('"ROIs to the ROI Manager", false', '"ROIs to the ROI Manager", true')
    file.write_text(text)
