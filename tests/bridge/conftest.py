import pytest

from tests.bridge.imagej import MISSING, ImageJ, virtual_screen


@pytest.fixture(scope="session")
def screen():
    if MISSING:
        pytest.skip(f"real ImageJ is not here: {', '.join(MISSING)} missing")
    with virtual_screen() as display:
        yield display


@pytest.fixture
def imagej(tmp_path, screen):
    """The real ImageJ, in a folder whose name a macro could stumble over."""
    folder = tmp_path / "my images, ü"
    folder.mkdir()
    return ImageJ(folder, screen)
