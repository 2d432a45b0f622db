"""Strokes drawn with the mouse in ImageJ's real window: saved at each change, never lost."""

import time
import zipfile

import numpy as np
import pytest
import roifile
import tifffile

from cellscribble.bridge.fiji import install
from cellscribble.bridge.macro_text import quote
from cellscribble.io.box_rois import MarkedBox, save_box_rois
from cellscribble.io.scribbles import read_scribbles
from tests.bridge.imagej import wait_for, wait_for_rest

pytestmark = pytest.mark.imagej

# Without a window manager the pixels begin here in the window of an image.
CANVAS_X, CANVAS_Y = 5, 16
ANNOTATE = """
run("CellScribble Annotate", "images=[" + {images} + "] strokes=[" + {strokes} + "] classes=[nucleus] width=3");
{more}
File.saveString("" + getZoom() + "\\n" + getTitle() + "\\n" + call("ij.Prefs.get", "cellscribble.error", ""), {ready});
"""


class Desk:
    """A person at the screen: ImageJ with Annotate started, and a mouse."""

    def __init__(self, imagej, images, more="", strokes=""):
        self.imagej, self.images = imagej, images
        ready = imagej.folder / "ready.txt"
        ready.unlink(missing_ok=True)
        self.process = imagej.start(
            "-macro", ANNOTATE.format(images=quote(images), strokes=quote(strokes), ready=quote(ready), more=more)
        )
        try:
            zoom, title, *error = wait_for(lambda: ready.exists() and ready.read_text().splitlines())
        except BaseException:
            self.end()
            raise
        assert (zoom, error) == ("1", [])
        # The macro that wrote this is about to end, and no tool starts before.
        wait_for_rest(self.process.pid)
        # Not as Java tells: on a busy machine it may believe for ever that a new window lies in the screen's corner.
        window = imagej.xdotool("search", "--onlyvisible", "--name", f"^{title}").rpartition("\n")[2]
        place = dict(line.split("=") for line in imagej.xdotool("getwindowgeometry", "--shell", window).splitlines())
        self.left, self.top = int(place["X"]) + CANVAS_X, int(place["Y"]) + CANVAS_Y

    def move(self, x, y):
        self.imagej.xdotool("mousemove", self.left + x, self.top + y)
        time.sleep(0.04)

    def draw(self, *points):
        self.move(*points[0])
        self.imagej.xdotool("mousedown", 1)
        time.sleep(0.15)
        for point in points[1:]:
            self.move(*point)
        time.sleep(0.15)
        self.imagej.xdotool("mouseup", 1)

    def stroke(self, image, *points):
        """Draw, and wait as a person does until it is there; its name."""
        before = self.names(image)
        self.draw(*points)
        wait_for(lambda: len(self.names(image)) == len(before) + 1)
        wait_for_rest(self.process.pid)
        return self.names(image)[-1]

    def key(self, *keys):
        self.imagej.xdotool("key", *keys)
        wait_for_rest(self.process.pid)

    def names(self, image):
        """Names of the strokes in the file beside the image."""
        try:
            return [roi.name for roi in roifile.roiread(self.images / f"{image}_rois.zip")]
        except FileNotFoundError:
            return []

    def ask(self, macro):
        """`text` of a macro: a second ImageJ hands it to the one that runs."""
        out = self.imagej.folder / "asked.txt"
        out.unlink(missing_ok=True)
        file = self.imagej.folder / "ask.ijm"
        file.write_text(f"{macro} File.saveString(text, {quote(out)});", encoding="ascii")
        self.imagej.finish(self.imagej.launch("-macro", str(file)))
        wait_for(out.exists)
        return out.read_text(encoding="utf-8")

    def end(self):
        """As a crash would: without asking, without saving. The screen is kept for whoever looks into a failure."""
        if self.process.poll() is None:
            self.imagej.screenshot()
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def images(imagej):
    folder = imagej.folder / "cells"
    folder.mkdir()
    for i in range(3):
        tifffile.imwrite(folder / f"it's {i}.tif", np.full((200, 240), 50 + i, np.uint8))
    (imagej.folder / "ImageJ" / "plugins").mkdir(parents=True)
    install(imagej.plugins)
    return folder


@pytest.fixture
def desk(imagej, images):
    made = Desk(imagej, images)
    yield made
    made.end()


