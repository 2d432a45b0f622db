"""CELLSCRIBBLE_TEST_FIJI, as far as it can be tested without a Fiji: ImageJ stands behind the launcher instead."""

import os

import pytest

from cellscribble.bridge.fiji import install
from cellscribble.bridge.find import FIJI_PROGRAMS
from cellscribble.bridge.macro_text import quote
from cellscribble.cli.main import run as cellscribble
from tests.bridge.imagej import JAR
from tests.bridge.real_fiji import HEADLESS, VARIABLE, Fiji, copy_fiji, given_fiji

needs_sh = pytest.mark.skipif(os.name == "nt", reason="the launcher here is a shell script")


def make_fiji(folder, name, script):
    """The folders of a Fiji, with a script as its launcher; what is in $0's folder is its own."""
    (folder / "plugins").mkdir(parents=True)
    (folder / "jars").mkdir()
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return folder


def test_without_the_variable_the_tests_say_what_to_set(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(pytest.skip.Exception, match="set CELLSCRIBBLE_TEST_FIJI to the folder of one"):
        given_fiji()


def test_a_folder_that_is_no_fiji_is_a_failure_and_no_skip(tmp_path, monkeypatch):
    (tmp_path / "pictures").mkdir()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match=r"TEST_FIJI: .* is no Fiji or ImageJ \(it holds pictures\)"):
        given_fiji()
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(pytest.fail.Exception, match="there is no such folder"):
        given_fiji()
    (tmp_path / "plugins").mkdir()
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="no program of Fiji: none of fiji, Fiji, fiji-linux-x64, "):
        given_fiji()


@needs_sh
@pytest.mark.parametrize("name", FIJI_PROGRAMS)
def test_a_launcher_of_each_name_is_started_on_the_macro(tmp_path, monkeypatch, name, capsys):
    """By `annotate` and by the tests; in the copy, and the Fiji that was named stays as it is.

    This one ends without having run the macro, as a Fiji does that is open already.
    """
    fiji = make_fiji(tmp_path / "Fiji", name, 'printf "%s\\n" "$@" > "$(dirname "$0")/words.txt"')
    monkeypatch.setenv(VARIABLE, str(fiji))
    assert given_fiji() == fiji
    tried = Fiji(tmp_path / "work", "", copy_fiji(given_fiji(), tmp_path / "copy"))
    tried.run("1;", mode=HEADLESS)
    assert (tried.root / "words.txt").read_text().splitlines() == ["--headless", "-macro", f"{tried.folder}/test.ijm"]
    install(tried.root)
    assert sorted(p.name for p in fiji.rglob("*")) == sorted(["plugins", "jars", name])
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.tif").write_bytes(b"x")
    assert cellscribble(["annotate", str(tmp_path / "images"), str(tmp_path / "s"), "--fiji", str(fiji)]) == 1
    assert "ended before Annotate began; if it is open already close it" in capsys.readouterr().err
    option, macro = (fiji / "words.txt").read_text().splitlines()
    assert (option, macro.rpartition("/")[2]) == ("-macro", "annotate.ijm")


@needs_sh
@pytest.mark.imagej
def test_home_and_temporary_folder_of_what_is_started_are_its_own(imagej, tmp_path):
    """Through the variable that Java itself reads: so it reaches the Java of any launcher."""
    script = f'exec java -Dplugins.dir="$(dirname "$0")" -cp "{JAR}" ij.ImageJ "$@"'
    fiji = Fiji(imagej.folder, imagej.display, make_fiji(tmp_path / "my Fiji", "fiji-linux-x64", script))
    out = fiji.folder / "places.txt"
    fiji.run(f'File.saveString(getDirectory("home") + "|" + getDirectory("temp"), {quote(out)});', mode="-batch")
    home, temporary = out.read_text(encoding="utf-8").split("|")
    assert home.rstrip("/") == str(fiji.folder / "home")
    assert temporary.rstrip("/") == str(fiji.folder / "tmp")
