"""What bench/gpu_check.sh runs on a GPU, run here by the shim: it says what is right, what is wrong, and what
there was no time for. The script itself runs with stand-ins for Python, the sanitizer and `timeout`."""

import glob
import json
import os
import subprocess
import sys
from pathlib import Path

import fake_cupy
import networks
import numpy as np
import pytest
from fastnn import cuda

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "bench" / "gpu_check.sh"
if not SCRIPT.is_file():
    pytest.skip("the benchmark is not in this tree", allow_module_level=True)
sys.path.insert(0, str(SCRIPT.parent))

import gpu_check  # noqa: E402
import gpu_float64  # noqa: E402
import gpu_results  # noqa: E402
import gpu_steps  # noqa: E402


class Turns:
    """Time for so many."""

    def __init__(self, count):
        self.count, self.ran_out = count, False

    def left(self):
        self.count -= 1
        self.ran_out = self.count < 0
        return not self.ran_out


# ---- the CPU's numbers


@pytest.mark.usefixtures("device")
def test_networks_are_compared(monkeypatch):
    found = {}
    assert gpu_check.compare(range(4), found.__setitem__, Turns(9))  # one with a loss of its own
    assert found == {"networks": 4, "not the same bits": []}
    for turns in (2, 0):
        limit = Turns(turns)
        assert gpu_check.compare(range(4), found.__setitem__, limit) == (turns > 0)
        assert (found["networks"], limit.ran_out) == (2, True)

    def other(problem, trainer=networks.Problem.trainer, **given):
        run = trainer(problem, **given)
        parameter = run.model.parameters()[0]
        if run.device == "cuda":
            parameter.data = np.nextafter(parameter.data.get(), np.float32(9))
        return run

    monkeypatch.setattr(networks.Problem, "trainer", other)
    assert not gpu_check.compare(range(2), found.__setitem__, Turns(9))
    assert [problem["seed"] for problem in found["not the same bits"]] == [0, 1]
    assert found["not the same bits"][0]["differ"] > 0


@pytest.mark.usefixtures("device")
def test_functions_are_called(monkeypatch):
    """One of each comes before the second of one."""
    from native import NATIVE

    called = []
    for name in NATIVE:
        call = getattr(gpu_check.ops, name)

        def noted(*arrays, name=name, call=call, **given):
            called.append(name)
            return call(*arrays, **given)

        monkeypatch.setattr(gpu_check.ops, name, noted)
    found, limit = {}, Turns(len(NATIVE))
    assert gpu_check.calls_of_ops(found.__setitem__, limit)
    assert {*called[-2 * len(NATIVE) :]} == {*NATIVE}  # there and here
    assert found == {"calls": len(NATIVE), "not the CPU's bits": []}
    assert limit.ran_out
    assert not gpu_check.calls_of_ops({}.__setitem__, Turns(len(NATIVE) - 1))
    monkeypatch.setattr(fake_cupy.ndarray, "get", lambda array: array._numbers + 1)
    assert not gpu_check.calls_of_ops(found.__setitem__, Turns(40))
    assert found["not the CPU's bits"]


# ---- float64, tensor cores


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("rule", gpu_float64.RULES)
def test_steps_are_near_float64(rule, monkeypatch):
    found = gpu_float64.steps(rule, (9, 8, 7, 3), 20)
    assert gpu_float64.is_near(found), found
    assert found.keys() == gpu_float64.TOLERANCE.keys()
    assert all(found.values())
    make, update = gpu_float64.RULES[rule]
    monkeypatch.setitem(
        gpu_float64.RULES, rule, (make, lambda step, p, g, *s: update(step, p, 1.001 * g, *s))
    )
    found = gpu_float64.steps(rule, (9, 8, 7, 3), 20)
    assert found["updates"] > gpu_float64.TOLERANCE["updates"] or rule in ("adam", "rmsprop")


@pytest.mark.usefixtures("device")
def test_each_part_of_a_step_is_held_to_float64(monkeypatch):
    reference = gpu_float64.reference
    wrong = {
        "softmax_cross_entropy": lambda true, *given: (true(*given)[0] * 1.001, true(*given)[1]),
        "batch_norm_backward": lambda true, *given, **more: [1.001 * x for x in true(*given, **more)],
        "unbiased": lambda true, var, rows: var,
        "sgd": lambda true, param, grad, lr: true(param, grad, lr=1.01 * lr),
    }
    for (name, planted), what in zip(wrong.items(), gpu_float64.TOLERANCE, strict=True):
        with monkeypatch.context() as broken:
            true = getattr(reference, name)
            broken.setattr(reference, name, lambda *a, p=planted, t=true, **more: p(t, *a, **more))
            found = gpu_float64.steps("sgd", (9, 8, 7, 3), 20, count=1)
            assert [key for key, most in gpu_float64.TOLERANCE.items() if found[key] > most] == [what]
            assert not gpu_float64.is_near(found)


