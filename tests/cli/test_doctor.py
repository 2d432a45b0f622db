import json
import time
from pathlib import Path

import pytest

from cellscribble import doctor
from cellscribble.cli.main import run
from cellscribble.doctor import OK, OPTIONAL, PROBLEM, WARNING, Check

TORCH = {"threads": 2, "cuda_build": None, "devices": []}
RUNTIME = {"version": "1.31.0", "providers": ["CUDAExecutionProvider", "CPUExecutionProvider"]}


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(doctor, "cuda_device_present", lambda: False)


@pytest.fixture
def a_cuda_device(monkeypatch):
    monkeypatch.setattr(doctor, "cuda_device_present", lambda: True)


def test_this_environment_is_usable_and_every_part_has_one_line(capsys):
    began = time.monotonic()
    assert run(["doctor"]) == 0
    # 5 s on an idle machine; the tests may share theirs.
    assert time.monotonic() - began < 30
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "CellScribble can work here."
    names = ("python", "cellscribble", "torch", "onnxruntime", "imagecodecs", "cores", "memory", "disk", "Fiji")
    for name in (*names, "ImageJ", "CellProfiler", "this folder"):
        assert sum(line[6:].startswith(f"{name} ") for line in lines) == 1, name


def test_json_has_one_object_a_line_and_a_summary(capsys):
    assert run(["doctor", "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {event["event"] for event in events[:-1]} == {"check"}
    assert events[-1] == {"schema": 1, "event": "summary", "usable": True, "problems": []}


def test_a_broken_part_gives_exit_code_1_and_the_remedy_on_the_last_line(monkeypatch, capsys):
    broken = [Check("torch", PROBLEM, "gone", "pip install torch"), Check("Fiji", OPTIONAL, "not found", "get it")]
    monkeypatch.setattr(doctor, "examine", lambda: iter(broken))
    assert run(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert "FAIL  torch" in out
    assert "-> pip install torch" in out
    assert err.splitlines()[-1] == "error: torch is broken: pip install torch"
    assert run(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["problems"] == ["torch"]


def test_what_is_only_optional_does_not_fail(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: iter([Check("Fiji", OPTIONAL, "not found", "get it")]))
    assert run(["doctor"]) == 0


def test_python_older_than_3_11_is_a_problem():
    assert doctor.check_python((3, 10, 4)).status == PROBLEM
    assert doctor.check_python((3, 11, 0)).status == OK


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize(
    ("version", "answer", "status"),
    [
        ("2.6.0", TORCH, OK),
        ("2.13.1+cpu", TORCH, OK),
        ("2.14.0", TORCH, WARNING),
        ("2.5.1", TORCH, WARNING),
        ("", "cannot be imported (No module named 'torch')", PROBLEM),
    ],
)
def test_torch_must_be_there_and_should_be_of_the_tested_range(version, answer, status):
    check = doctor.check_torch(version, answer)
    assert check.status == status
    assert ("pip install" in check.remedy) == (status != OK)


def test_the_tested_range_is_that_of_setup_py():
    text = (Path(__file__).parents[2] / "setup.py").read_text(encoding="utf-8")
    (low, high) = (".".join(map(str, bound)) for bound in doctor.TORCH_RANGE)
    assert f'"torch>={low},<{high}"' in text
    for name in doctor.PACKAGES:
        assert f'"{name}' in text, name


@pytest.mark.usefixtures("a_cuda_device")
def test_a_cpu_torch_beside_an_nvidia_device_is_said():
    check = doctor.check_torch("2.13.0+cpu", TORCH)
    assert check.status == WARNING
    assert "built for the CPU" in check.remedy
    found = {**TORCH, "devices": ["NVIDIA A100"], "cuda_build": "13.0"}
    assert doctor.check_torch("2.13.0", found).status == OK


@pytest.mark.usefixtures("no_cuda")
def test_two_onnx_runtime_wheels_share_one_folder():
    check = doctor.check_runtime(["onnxruntime", "onnxruntime-gpu"], RUNTIME)
    assert check.status == WARNING
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in check.remedy
    assert doctor.check_runtime(["onnxruntime-gpu"], RUNTIME).status == OK


def test_no_onnx_runtime_is_a_problem():
    check = doctor.check_runtime([], "cannot be imported (No module named 'onnxruntime')")
    assert check.status == PROBLEM
    assert check.found.startswith("not installed")


@pytest.mark.usefixtures("a_cuda_device")
def test_an_onnx_runtime_that_cannot_use_the_device_is_said():
    only_cpu = {"version": "1.31.0", "providers": ["CPUExecutionProvider"]}
    assert doctor.check_runtime(["onnxruntime"], only_cpu).status == WARNING


def test_few_threads_little_memory_and_a_missing_folder_warn(monkeypatch, tmp_path):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert doctor.check_machine().status == OK
    monkeypatch.setattr(doctor.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert "OMP_NUM_THREADS is 1" in doctor.check_machine().remedy
    assert doctor.check_memory(2.0).status == WARNING
    assert doctor.check_memory(16.0).status == OK
    assert doctor.check_memory(None).status == OK
    assert doctor.check_folder(tmp_path).status == OK
    assert doctor.check_folder(tmp_path / "absent").status == WARNING
    assert doctor.check_disk(tmp_path / "absent").status == WARNING


def test_a_missing_package_is_named_with_the_pip_command(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-package-here"))
    check = doctor.check_packages()
    assert (check.status, check.remedy) == (PROBLEM, "pip install no-such-package-here")


def test_fiji_is_found_by_variable_then_path_then_usual_folder(monkeypatch, tmp_path):
    for variable in doctor.FIJI_VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor.Path, "home", lambda: tmp_path)
    usual = tmp_path / "Fiji.app"
    (usual / "jars").mkdir(parents=True)
    (usual / "jars" / "ij-1.54p.jar").touch()
    assert doctor.find_fiji() == usual
    assert doctor.find_imagej_jar(usual).name == "ij-1.54p.jar"
    given = tmp_path / "elsewhere"
    given.mkdir()
    monkeypatch.setenv("CELLSCRIBBLE_FIJI", str(given))
    assert doctor.find_fiji() == given
    assert doctor.check_fiji(given).status == OK
    assert doctor.check_fiji(None).status == OPTIONAL


def test_cellprofiler_is_found_on_the_path(monkeypatch, tmp_path):
    program = tmp_path / "cellprofiler"
    program.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert doctor.find_cellprofiler() == program
    plugin = doctor.find_plugin("cellprofiler")
    assert (plugin / "runcellscribble.py").is_file()
    assert doctor.check_cellprofiler(program).found.endswith(f"the folder of our plugin for it is {plugin}")
    assert doctor.check_cellprofiler(None).status == OPTIONAL
    assert doctor.check_imagej(None).status == OPTIONAL


def test_a_library_that_cannot_be_loaded_is_an_answer_not_a_crash(monkeypatch):
    assert doctor._answer(doctor._start("import no_such_module")) == (
        "cannot be imported (ModuleNotFoundError: No module named 'no_such_module')"
    )
    assert "ended with code" in doctor._answer(doctor._start("import os; os.abort()"))
    monkeypatch.setattr(doctor, "PROBE_TIMEOUT_S", 0.2)
    assert "did not load within" in doctor._answer(doctor._start("import time; time.sleep(30)"))
