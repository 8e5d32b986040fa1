"""bench/precision.py: the statistics, a small run, and the committed result."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).resolve().parents[1] / "bench"
if not BENCH.is_dir():
    pytest.skip("the benchmark is not in this tree", allow_module_level=True)
sys.path.insert(0, str(BENCH))

import precision  # noqa: E402


def test_mean_and_interval() -> None:
    found = precision.summary([(90.0, 90.25)] * 5)
    assert found == {"mean": 0.25, "low": 0.25, "high": 0.25, "within": True}
    assert not precision.summary([(90.0, 89.6)] * 5)["within"]
    spread = np.random.default_rng(0).standard_normal(400)
    found = precision.summary([(90.0, 90.0 + d) for d in spread])
    error = 1.96 * spread.std() / 20
    assert found["low"] == pytest.approx(spread.mean() - error, abs=0.02)
    assert found["high"] == pytest.approx(spread.mean() + error, abs=0.02)


def test_a_small_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(precision, "NETWORKS", {"784-16-10": (True, (784, 16, 10))})
    status = precision.main(["--seeds", "2", "--epochs", "1", "--json", str(tmp_path / "a.json")])
    result = json.loads((tmp_path / "a.json").read_text())["results"][0]
    assert status == (0 if result["within"] else 1)
    assert len(result["pairs"]) == 2
    assert all(float32 != bfloat16 for float32, bfloat16 in result["pairs"])
    assert "2 seeds" in capsys.readouterr().out


def test_the_committed_result() -> None:
    """Its figures are those of its pairs, and those of docs/numerics.md."""
    found = json.loads((BENCH / "results" / "precision.json").read_text())
    page = (BENCH.parent / "docs" / "numerics.md").read_text()
    assert [result["network"] for result in found["results"]] == list(precision.NETWORKS)
    for result in found["results"]:
        assert len(result["pairs"]) == 20
        assert result == {**result, **precision.summary(result["pairs"])}
        assert result["within"]
        mean, low, high = (f"{result[name]:+.3f}" for name in ("mean", "low", "high"))
        assert f"| {result['network']} |" in page
        assert f"| {mean} | {low} to {high} |" in page