@pytest.mark.usefixtures("device")
def test_tensor_cores_are_compared(monkeypatch):
    monkeypatch.setattr(gpu_check, "SIZES", (16, 9, 4))
    found = {}
    assert gpu_check.tensor_cores(found.__setitem__)
    assert all(0 < distance < 5e-3 for distance in found["precisions"].values())
    monkeypatch.setattr(gpu_check, "precisions", lambda: {"tf32": float("nan")})
    assert not gpu_check.tensor_cores(found.__setitem__)


# ---- times


@pytest.mark.usefixtures("device")
def test_an_epoch_is_timed(monkeypatch):
    """And what has failed says why."""
    monkeypatch.setattr(gpu_steps, "ROUNDS", 2)
    job, seen = gpu_steps.Job((6, 5, 3), 8, 4), []

    def put(name, found):
        seen.append((name, {way: len(each.get("all", ())) for way, each in found.items()}))

    def fails():
        raise RuntimeError("no compiler")

    gpu_steps.steps_of(job, {"fastnn": lambda: gpu_steps.fastnn_epoch(job), "compiled": fails}, put)
    name = "6-5-3, batch 8"
    assert seen == [
        (name, {"compiled": 0}),
        *((name, {"compiled": 0, "fastnn": rounds}) for rounds in (1, 2)),
    ]


# ---- results


def test_results_are_written_as_they_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(cuda, "device_info", lambda: {"name": "a GPU"})
    file = tmp_path / "gpu-test.json"

    def read():
        return json.loads(file.read_text())

    results = gpu_results.Results(file, "abc")
    assert (read()["commit"], read()["device"], read()["complete"]) == ("abc", {"name": "a GPU"}, False)
    part = results.part("kernels")
    part("one", {"us": 1.5})
    results.put("networks", 3)
    results.part("kernels")("two", 2)
    assert read()["kernels"] == {"one": {"us": 1.5}, "two": 2}
    assert (read()["networks"], read()["complete"]) == (3, False)
    results.complete()
    assert read()["complete"]
    assert [path.name for path in tmp_path.iterdir()] == ["gpu-test.json"]


def test_without_a_gpu_it_says_why(monkeypatch, capsys):
    monkeypatch.setattr(cuda, "why_not", lambda: "no driver")
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "test", "--seconds", "9"])
    assert gpu_check.main() == 77
    assert capsys.readouterr().out == "no GPU: no driver\n"


@pytest.mark.parametrize("word", ["test", "sanitize"])
@pytest.mark.parametrize("good, over", [(True, False), (True, True), (False, False)])
def test_a_word_ends_with_what_was_found(word, good, over, tmp_path, monkeypatch):
    monkeypatch.setattr(cuda, "why_not", lambda: None)
    monkeypatch.setattr(cuda, "device_info", dict)
    monkeypatch.setenv("RESULTS", str(tmp_path))
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy)
    monkeypatch.setattr(fake_cupy.cuda, "set_allocator", lambda allocator: None, raising=False)
    monkeypatch.setattr(gpu_check, "float64", lambda put: True)
    monkeypatch.setattr(gpu_check, "tensor_cores", lambda put: True)
    monkeypatch.setattr(gpu_check, "calls_of_ops", lambda put, limit: True)

    def compare(seeds, put, limit):
        put("networks", len(seeds))
        assert limit.left() != over
        return good

    monkeypatch.setattr(gpu_check, "compare", compare)
    argv = ["gpu_check.py", word, "--seconds", "-1" if over else "99", "--commit", "abc"]
    monkeypatch.setattr(sys, "argv", argv)
    assert gpu_check.main() == (0 if good and not (over and word == "test") else 1)
    found = json.loads((tmp_path / f"gpu-{word}.json").read_text())
    assert found["commit"] == "abc"
    assert found["networks"] == {"test": 160, "sanitize": 6}[word]
    assert found["complete"] != over


# ---- the script

PYTHON = """#!/bin/bash
echo "python $*" >> "$LOG"
case "$*" in
    -) if [ "$GPU" = asked ]; then exec "$REAL" -; fi; exit ${GPU:-0} ;;
    "-m pip install"*) ;;
    *gpu_check.py*) echo "found something"; exit ${CHECK:-0} ;;
    *pytest* | *run.py*) exit ${REST:-0} ;;
esac
"""
TIMEOUT = """#!/bin/bash
echo "$3" >> "$LOG.seconds"
shift 3
"$@"
"""
SANITIZER = """#!/bin/bash
echo "sanitizer $2" >> "$LOG"
shift 4
"$@"
"""


