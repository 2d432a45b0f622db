from dataclasses import replace

import pytest

from tests.bridge.imagej import MISSING, NO_IMAGEJ, NO_SCREEN, ImageJ, virtual_screen
from tests.bridge.real_fiji import Fiji, copy_fiji, given_fiji


@pytest.fixture(scope="session")
def screen():
    if NO_SCREEN:
        pytest.skip(f"no screen of its own for ImageJ: {', '.join(NO_SCREEN)} missing")
    with virtual_screen() as display:
        yield display


@pytest.fixture
def imagej(tmp_path, request):
    """The real ImageJ, in a folder whose name a macro could stumble over."""
    if MISSING:
        pytest.skip(NO_IMAGEJ)
    folder = tmp_path / "my images, ü"
    folder.mkdir()
    return ImageJ(folder, request.getfixturevalue("screen"))


@pytest.fixture(scope="session")
def fiji_root(tmp_path_factory):
    """A copy of the Fiji that is named, once for all tests."""
    return copy_fiji(given_fiji(), tmp_path_factory.mktemp("fiji") / "my Fiji")


@pytest.fixture
def fiji(tmp_path, fiji_root):
    """A real Fiji without a screen."""
    folder = tmp_path / "my images, ü"
    folder.mkdir()
    return Fiji(folder, "", fiji_root)


@pytest.fixture
def fiji_on_screen(fiji, screen):
    return replace(fiji, display=screen)