def test_a_stroke_is_on_the_disk_when_the_mouse_is_up(desk, images):
    assert desk.stroke("it's 0", (30, 40), (50, 40), (70, 40)) == "nucleus_1"
    desk.key("0")
    assert desk.stroke("it's 0", (100, 150), (100, 170), (100, 190)) == "bg_2"
    strokes = read_scribbles(images / "it's 0_rois.zip", (200, 240))
    assert strokes.class_names == ("background", "nucleus")
    assert strokes.data[40, 35:65].tolist() == [1] * 30
    assert strokes.data[155:185, 100].tolist() == [0] * 30
    assert (strokes.data[:, 55] >= 0).sum() == 3
    # The TIFF follows aside, a second later.
    tiff = images / "scribbles" / "it's 0.tif"
    wait_for(lambda: tiff.exists() and (tifffile.imread(tiff) == strokes.data + 1).all())


def test_undo_delete_next_previous(desk):
    for y in (40, 80, 120):
        desk.stroke("it's 0", (30, y), (70, y))
    desk.key("z")
    wait_for(lambda: desk.names("it's 0") == ["nucleus_1", "nucleus_2"])
    desk.imagej.xdotool("keydown", "alt")
    desk.draw((50, 40))
    desk.imagej.xdotool("keyup", "alt")
    wait_for(lambda: desk.names("it's 0") == ["nucleus_2"])
    desk.key("n")
    assert desk.stroke("it's 1", (30, 40), (70, 40)) == "nucleus_4"
    desk.key("p")
    desk.stroke("it's 0", (30, 160), (70, 160))
    assert desk.names("it's 0") == ["nucleus_2", "nucleus_5"]
    assert desk.names("it's 1") == ["nucleus_4"]


def test_switching_between_two_windows_keeps_each_image_s_strokes(imagej, images):
    """By a click into the other window, in the middle of the work."""
    more = f"""
        open({quote(images / "it's 2.tif")});
        setLocation(900, 400);
        selectImage(1);
    """
    desk = Desk(imagej, images, more)
    first = desk.left, desk.top
    try:
        desk.stroke("it's 0", (30, 40), (70, 40))
        desk.left, desk.top = 900 + CANVAS_X, 400 + CANVAS_Y
        # Some desktops take the first click to bring the window to the front.
        desk.draw((200, 190))
        wait_for(lambda: desk.names("it's 2"))
        wait_for_rest(desk.process.pid)
        desk.stroke("it's 2", (30, 80), (70, 80))
        desk.left, desk.top = first
        desk.draw((200, 190))
        wait_for(lambda: len(desk.names("it's 0")) == 2)
        wait_for_rest(desk.process.pid)
        desk.stroke("it's 0", (30, 120), (70, 120))
        assert len(desk.names("it's 2")) == 2
        # The click that changed the window is a stroke where it was, not where the mouse was in the other.
        strokes = read_scribbles(images / "it's 2_rois.zip", (200, 240), image=None)
        assert strokes.data[190, 200] == 1
        assert (strokes.data[30:50] == -1).all()
        strokes = read_scribbles(images / "it's 0_rois.zip", (200, 240), image=None)
        assert (strokes.data[40, 35:65] == 1).all()
        assert (strokes.data[120, 35:65] == 1).all()
        assert (strokes.data[80] == -1).all()
    finally:
        desk.end()


def test_strokes_are_there_again_after_a_crash(desk, imagej, images):
    desk.stroke("it's 0", (30, 40), (70, 40))
    desk.end()
    # All have strokes now, so the first is opened again.
    for i in (1, 2):
        (images / f"it's {i}_rois.zip").write_bytes((images / "it's 0_rois.zip").read_bytes())
    again = Desk(imagej, images)
    try:
        again.stroke("it's 0", (30, 80), (70, 80))
        assert again.names("it's 0") == ["nucleus_1", "nucleus_2"]
    finally:
        again.end()


