"""The texts say what is so: commands, help, links, versions."""

import functools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cellscribble._version import __version__
from cellscribble.cli.main import COMMANDS, cli
from cellscribble.io.images import IMAGE_SUFFIXES
from cellscribble.io.paint import PAINTS
from cellscribble.io.scribbles import SCRIBBLE_SUFFIXES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md"), *ROOT.glob("[a-z]*/README.md")]


FOREIGN = {
    "clusters.md": {
        *("--scheduler-file", "--nthreads", "--memory-limit", "--lifetime", "--lifetime-stagger"),
        *("--job-name", "--array", "--cpus-per-task", "--mem", "--time", "--parsable", "--dependency", "--wrap"),
        "--requeue",
    },
    "cellprofiler.md": {"--plugins-directory", "--number", "--side"},
    "accuracy.md": {"--pace", "--first", "--more"},
    "fiji.md": {"--headless", "--run"},
}
"""Options of other programs and of benchmarks on a page."""


def install_lines() -> list[str]:
    return [line for line in README.splitlines() if line.startswith("python3 -m venv ")]


def options_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))


@functools.cache
def help_page() -> str:
    """docs/cli.md as it should be; from a process of its own, since click remembers help options."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "write_cli.py"), "--print"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


def test_the_readme_has_one_line_for_the_demo_and_one_for_the_tests():
    demo, tests = install_lines()
    assert demo.endswith(".venv/bin/pip install . && .venv/bin/cellscribble demo")
    assert tests.endswith(".venv/bin/pip install -e '.[test]' && .venv/bin/pytest")


def test_ci_types_the_lines_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    patterns = re.findall(r"readme_line '(.+?)'", script)
    assert patterns == ["cellscribble demo", "pytest"]
    for pattern, line in zip(patterns, install_lines(), strict=True):
        found = subprocess.run(
            ["grep", "-E", f"^python3 -m venv .*{pattern}$", str(ROOT / "README.md")],
            capture_output=True,
            text=True,
            check=True,
        )
        assert found.stdout.splitlines() == [line]
    # It may install and test in no other way.
    assert "pip install" not in script
    assert "bin/pytest" not in script


def test_the_command_line_page_is_what_help_prints():
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    # Words, not line breaks: releases of click break lines in other places.
    assert page.split() == help_page().split(), "run: python docs/write_cli.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_commands_and_options_in_the_texts_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"(?:^\$ |`|^|bin/)cellscribble ([a-z][a-z-]*)", text, re.MULTILINE):
        assert name in COMMANDS, f"there is no command {name!r}"
    foreign = {"--quick", "--set", "--help", "--keep"} | FOREIGN.get(page.name, set())
    assert options_in(text) - foreign <= options_in(help_page()), page


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_to_files_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_typed_commands_of_the_readme_are_accepted(tmp_path, monkeypatch):
    """Every `$ cellscribble ...` line and the two main commands parse; nothing is run."""
    typed = re.findall(r"^(?:\$ )?cellscribble ([a-z]+ .+)$", README, re.MULTILINE)
    assert {"train ./imgs ./scribbles", "predict slide.zarr"} <= set(typed)
    for name in ("imgs", "scribbles", "cellscribble_out", "runs/nuclei"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    for line in typed:
        name, *args = shlex.split(line)
        command = cli.get_command(click.Context(cli), name)
        command.make_context(name, args)


def test_the_changelog_has_a_heading_for_this_version_after_unreleased():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert next(v for v in versions if v != "Unreleased") == __version__
    assert set(re.findall(r"^### (.+)$", text, re.MULTILINE)) <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }


def test_the_table_of_strokes_names_what_is_read():
    text = (ROOT / "docs" / "scribbles.md").read_text(encoding="utf-8")
    listed = re.search(r"Endings that are read: `(.+?)`", text)[1].split()
    assert sorted(listed) == sorted(SCRIBBLE_SUFFIXES)
    row = re.search(r"^\| blue \|.*$", text, re.MULTILINE)[0]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [name for name, _ in PAINTS]


def test_image_kinds_of_the_readme_are_read():
    for suffix in (".tif", ".ome.tif", ".png", ".jpg", ".bmp", ".svs", ".ome.zarr"):
        assert suffix in IMAGE_SUFFIXES


def test_every_room_of_the_package_stands_in_the_architecture():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    package = ROOT / "cellscribble"
    rooms = {p.parent.name for p in package.glob("*/*.py") if p.name != "__init__.py"}
    for room in rooms:
        assert f"`{room}/`" in text, room
    for module in package.glob("*.py"):
        if not module.name.startswith("_"):
            assert f"`{module.name}`" in text, module.name
    for path in re.findall(r"`([a-z_]+/[a-z_0-9]+\.py)`", text):
        assert (package / path).exists(), path


def test_methods_of_the_texts_are_those_of_the_registry():
    from cellscribble.methods.registry import METHODS

    text = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    for name, entry in METHODS.items():
        assert f"**`{name}`** ({entry.paper}" in text
