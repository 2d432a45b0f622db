"""Fiji itself: its launcher, its gateway through pyimagej, its scripts. Run where CELLSCRIBBLE_TEST_FIJI names one."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cellscribble.bridge.fiji import examine
from cellscribble.bridge.macro_text import quote
from cellscribble.bundle import open_model
from cellscribble.cli.main import run as cellscribble
from cellscribble.core.volume import ImageVolume
from cellscribble.infer.predict import predict
from cellscribble.infer.runner import Runner
from tests.bridge.real_fiji import HEADLESS
from tests.bridge.test_annotate import Desk
from tests.bridge.test_annotate_command import start
from tests.bridge.test_plugins import REPORT
from tests.bridge.test_session import WINDOW, check_window, python  # noqa: F401
from tests.infer.analytic import disks, write_model

SCRIPT = Path(__file__).parents[2] / "plugins" / "fiji" / "CellScribble_Predict_Appose.groovy"
# Opens an image and hands it to the script, as Fiji does with the one in front.
CALLER = """
def image = ij.IJ.openImage(IMAGE)
def inputs = [image: image, python: new File(PYTHON), model: MODEL]
def done = scripts.run(new File(SCRIPT), true, inputs).get()
ij.IJ.saveAsTiff(done.getOutput("labels"), OUT)
"""


@pytest.fixture
def two_disks(fiji):
    """The commands installed, an image, a model, and the labels that it gives; all paths by name."""
    assert cellscribble(["fiji-install", str(fiji.root)]) == 0
    assert examine(fiji.root).current
    files = {"IMAGE": "two disks.tif", "MODEL": "model.onnx", "OUT": "out.tif"}
    paths = {name: fiji.folder / file for name, file in files.items()}
    tifffile.imwrite(paths["IMAGE"], disks()[0])
    write_model(paths["MODEL"])
    model = open_model(paths["MODEL"])
    return paths, predict(ImageVolume(disks(), "CYX"), model, runner=Runner(model)).labels


def variables(paths, as_text=quote):
    """Lines that begin a macro, or with `groovy_text` a Groovy script."""
    return "".join(f"{name} = {as_text(str(path))};\n" for name, path in paths.items())


def groovy_text(text):
    """A text as Groovy reads it in any encoding; in double quotes a $ would be a variable."""
    return json.dumps(text).replace("$", "\\$")


@pytest.mark.imagej
@pytest.mark.slow
@pytest.mark.parametrize("mode", ["-macro", HEADLESS])
def test_menu_commands_by_macro(fiji, two_disks, mode, request):
    paths, expected = two_disks
    place = request.getfixturevalue("fiji_on_screen") if mode == "-macro" else fiji
    (fiji.folder / "imgs").mkdir()
    for name in "ab":
        tifffile.imwrite(fiji.folder / "imgs" / f"{name}.tif", disks()[0])
    report = fiji.folder / "report.txt"
    macro = """
        run("CellScribble Predict", "model=[" + MODEL + "] input=[" + FOLDER + "/imgs] output=[" + FOLDER + "/out]");
        report("predict");
        run("CellScribble Predict", "model=[" + MODEL + ".gone] input=[" + IMAGE + "]");
        report("no model");
        run("CellScribble Suggest regions", "model=[" + MODEL + "] number=2 size=16 input=[" + FOLDER + "/imgs]");
        report("suggest");
    """
    if mode == "-macro":
        macro += """
        open(IMAGE);
        run("CellScribble Predict", "model=[" + MODEL + "] rois");
        report("windows " + nImages + ", objects " + roiManager("count"));
        run("Quit");
        """
    said = place.run(REPORT % quote(report) + variables({**paths, "FOLDER": fiji.folder}) + macro, mode=mode)
    assert report.exists(), said
    errors = dict(line.split("|")[:2] for line in report.read_text(encoding="utf-8").splitlines())
    assert errors["predict"] == "", said
    for name in "ab":
        np.testing.assert_array_equal(tifffile.imread(fiji.folder / "out" / f"{name}_labels.tif"), expected)
    assert "there is no model file" in errors["no model"]
    assert errors["suggest"] == ""
    if mode == "-macro":
        assert errors[f"windows 2, objects {expected.max()}"] == ""


@pytest.mark.imagej
@pytest.mark.slow
def test_a_stroke_drawn_in_fiji_is_on_the_disk(fiji_on_screen, two_disks):
    images = fiji_on_screen.folder / "cells"
    images.mkdir()
    tifffile.imwrite(images / "a.tif", np.full((200, 240), 50, np.uint8))
    desk = Desk(fiji_on_screen, images)
    try:
        assert desk.stroke("a", (30, 40), (50, 40), (70, 40)) == "nucleus_1"
    finally:
        desk.end()


@pytest.mark.imagej
@pytest.mark.slow
def test_annotate_starts_fiji_and_what_it_refuses_comes_back(fiji_on_screen, two_disks):
    words = [fiji_on_screen.folder, fiji_on_screen.folder / "strokes", "--classes", "9"]
    process = start(fiji_on_screen, *words, "--fiji", fiji_on_screen.root)
    assert "a class cannot be called '9'" in process.communicate(timeout=180)[1]
    assert process.returncode == 1


@pytest.fixture
def script(fiji):
    """The script as a person copies it in, and where it is."""
    pytest.importorskip("appose", reason="pip install 'cellscribble[fiji]'")
    if not list((fiji.root / "jars").glob("appose-*.jar")):
        pytest.skip(f"{fiji.root}/jars has no appose-*.jar; a Fiji that has a plugin which brings it is needed")
    place = fiji.root / "scripts" / "Plugins" / "CellScribble"
    place.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(SCRIPT, place))


@pytest.mark.imagej
@pytest.mark.slow
def test_the_groovy_script_without_a_screen(fiji, two_disks, script):
    paths, expected = two_disks
    named = variables({**paths, "PYTHON": sys.executable, "SCRIPT": script}, groovy_text)
    caller = fiji.folder / "caller.groovy"
    caller.write_text("#@ ScriptService scripts\n" + named + CALLER, encoding="ascii")
    said = fiji.finish(fiji.launch("--headless", "--run", str(caller)))
    assert paths["OUT"].exists(), said
    np.testing.assert_array_equal(tifffile.imread(paths["OUT"]), expected)


@pytest.mark.imagej
@pytest.mark.slow
def test_the_groovy_script_in_the_menu(fiji_on_screen, two_disks, script):
    paths, expected = two_disks
    macro = """
        open(IMAGE);
        run("CellScribble Predict Appose", "python=[" + PYTHON + "] model=[" + MODEL + "]");
        selectImage("two disks.tif labels");
        saveAs("Tiff", OUT);
        run("Quit");
    """
    said = fiji_on_screen.run(variables({**paths, "PYTHON": sys.executable}) + macro, mode="-macro")
    assert paths["OUT"].exists(), said
    np.testing.assert_array_equal(tifffile.imread(paths["OUT"]), expected)


@pytest.mark.imagej
@pytest.mark.slow
def test_a_session_in_the_fiji_of_pyimagej(python, fiji_root):  # noqa: F811
    """Its gateway also needs a jar that Fiji has not, from the SciJava repository: once, then it is kept."""
    pytest.importorskip("imagej", reason="pip install pyimagej")
    gateway = f"import imagej\nij = imagej.init({str(fiji_root)!r}, mode='interactive')\nij.ui().showUI()\n"
    check_window(python(gateway + "session = FijiSession()" + WINDOW))
