from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.plugins.drive import stop_servers


@pytest.fixture
def temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the programs that a test starts put their temporary files; their servers end with the test."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield folder
    stop_servers(folder)
