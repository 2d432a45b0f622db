"""What `pip install .` puts where."""

import ast
import re
from pathlib import Path

import pytest

from cellscribble._version import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture
def arguments(monkeypatch):
    """What setup.py hands to setuptools."""
    import setuptools

    found = {}
    monkeypatch.setattr(setuptools, "setup", lambda **given: found.update(given))
    monkeypatch.chdir(ROOT)
    code = compile((ROOT / "setup.py").read_text(encoding="utf-8"), str(ROOT / "setup.py"), "exec")
    exec(code, {"__file__": str(ROOT / "setup.py"), "__name__": "__main__"})
    return found


def test_every_room_of_the_package_is_installed(arguments):
    folders = {p.parent for p in (ROOT / "cellscribble").rglob("*.py")}
    expected = {".".join(p.relative_to(ROOT).parts) for p in folders}
    assert expected == set(arguments["packages"]) - {
        f"cellscribble.{folder}" for folder in ("examples", "models", "plugins")
    }


def test_version_and_readme_are_those_of_the_source(arguments):
    assert arguments["version"] == __version__
    assert arguments["long_description"] == (ROOT / "README.md").read_text(encoding="utf-8")


def test_all_sample_images_are_installed_inside_the_package(arguments):
    assert arguments["package_dir"]["cellscribble.examples"] == "examples"
    patterns = arguments["package_data"]["cellscribble.examples"]
    installed = {p for pattern in patterns for p in (ROOT / "examples").glob(pattern)}
    assert set((ROOT / "examples").rglob("*.tif")) <= installed
    # Licence and source of the images go with them.
    assert {ROOT / "examples" / "README.md", ROOT / "examples" / "sources.csv"} <= installed


def test_models_are_installed_where_they_are_looked_for(arguments):
    assert arguments["package_dir"]["cellscribble.models"] == "models"
    assert "*/model.onnx" in arguments["package_data"]["cellscribble.models"]


def test_plugins_are_installed_where_fiji_install_looks_for_them(arguments):
    assert arguments["package_dir"]["cellscribble.plugins"] == "plugins"
    patterns = arguments["package_data"]["cellscribble.plugins"]
    installed = {p for pattern in patterns for p in (ROOT / "plugins").glob(pattern)}
    assert {p for p in (ROOT / "plugins" / "fiji").rglob("*") if p.is_file()} <= installed


def test_plugins_and_pipelines_are_installed_with_the_program(arguments):
    patterns = arguments["package_data"]["cellscribble.plugins"]
    installed = {p for pattern in patterns for p in (ROOT / "plugins").glob(pattern)}
    assert ROOT / "plugins" / "cellprofiler" / "runcellscribble.py" in installed
    assert "*/*.cppipe" in arguments["package_data"]["cellscribble.examples"]


def test_the_command_is_installed(arguments):
    assert arguments["entry_points"]["console_scripts"] == ["cellscribble=cellscribble.cli.main:main"]


def test_one_onnx_runtime_wheel_for_each_kind_of_computer(arguments):
    """The two wheels own the same folder, so exactly one may be asked for anywhere."""
    from packaging.requirements import Requirement

    found = [Requirement(r) for r in arguments["install_requires"] if r.startswith("onnxruntime")]
    for machine, platform, expected in [
        ("x86_64", "linux", "onnxruntime-gpu"),
        ("aarch64", "linux", "onnxruntime"),
        ("AMD64", "win32", "onnxruntime-gpu"),
        ("arm64", "darwin", "onnxruntime"),
        ("x86_64", "darwin", "onnxruntime"),
    ]:
        here = {"platform_machine": machine, "sys_platform": platform}
        assert [r.name for r in found if r.marker.evaluate(here)] == [expected]


@pytest.mark.parametrize(
    ("machine", "platform", "python", "expected"),
    [
        ("x86_64", "linux", "3.11", True),
        ("AMD64", "win32", "3.13", True),
        ("arm64", "darwin", "3.12", True),
        ("x86_64", "linux", "3.14", False),
        ("aarch64", "linux", "3.12", False),
        ("ARM64", "win32", "3.12", False),
    ],
)
def test_cp_measure_is_asked_for_where_it_has_wheels(arguments, machine, platform, python, expected):
    """Elsewhere a C compiler would be needed, and the installation of all would fail."""
    from packaging.requirements import Requirement

    here = {"platform_machine": machine, "sys_platform": platform, "python_version": python}
    [found] = [Requirement(r) for r in arguments["install_requires"] if r.startswith("cp-measure")]
    assert found.marker.evaluate(here) is expected


def test_what_the_package_imports_is_asked_for(arguments):
    """Every distribution that a module imports at its top stands in install_requires."""
    names = {"skimage": "scikit-image", "PIL": "pillow"}
    asked = {re.split(r"[\[<>=;]", r)[0].replace("-gpu", "") for r in arguments["install_requires"]}
    imported = set()
    for path in (ROOT / "cellscribble").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.split(".")[0])
    import sys

    foreign = {names.get(n, n) for n in imported - set(sys.stdlib_module_names) - {"cellscribble"}}
    assert foreign <= asked
