"""Suggest regions as a command of the real ImageJ, and how Annotate goes to the boxes."""

import pytest
import roifile
import tifffile

from cellscribble.bridge.macro_text import quote
from cellscribble.io.box_rois import MarkedBox, save_box_rois
from tests.bridge.imagej import wait_for
from tests.bridge.test_annotate import Desk, images  # noqa: F401
from tests.bridge.test_plugins import place, run  # noqa: F401
from tests.engine.test_suggest import picture

pytestmark = pytest.mark.imagej


def test_boxes_of_the_open_image_are_in_the_roi_manager(place):  # noqa: F811
    """In the real window; what was in the Manager is saved, no window is left."""
    tifffile.imwrite(place.folder / "two disks.tif", picture((200, 300), (120, 200), (40, 100)))
    lines = run(
        place,
        """
        open(IMAGE);
        makeRectangle(3, 3, 9, 9); roiManager("add");
        run("CellScribble Suggest regions", "model=[" + MODEL + "] number=2 size=40");
        report("windows " + nImages);
        names = "";
        for (i = 0; i < roiManager("count"); i++) {
            roiManager("select", i);
            Roi.getBounds(x, y, w, h);
            names = names + RoiManager.getName(i) + " " + w + "x" + h + " " + (x <= 200 && x + w > 100) + ",";
        }
        report(names);
        run("CellScribble Suggest regions", "model=[" + MODEL + "] number=1 size=40 output=[" + FOLDER + "/boxes]");
        report("again " + roiManager("count"));
        """,
        mode="-macro",
    )
    assert lines[0] == ["windows 1", "", ""]
    assert lines[1][0] == "suggest_01 40x40 1,suggest_02 40x40 1,"
    assert lines[2] == ["again 1", "", f"{place.folder}/boxes/two disks_suggestions.zip"]
    assert list((place.folder / "tmp").glob("cellscribble_rois_before_*.zip"))
    assert [roi.name for roi in roifile.roiread(lines[2][2])] == ["suggest_01"]


def test_a_folder_gets_its_boxes_beside_the_images(place):  # noqa: F811
    folder = place.folder / "some images"
    folder.mkdir()
    tifffile.imwrite(folder / "ä.tif", picture((200, 300), (120, 200)))
    tifffile.imwrite(folder / "sure.tif", picture())
    lines = run(
        place,
        """
        options = "model=[" + MODEL + "] number=3 size=40 ";
        run("CellScribble Suggest regions", options + "input=[" + FOLDER + "/some images]");
        report("folder " + nImages);
        run("CellScribble Suggest regions", "model=[" + MODEL + "] input=[" + FOLDER + "/some images/sure.tif]");
        report("sure");
        """,
    )
    assert lines[0] == ["folder 0", "", f"{folder}/ä_suggestions.zip"]
    assert lines[1] == ["sure", "", ""]
    assert [p.name for p in folder.glob("*.zip")] == ["ä_suggestions.zip"]


def test_annotate_goes_to_the_boxes_and_strokes_stay_strokes(imagej, images):  # noqa: F811
    boxes = [
        MarkedBox("suggest_01", (20, 20), (60, 60), None, 0.5),
        MarkedBox("suggest_02", (120, 150), (60, 60), None, 0.4),
    ]
    save_box_rois(images / "it's 0_suggestions.zip", boxes, (200, 240))
    state = imagej.folder / "state.txt"
    more = """
        s = "" + roiManager("count") + " " + RoiManager.getName(0);
        // A command of an installed macro goes on beside the one that started it.
        run("Next suggestion [s]");
        for (i = 0; i < 300 && getZoom() <= 1; i++) wait(100);
        s = s + " " + (getZoom() > 1) + " " + selectionType();
        run("Next suggestion [s]");
        shown = false;
        for (i = 0; i < 300 && !shown; i++) {
            wait(100);
            getDisplayedArea(x, y, w, h);
            shown = x + w >= 210 && y + h >= 180;
        }
        s = s + " " + (x + w >= 210) + (y + h >= 180);
        run("Next image [n]");
        for (i = 0; i < 300 && !(startsWith(getTitle(), "it's 1") && roiManager("count") == 0); i++) wait(100);
        s = s + " " + getTitle() + " " + roiManager("count");
        run("Previous image [p]");
        for (i = 0; i < 300 && !(startsWith(getTitle(), "it's 0") && roiManager("count") == 2); i++) wait(100);
        s = s + " " + getTitle() + " " + roiManager("count");
        File.saveString(s, STATE);
    """.replace("STATE", quote(state))
    desk = Desk(imagej, images, more)
    try:
        assert state.read_text() == "2 suggest_01 1 -1 2 it's 1.tif 0 it's 0.tif 2"
        assert desk.stroke("it's 0", (30, 40), (70, 40)) == "nucleus_1"
        desk.key("0")
        desk.key("s")
        # The key of a class after the key of the box: the tool is taken, the box is no stroke.
        desk.key("1")
        assert desk.names("it's 0") == ["nucleus_1"]
    finally:
        desk.end()


def test_strokes_go_to_a_folder_of_their_own(imagej, images):  # noqa: F811
    """Where the images' own cannot be written, or shall stay as it is."""
    strokes = imagej.folder / "my strokes"
    strokes.mkdir()
    before = sorted(p.name for p in images.iterdir())
    desk = Desk(imagej, images, strokes=strokes)
    try:
        desk.draw((30, 40), (70, 40))
        wait_for((strokes / "it's 0_rois.zip").exists)
        wait_for((strokes / "scribbles" / "it's 0.tif").exists)
        assert [roi.name for roi in roifile.roiread(strokes / "it's 0_rois.zip")] == ["nucleus_1"]
        assert sorted(p.name for p in images.iterdir()) == before
    finally:
        desk.end()