@pytest.fixture
def script(tmp_path):
    """Runs it: its exit status, what it called, the limits that it gave and what it wrote."""
    for name, text in (("python", PYTHON), ("timeout", TIMEOUT), ("compute-sanitizer", SANITIZER)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def run(*words, **given):
        log = tmp_path / "log"
        for old in (log, tmp_path / "log.seconds"):
            old.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHON": str(tmp_path / "python"),
            "REAL": sys.executable,
            "LOG": str(log),
            "RESULTS": str(tmp_path / "results"),
            "WORK": str(tmp_path / "work"),
            **given,
        }
        done = subprocess.run(
            ["bash", str(SCRIPT), *words], env=environment, capture_output=True, text=True, check=False
        )
        called = log.read_text().splitlines() if log.exists() else []
        limits = log.with_name("log.seconds")
        limits = [*map(int, limits.read_text().split())] if limits.exists() else []
        return done, called, limits

    return run


PARTS = {
    "test": ["gpu_check.py test", "pytest", "-k gpu"],
    "sanitize": ["gpu_check.py"] * 4,
    "bench": ["run.py"],
}


@pytest.mark.parametrize("word", PARTS)
def test_a_word_runs_its_parts_within_nine_minutes(script, tmp_path, word):
    done, called, limits = script(word)
    assert done.returncode == 0, done.stdout + done.stderr
    parts = [line for line in called if line.startswith("python") and "pip install" not in line][1:]
    assert len(parts) == len(PARTS[word])
    assert all(name in line for name, line in zip(PARTS[word], parts))
    build, *shares = limits
    assert 500 < build <= 520
    assert all(500 < share * (len(shares) - i) <= build for i, share in enumerate(shares))
    for line in parts:
        if "gpu_check.py" in line:
            assert 60 < int(line.split("--seconds ")[1]) < shares[parts.index(line)]
            assert len(line.split("--commit ")[1].split()[0]) in (40, len("unknown"))
    if word == "sanitize":
        tools = [line.split()[1] for line in called if line.startswith("sanitizer")]
        assert tools == ["memcheck", "racecheck", "initcheck", "synccheck"]
        assert [line.split("--tool ")[1].split()[0] for line in parts] == tools
    logs = {path.name: path.read_text() for path in (tmp_path / "results").iterdir()}
    assert len(logs) == len(parts)
    if word != "bench":
        assert "found something\n" in logs.values()


def test_the_time_that_a_build_takes_is_not_given_to_a_part(script, tmp_path):
    slow = tmp_path / "timeout"
    slow.write_text(TIMEOUT.replace("shift 3", 'shift 3; case "$*" in *pip*) sleep 1.1 ;; esac'))
    _, _, (build, share) = script("bench")
    assert share < build


@pytest.mark.parametrize("word", PARTS)
def test_without_a_gpu_nothing_is_built(script, word):
    done, called, _ = script(word, GPU="77")
    assert done.returncode == 77
    assert called == ["python -"]


def test_the_driver_is_asked(script):
    if glob.glob("/dev/nvidia*"):
        pytest.skip("there may be a GPU")
    done, called, _ = script("test", GPU="asked")
    assert (done.returncode, done.stdout) == (77, "no GPU: the driver finds none\n"), done.stderr
    assert called == ["python -"]


@pytest.mark.parametrize("word", ["test", "sanitize"])
def test_no_gpu_for_these_kernels_is_77_too(script, word):
    done, called, _ = script(word, CHECK="77")
    assert done.returncode == 77
    assert len([line for line in called if "gpu_check.py" in line]) == 1


def test_no_gpu_for_the_benchmark(script):
    assert script("bench", REST="77")[0].returncode == 77


@pytest.mark.parametrize("code", ["1", "124", "137"])
def test_what_fails_leaves_the_rest_its_time(script, code):
    for word in ("test", "sanitize"):
        done, called, _ = script(word, CHECK=code)
        assert done.returncode == 1
        assert ("out of time" in done.stdout) == (code != "1")
        assert len([line for line in called if "gpu_check.py" in line or "-m pytest" in line]) == len(
            PARTS[word]
        )
    assert script("test", REST=code)[0].returncode == 1
    assert script("bench", REST=code)[0].returncode == 1


def test_other_words(script):
    for words in ((), ("all",)):
        done, called, _ = script(*words)
        assert done.returncode not in (0, 77)
        assert "test, sanitize or bench" in done.stdout + done.stderr
        assert called == []


def test_the_tests_that_it_names_are_there():
    text = SCRIPT.read_text()
    files = text[text.index("tests=(") + 7 :].split(")")[0].split()
    assert files
    for file in files:
        assert (ROOT / file).is_file(), file
