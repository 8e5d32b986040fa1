"""docs/experiments.md, its pictures and verdicts are those of the committed JSON files."""

import json

import pytest
from fastnn.experiments import EXPERIMENTS, _page, _plots
from fastnn.experiments._design import plain
from fastnn.experiments._statistics import judged
from pages import ROOT, anchors

FOLDER = ROOT / "docs" / "experiments"
RESULTS = _page.load(FOLDER)


def flat(text):
    return " ".join(text.split())


def test_every_experiment_has_results():
    assert set(RESULTS) == set(EXPERIMENTS) == {path.stem for path in FOLDER.glob("*.json")}


def test_the_page_is_made_from_the_results():
    assert (ROOT / "docs" / "experiments.md").read_text() == _page.page(RESULTS)


def test_the_page_has_a_heading_for_each():
    assert set(EXPERIMENTS) <= anchors("experiments.md")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_claim_stood_before_the_run(name):
    """The text that the run kept is the module's, and so are the claims and the grids."""
    experiment, found = EXPERIMENTS[name], RESULTS[name]
    assert flat(found["text"]) == flat(experiment.text)
    assert list(found["parts"]) == list(experiment.parts)
    for part_name, part in experiment.parts.items():
        wanted = [[c.text, c.first, c.second, c.number, c.below] for c in part.claims]
        keys = ("claim", "first", "second", "number", "below")
        rows = found["parts"][part_name]["verdicts"]
        assert [[row[key] for key in keys] for row in rows] == plain(wanted)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_verdicts_follow_from_the_runs(name):
    for part_name, part in EXPERIMENTS[name].parts.items():
        content = RESULTS[name]["parts"][part_name]
        again = [plain(judged(claim, content["arms"], exact=part.exact)) for claim in part.claims]
        assert again == content["verdicts"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_ten_paired_seeds(name):
    for part_name, part in EXPERIMENTS[name].parts.items():
        for arm in RESULTS[name]["parts"][part_name]["arms"].values():
            assert [run["seed"] for run in arm["runs"]] == list(range(1 if part.exact else 10))
            assert len(arm["choice"]) in (0, 6)
            if arm["choice"]:
                scores = {row["rate"]: row["score"] for row in arm["choice"]}
                assert scores[arm["rate"]] == max(scores.values())


def test_all_of_it_took_ten_minutes_at_most():
    assert sum(found["run_seconds"] for found in RESULTS.values()) <= 600


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_pictures(name):
    """One for each part with panels: of these results, 800 pixels wide, below 60 kB."""
    for part, file in _plots.pictures(EXPERIMENTS[name]).items():
        picture = (FOLDER / file).read_bytes()
        assert _plots.digest(RESULTS[name]["parts"][part]).encode() in picture
        assert int.from_bytes(picture[16:20], "big") == 800
        assert len(picture) < 60_000


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_trainings_are_drawn_over_epochs_and_over_seconds(name):
    figure_module = pytest.importorskip("matplotlib.figure")
    for part_name, part in EXPERIMENTS[name].parts.items():
        content = RESULTS[name]["parts"][part_name]
        if not all("seconds" in run for arm in content["arms"].values() for run in arm["runs"]):
            continue  # no training: a surface, a map, a law
        labels = set()
        for panel in part.panels:
            axes = figure_module.Figure().subplots()
            panel(axes, content)
            labels.add(axes.get_xlabel())
        assert {"epoch", _plots.SECONDS} <= labels, part_name


def test_no_picture_is_left_over():
    wanted = {file for experiment in EXPERIMENTS.values() for file in _plots.pictures(experiment).values()}
    assert {path.name for path in FOLDER.glob("*.png")} == wanted


def test_the_results_say_what_they_were_measured_on():
    for found in RESULTS.values():
        assert found["conditions"]["seeds"] == 10
        assert all(found["conditions"][key] for key in ("date", "cpu", "isa", "threads", "version", "numpy"))
        assert json.dumps(found)  # no NaN: JSON has none
        assert "NaN" not in json.dumps(found)
