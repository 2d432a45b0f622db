import os
import sys

import pytest

from cellscribble.bridge.fiji import examine, find_plugins, install, plugin_texts
from cellscribble.bridge.macro_text import quote
from cellscribble.cli.main import run
from cellscribble.core.errors import InputError, OutputError
from cellscribble.doctor import OK, WARNING, check_fiji

COMMANDS = ("Annotate", "Predict", "Show_labels", "Suggest_regions", "Train")


@pytest.fixture
def fiji(tmp_path):
    (tmp_path / "Fiji" / "plugins").mkdir(parents=True)
    return tmp_path / "Fiji"


@pytest.mark.parametrize("place", ["Fiji", ".", "Fiji/plugins"])
def test_the_commands_are_written_with_the_path_of_this_python(fiji, place, capsys):
    assert run(["fiji-install", str(fiji.parent / place)]) == 0
    folder = fiji / "plugins" / "CellScribble"
    assert {p.name for p in folder.iterdir()} == {*(f"CellScribble_{name}.ijm" for name in COMMANDS), "tools.txt"}
    for path in folder.iterdir():
        text = path.read_text(encoding="ascii")
        assert f"\nvar python = {quote(sys.executable)};\n" in text
        assert "// include" not in text
    assert "6 files in" in capsys.readouterr().err


@pytest.mark.parametrize("inside", ["Fiji.app/plugins", "ImageJ/plugins", "Contents/Java/plugins"])
def test_older_fiji_plain_imagej_and_macos_are_known(tmp_path, inside):
    (tmp_path / inside).mkdir(parents=True)
    assert find_plugins(tmp_path) == (tmp_path / inside).resolve()


def test_another_folder_says_what_it_holds(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(InputError, match=r"no Fiji or ImageJ \(it holds pictures\).*'plugins'"):
        install(tmp_path)
    with pytest.raises(InputError, match="there is no such folder"):
        install(tmp_path / "nowhere")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may write everywhere")
def test_a_folder_of_another_user_says_who_may(fiji):
    (fiji / "plugins").chmod(0o555)
    with pytest.raises(OutputError, match="user who installed Fiji"):
        install(fiji)


def test_a_file_in_the_way_is_no_traceback(fiji):
    (fiji / "plugins" / "CellScribble").write_text("mine")
    with pytest.raises(OutputError, match="user who installed Fiji"):
        install(fiji)


def test_doctor_tells_whether_the_commands_are_this_version_s(fiji):
    assert check_fiji(fiji).status == OK
    assert "cellscribble fiji-install" in check_fiji(fiji).remedy
    install(fiji)
    assert (check_fiji(fiji).status, check_fiji(fiji).remedy) == (OK, "")
    path = fiji / "plugins" / "CellScribble" / "CellScribble_Predict.ijm"
    path.write_text(path.read_text().replace(sys.executable, "/gone/python"))
    assert not examine(fiji).current
    assert check_fiji(fiji).status == WARNING
    install(fiji)
    assert examine(fiji).current


def test_texts_for_imagej_are_ascii():
    assert quote("C:\\a b\\ü") == '"C:"+fromCharCode(92)+"a b"+fromCharCode(92)+fromCharCode(252)'
    assert quote("\U0001f52c") == '""+fromCharCode(55357)+fromCharCode(56620)'
    assert quote('say "x"') == '"say "+fromCharCode(34)+"x"+fromCharCode(34)'
    assert quote("") == '""'
    for text in plugin_texts().values():
        assert text.isascii()
