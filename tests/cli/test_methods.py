from cellscribble.baselines.registry import BASELINES
from cellscribble.cli.main import run
from cellscribble.methods.registry import METHODS
from tests.cli.test_main import modules_after


def test_every_method_is_listed_with_its_paper_and_the_default_is_marked(capsys):
    assert run(["methods"]) == 0
    out = capsys.readouterr().out
    for name, entry in {**METHODS, **BASELINES}.items():
        assert f"{name} " in out
        assert entry.summary in out
        assert entry.paper in out
    assert next(line for line in out.splitlines() if line.startswith("* ")).startswith("* scribble2label")


def test_listing_imports_no_torch(tmp_path):
    code, modules, stderr = modules_after("methods", cwd=tmp_path)
    assert code == 0, stderr
    assert "torch" not in modules
