import pytest

from cellscribble import provenance


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/usr/bin/cellscribble", "info", "my model"], "cellscribble info 'my model'"),
        (["/x/cellscribble/__main__.py", "info"], "cellscribble info"),
        (["script.py", "a"], "python script.py a"),
        (["C:/Scripts/cellscribble.exe", "info"], "cellscribble info"),
    ],
)
def test_the_command_can_be_typed_again(monkeypatch, argv, expected):
    monkeypatch.setattr("sys.argv", argv)
    assert provenance.command() == expected


def test_versions_leave_out_what_is_not_installed():
    found = provenance.versions("no-such-package", "click")
    assert {"python", "cellscribble", "numpy", "click"} <= found.keys()
    assert "no-such-package" not in found