def test_other_tools_serve_and_the_person_s_roi_manager_stays(imagej, images):
    """A polygon's selection becomes a stroke of the class whose command runs (its key does the same)."""
    kept = imagej.folder / "kept.txt"
    more = f"""
        roiManager("reset"); makeRectangle(1, 1, 9, 9); roiManager("add"); Roi.setName("mine"); run("Select None");
        makePolygon(20, 20, 60, 20, 60, 50);
        run("Class background [0]");
        for (i = 0; i < 100 && !File.exists({quote(images / "it's 0_rois.zip")}); i++) wait(100);
        wait(1000);
        File.saveString("" + roiManager("count") + " " + nImages, {quote(kept)});
    """
    desk = Desk(imagej, images, more)
    try:
        wait_for(lambda: kept.exists() and kept.read_text() == "1 1")
        assert desk.names("it's 0") == ["bg_1"]
        strokes = read_scribbles(images / "it's 0_rois.zip", (200, 240))
        assert (strokes.data == 0).sum() == pytest.approx(600, rel=0.05)
    finally:
        desk.end()


@pytest.mark.parametrize("manager", ["closed", "open"])
def test_drawing_leaves_no_line_in_the_macro_recorder(imagej, images, manager):
    """Strokes and boxes are read and saved with the ROI Manager, whose commands ImageJ would record."""
    save_box_rois(
        images / "it's 1_suggestions.zip", [MarkedBox("suggest_01", (9, 9), (60, 60), None, 0.5)], (200, 240)
    )
    line = roifile.ImagejRoi.frompoints(np.array([(30, 5), (50, 5)]))
    line.roitype, line.name = roifile.ROI_TYPE.FREELINE, "nucleus_1"
    for i in range(3):
        roifile.roiwrite(images / f"it's {i}_rois.zip", [line])
    mine = 'makeRectangle(1, 1, 9, 9); roiManager("add"); run("Select None");' if manager == "open" else ""
    image = (
        'image = getTitle(); run("Record..."); selectWindow("Recorder"); setLocation(20, 500); selectWindow(image);'
    )
    desk = Desk(imagej, images, image + mine)
    try:
        assert desk.stroke("it's 0", (30, 40), (70, 40)) == "nucleus_2"
        desk.key("n")
        desk.key("s")
        desk.key("p")
        desk.stroke("it's 0", (30, 80), (70, 80))
        desk.key("z")
        wait_for(lambda: desk.names("it's 0") == ["nucleus_1", "nucleus_2"])
        wait_for_rest(desk.process.pid)
        assert desk.ask('selectWindow("Recorder"); text = getInfo("window.contents");').strip() == ""
        assert desk.ask('text = "" + roiManager("count");') == {"closed": "0", "open": "1"}[manager]
    finally:
        desk.end()


def test_strokes_on_a_hyperstack_keep_channel_slice_and_frame(imagej, images):
    for path in images.iterdir():
        path.unlink()
    tifffile.imwrite(
        images / "h.tif", np.zeros((2, 4, 3, 200, 240), np.uint8), imagej=True, metadata={"axes": "TZCYX"}
    )
    desk = Desk(imagej, images, "Stack.setPosition(2, 3, 1);")
    try:
        desk.stroke("h", (30, 40), (70, 40))
        # A channel back, by ImageJ's own key; the stroke before stays where it is.
        desk.key("comma")
        desk.stroke("h", (30, 80), (70, 80))
        rois = roifile.roiread(images / "h_rois.zip")
        assert [(roi.c_position, roi.z_position, roi.t_position) for roi in rois] == [(2, 3, 1), (1, 3, 1)]
        strokes = read_scribbles(images / "h_rois.zip", (4, 200, 240), timepoint=0)
        assert np.unique(np.nonzero(strokes.data == 1)[0]).tolist() == [2]
        assert (read_scribbles(images / "h_rois.zip", (4, 200, 240), timepoint=1).data == -1).all()
    finally:
        desk.end()


def test_strokes_on_a_stack_keep_their_plane(imagej, images):
    for path in images.iterdir():
        path.unlink()
    tifffile.imwrite(images / "s.tif", np.zeros((4, 200, 240), np.uint8), imagej=True, metadata={"axes": "ZYX"})
    desk = Desk(imagej, images, "setSlice(3);")
    try:
        desk.stroke("s", (30, 40), (70, 40))
        desk.key("period")
        desk.stroke("s", (30, 80), (70, 80))
        strokes = read_scribbles(images / "s_rois.zip", (4, 200, 240))
        assert [np.unique(np.nonzero(strokes.data[:, y] == 1)[0]).tolist() for y in (40, 80)] == [[2], [3]]
    finally:
        desk.end()


def test_a_folder_by_its_relative_path_and_an_image_that_imagej_cannot_open(imagej, images):
    """The next image is the next that can be opened; the strokes go to the folder that was meant."""
    (images / "it's 1.tif").write_bytes(b"no image")
    state = imagej.folder / "state.txt"
    imagej.run(
        f"""
        run("CellScribble Annotate", "images=cells/ classes=nucleus width=3");
        makeRectangle(3, 3, 9, 9);
        run("Class nucleus [1]");
        for (i = 0; i < 100 && !File.exists({quote(images / "it's 0_rois.zip")}); i++) wait(100);
        wait(500);
        run("Next image [n]");
        for (i = 0; i < 100 && !startsWith(getTitle(), "it's 2"); i++) wait(100);
        File.saveString("" + getTitle() + " " + nImages, {quote(state)});
        run("Quit");
        """,
        mode="-macro",
    )
    assert state.read_text() == "it's 2.tif 1"


def test_what_cannot_be_saved_is_not_lost(imagej, images):
    """The folder becomes a file's name in between, as a drive that is gone: the strokes go to the home folder."""
    desk = Desk(imagej, images)
    try:
        images.rename(images.with_name("elsewhere"))
        desk.draw((30, 40), (70, 40))
        rescue = imagej.folder / "home" / "cellscribble_strokes_it's 0.zip"
        wait_for(lambda: zipfile.is_zipfile(rescue))
        assert [roi.name for roi in roifile.roiread(rescue)] == ["nucleus_1"]
    finally:
        desk.end()


def test_a_zip_that_is_none_is_never_overwritten(imagej, images):
    """The command says so and goes no further; the file stays as it is."""
    (images / "it's 0_rois.zip").write_bytes(b"not really a zip")
    said = imagej.folder / "said.txt"
    imagej.run(
        f"""
        run("CellScribble Annotate", "images=[" + {quote(images / "it's 0.tif")} + "] classes=[nucleus] width=3");
        File.saveString(call("ij.Prefs.get", "cellscribble.error", ""), {quote(said)});
        run("Quit");
        """,
        mode="-macro",
    )
    assert "it's 0_rois.zip is no zip of ROIs; move it away" in said.read_text(encoding="utf-8")
    assert (images / "it's 0_rois.zip").read_bytes() == b"not really a zip"


@pytest.mark.slow
def test_from_strokes_drawn_with_the_mouse_to_objects_in_the_roi_manager(imagej, images, rng):
    """The whole walk of docs/fiji.md, with ten seconds of training."""
    for path in images.iterdir():
        path.unlink()
    y, x = np.indices((200, 240))
    image = np.full((200, 240), 40.0)
    centres = [(cy, cx) for cy in (40, 100, 160) for cx in (40, 120, 200)]
    for cy, cx in centres:
        image[(y - cy) ** 2 + (x - cx) ** 2 <= 144] = 180
    tifffile.imwrite(images / "disks.tif", (image + rng.normal(0, 5, image.shape)).clip(0, 255).astype(np.uint8))
    desk = Desk(imagej, images)
    try:
        for cy, cx in centres[:5]:
            desk.stroke("disks", (cx - 6, cy), (cx, cy), (cx + 6, cy))
        desk.key("0")
        for cy, cx in ((70, 20), (70, 180), (130, 100), (15, 80), (185, 160)):
            desk.stroke("disks", (cx, cy), (cx + 20, cy), (cx + 40, cy))
    finally:
        desk.end()
    out = imagej.folder / "count.txt"
    imagej.run(
        f"""
        open({quote(images / "disks.tif")});
        image = getImageID();
        // Ten seconds are enough, unless the machine is so busy that they are a handful of steps.
        minutes = newArray("0.17", "1");
        for (i = 0; i < 2 && roiManager("count") != 9; i++) {{
            run("CellScribble Train", "images=[" + {quote(images)} + "] minutes=" + minutes[i]);
            model = call("ij.Prefs.get", "cellscribble.result", "");
            selectImage(image);
            run("CellScribble Predict", "model=[" + model + "] rois");
        }}
        error = call("ij.Prefs.get", "cellscribble.error", "");
        File.saveString("" + roiManager("count") + " " + error, {quote(out)});
        run("Quit");
        """,
        mode="-macro",
        timeout_s=400,
    )
    assert out.read_text() == "9 "
