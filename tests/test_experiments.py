"""The experiments: pairing, choice of a rate, interval and verdict; every one at a tiny size; bad options."""

import doctest
import importlib
import math
import warnings

import fastnn
import numpy as np
import pytest
from fastnn import losses
from fastnn.experiments import (
    EXPERIMENTS,
    Setting,
    _design,
    _digits,
    _page,
    _plots,
    _statistics,
    batch_size,
    clipping,
    depth,
    input_scale,
    optimizers,
)
from fastnn.experiments._design import Arm, Experiment, Part
from fastnn.experiments._statistics import NEVER, Claim

TINY = Setting(seeds=2, tiny=True)


# ---- interval and verdict


def test_golden_interval():
    """Golden values: those of scipy.stats.bootstrap, method "percentile", with 200,000 draws."""
    differences = [0.03, -0.01, 0.02, 0.05, 0.01, 0.04, 0.00, 0.02, 0.03, 0.06]
    assert _statistics.interval(differences) == pytest.approx((0.025, 0.01, 0.04), abs=1e-12)
    assert _statistics.interval(differences) == _statistics.interval(differences)
    ordered = sorted(differences)
    middle, low, high = _statistics.interval(differences)
    assert middle == np.median(differences)
    assert ordered[1] <= low < middle < high <= ordered[-2]


def test_the_interval_covers_the_median_of_most_samples():
    rng = np.random.default_rng(1)
    found = [_statistics.interval(rng.normal(0.5, 1, 25), draws=400) for _ in range(200)]
    assert 0.9 <= np.mean([low <= 0.5 <= high for _, low, high in found]) <= 1


@pytest.mark.parametrize(
    ("low", "high", "pairs", "below", "wanted"),
    [
        (0.1, 0.2, 10, False, "held"),
        (0.1, 0.2, 10, True, "reversed"),
        (-0.2, -0.1, 10, False, "reversed"),
        (-0.2, -0.1, 10, True, "held"),
        (-0.1, 0.1, 10, False, "undecided"),
        (0.0, 0.2, 10, False, "undecided"),
        (-0.2, 0.0, 10, True, "undecided"),
        (0.1, 0.2, 5, False, "undecided"),
        (0.1, 0.2, 6, False, "held"),
    ],
)
def test_verdict(low, high, pairs, below, wanted):
    assert _statistics.verdict(low, high, pairs, below=below) == wanted


def test_an_exact_part_needs_no_pairs():
    assert _statistics.verdict(1.0, 1.0, 1, exact=True) == "held"
    assert _statistics.verdict(0.0, 0.0, 1, exact=True) == "undecided"


def runs(*numbers, diverged=(), first_seed=0):
    return {
        "rate": 0.1,
        "choice": [],
        "runs": [
            {"seed": first_seed + i, "test": number, "diverged": i in diverged}
            for i, number in enumerate(numbers)
        ],
    }


def test_runs_are_compared_in_pairs():
    """The arms overlap widely; the pairs do not."""
    first, second = (runs(*(i / 10 + shift for i in range(8))) for shift in (0.01, 0.0))
    row = _statistics.judged(Claim("", "a", "b", "test"), {"a": first, "b": second})
    assert row["differences"] == pytest.approx([0.01] * 8)
    assert row["verdict"] == "held"
    mixed = {"a": first, "b": {**second, "runs": second["runs"][::-1]}}
    with pytest.raises(ValueError, match="not run with the same seeds"):
        _statistics.judged(Claim("", "a", "b", "test"), mixed)


def test_a_claim_may_compare_with_a_number():
    row = _statistics.judged(Claim("", "a", 0.5, "test", below=True), {"a": runs(*[0.4] * 6)})
    assert (row["verdict"], row["median"]) == ("held", pytest.approx(-0.1))


def test_a_diverged_run_stays_in_the_comparison_and_is_marked():
    arms = {"a": runs(*[0.9] * 5, 0.1, diverged={5}), "b": runs(*[0.8] * 6)}
    row = _statistics.judged(Claim("", "a", "b", "test"), arms)
    assert row["differences"][5] == pytest.approx(-0.7)
    assert _design.described(arms["a"]) == "rate 0.1, n 6, 1 diverged"


def test_band_leaves_out_what_had_ended():
    low, middle, high = _statistics.band([[1.0, 2.0, 3.0], [3.0, 4.0], [5.0, None]])
    assert middle.tolist() == [3.0, 3.0, 3.0]
    assert (low[0], high[0]) == (pytest.approx(1.4), pytest.approx(4.6))


# ---- choice of a rate


def recording(calls, score):
    def trial(rate, seed, final):
        calls.append((rate, seed, final))
        return {"score": score(rate, seed), "diverged": rate > 0.5, "test": rate}

    return trial


def test_a_rate_is_chosen_with_other_seeds_and_diverged_runs_lose():
    calls = []
    arm = Arm(recording(calls, lambda rate, seed: rate))
    part = Part(lambda setting: {"a": arm, "b": arm}, [Claim("", "a", "b", "test")], {"test": "test"})
    found = Experiment("x", "X.", {"p": part}).run(Setting(seeds=6))["parts"]["p"]
    choosing = {seed for _, seed, final in calls if not final}
    deciding = [seed for _, seed, final in calls if final]
    assert len(choosing) == 2
    assert deciding == [*range(6)] * 2
    assert not choosing & set(deciding)
    assert found["arms"]["a"]["rate"] == 0.25  # 1.0 scores more but diverges
    assert [row["rate"] for row in found["arms"]["a"]["choice"]] == list(_design.RATES)
    assert all(rate == 0.25 for rate, _, final in calls if final)


@pytest.mark.parametrize(("pairs", "own", "wanted"), [(10, None, 2), (4, None, 1), (10, 7, 7)])
def test_how_many_other_seeds_choose(pairs, own, wanted):
    calls = []
    _design.choose(Arm(recording(calls, lambda rate, seed: 0.0), choosing=own), Setting(seeds=pairs))
    assert [seed for rate, seed, _ in calls if rate == 0.25] == [1000 + i for i in range(wanted)]


def test_equal_scores_choose_the_lower_rate_and_an_end_of_the_grid_is_told():
    rate, choice = _design.choose(Arm(recording([], lambda rate, seed: 0.0)), TINY)
    assert rate == _design.RATES[0]
    assert _design.at_the_edge({"rate": rate, "choice": choice})
    assert not _design.at_the_edge({"rate": 0.25, "choice": choice})
    assert _design.choose(Arm(recording([], lambda rate, seed: 0.0), [0.3]), TINY) == (0.3, [])


def test_every_grid_has_six_rates():
    for experiment in EXPERIMENTS.values():
        for part in experiment.parts.values():
            for arm in part.arms(TINY).values():
                assert len(arm.rates) in (1, 6)
                assert list(arm.rates) == sorted(arm.rates) or math.isnan(arm.rates[0])


# ---- rows


def test_rows_that_train_choose_and_decide_are_apart():
    (X, _), (X_test, _) = fastnn.data.digits()
    train, held_out = _digits.training_rows(10_000)[0], _digits.held_out_rows()[0]
    assert (len(train), len(held_out)) == (7000, 1000)
    np.testing.assert_array_equal(np.concatenate([train, held_out]), X)
    np.testing.assert_array_equal(_digits.rows_to_test(2000)[0], X_test)


def test_no_test_row_is_used_for_choosing_a_rate(monkeypatch):
    looks = []
    inside = _digits.rows_to_test
    monkeypatch.setattr(_digits, "rows_to_test", lambda count: looks.append(count) or inside(count))
    for experiment in EXPERIMENTS.values():
        for part in experiment.parts.values():
            for arm in part.arms(TINY).values():
                arm.trial(arm.rates[0], 1000, False)
    assert looks == []
    arm = EXPERIMENTS["cost"].parts["digits"].arms(TINY)["quadratic"]
    arm.trial(1.0, 0, True)
    assert looks == [100]


def test_paired_arms_begin_with_the_same_weights_and_see_the_same_batches(monkeypatch):
    seen = {}

    class Noting(fastnn.Trainer):
        def fit(self, X, Y, **options):
            weights = [p.data.copy() for p in self.model.parameters()]
            batches = [x.copy() for x, _ in fastnn.data.batches(X, Y, 20, seed=self.seed, epoch=0)]
            seen.setdefault(self.seed, []).append((weights, batches))
            return super().fit(X, Y, **options)

    monkeypatch.setattr(_digits, "Trainer", Noting)
    arms = EXPERIMENTS["momentum"].parts["digits"].arms(TINY)
    for seed in (0, 1):
        for arm in arms.values():
            arm.trial(0.01, seed, True)
    for pair in seen.values():
        for one, other in zip(*pair, strict=True):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)
    assert not np.array_equal(seen[0][0][0][0], seen[1][0][0][0])
    assert not np.array_equal(seen[0][0][1][0], seen[1][0][1][0])


def test_a_diverged_training_counts_as_a_guess():
    trial = _digits.digits_trial(
        TINY, lambda seed: _digits.dense(784, 8, 10, seed=seed), loss=losses.MSELoss(), one_hot=True
    )
    run = trial(1e20, 0, True)
    assert run["diverged"]
    assert run["test"] == _digits.GUESS


# ---- formulas


def central_differences(f, at):
    steps = 1e-6 * np.eye(len(at))
    return [(f(at + step) - f(at - step)) / 2e-6 for step in steps]


@pytest.mark.parametrize("surface", [optimizers.beale, optimizers.rosenbrock, optimizers.saddle])
def test_gradients_of_the_surfaces(surface):
    for x, y in [(0.3, -1.2), (-1.7, 0.4), (1.1, 1.9)]:
        _, gx, gy = surface(x, y)
        wanted = central_differences(lambda p: surface(*p)[0], np.array([x, y]))
        np.testing.assert_allclose([gx, gy], wanted, rtol=1e-6)


def test_lowest_points_of_the_surfaces():
    assert optimizers.beale(3.0, 0.5) == (0, 0, 0)
    assert optimizers.rosenbrock(1.0, 1.0) == (0, 0, 0)


def test_plain_descent_on_the_saddle_is_a_power():
    """y grows by 1 + 2 * 0.01 a step, so |y| > 1 after ceil(log(1000) / log(1.02)) steps."""
    run = optimizers.saddle_arms(Setting())["plain"].trial(0.01, 0, True)
    assert run["steps"] == math.ceil(math.log(1000) / math.log(1.02))


@pytest.mark.parametrize(("w", "b"), [(5.0, -2.0), (4.6, -2.9), (3.0, -1.0)])
def test_the_backward_of_the_map_by_hand(w, b):
    def reference(p):
        x = 0.5
        for _ in range(clipping.LENGTH):
            x = p[0] / (1 + math.exp(-x)) + p[1]
        return (1 / (1 + math.exp(-x)) - clipping.TARGET) ** 2

    value, dw, db = clipping.cost(np.array([[w]], np.float32), np.array([b], np.float32))
    assert value == pytest.approx(reference((w, b)), rel=1e-4)
    np.testing.assert_allclose([dw, db], central_differences(reference, np.array([w, b])), rtol=1e-3)


def test_clipping_is_that_of_the_optimizer():
    """A clipped step is at most the rate long; without clipping one from the cliff's face is longer."""
    rng = np.random.default_rng(0)
    start = rng.uniform(4.5, 6), rng.uniform(-3, -1.5)
    _, clipped = clipping.descend(start, 0.25, 1.0, 200)
    _, free = clipping.descend(start, 0.25, None, 200)
    assert clipped == pytest.approx(0.25, rel=1e-3)
    assert free > 0.3


def test_the_largest_stable_rate_is_where_descent_turns():
    x, y = input_scale.two_features(0)
    limit = 2 / np.linalg.eigvalsh(input_scale.curvature(x))[-1]
    for factor, grows in ((0.98, False), (1.02, True)):
        costs, _ = input_scale.descend(x, y, factor * limit, 400)
        assert (costs[-1] > costs[0]) == grows


def test_the_law_of_depth_is_the_gain_to_the_layers_before():
    for name, gain in (("gain 1.5", 1.5), ("gain 0.5", 0.5)):
        run = depth.law(TINY)[name].trial(math.nan, 0, True)
        assert run["backward"] == pytest.approx([gain**i for i in reversed(range(depth.LAYERS))], rel=1e-5)
        assert run["forward"] == pytest.approx([gain ** (i + 1) for i in range(depth.LAYERS)], rel=1e-5)


def test_the_deviation_of_a_gradient_of_all_rows_is_none():
    model = _digits.dense(784, 4, 10, seed=0)
    assert batch_size.deviation(model, 50, 50, 0) < 1e-5
    assert batch_size.deviation(model, 5, 50, 0) > 0.1


# ---- every experiment, tiny


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_runs(name, tmp_path):
    experiment = EXPERIMENTS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = experiment.run(TINY)
    for part_name, part in experiment.parts.items():
        content = found["parts"][part_name]
        arms, verdicts = content["arms"], content["verdicts"]
        assert all(len(arm["runs"]) == (1 if part.exact else 2) for arm in arms.values())
        assert all(key in run for arm in arms.values() for run in arm["runs"] for key in part.numbers)
        assert len(verdicts) == len(part.claims)
        if not part.exact:
            assert {row["verdict"] for row in verdicts} == {"undecided"}  # two pairs
    found["conditions"] = _page.conditions(2, "")
    _page.save(found, tmp_path)
    assert _page.load(tmp_path)[name] == found
    assert f"## {name}\n" in _page.page({name: found})


def test_two_runs_are_the_same_but_for_the_seconds():
    one, other = (EXPERIMENTS["momentum"].run(TINY)["parts"]["digits"]["arms"] for _ in range(2))
    for name, arm in one.items():
        for a, b in zip(arm["runs"], other[name]["runs"], strict=True):
            assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_texts_say_claim_and_deciding_number():
    for experiment in EXPERIMENTS.values():
        for part in ("The sources say", "Deciding number:"):
            assert part in experiment.text, experiment.name
        assert len(experiment.title) < 60


def test_a_picture_marks_the_diverged(tmp_path):
    figure_module = pytest.importorskip("matplotlib.figure")
    arms = {"a": {**runs(1.0, 2.0, diverged={1}), "choice": []}}
    for run in arms["a"]["runs"]:
        run["held_out"] = [0.1, 0.2]
    for panel in (_plots.curves("held_out", "y"), _plots.bars("test", "y")):
        axes = figure_module.Figure().subplots()
        panel(axes, {"arms": arms})
        assert [line.get_marker() for line in axes.lines].count("x") == 1


def test_bars_reach_from_10_to_90_percent_and_legends_name_rate_and_n():
    figure_module = pytest.importorskip("matplotlib.figure")
    arms = {"a": runs(*map(float, range(11)))}
    axes = figure_module.Figure().subplots()
    _plots.bars("test", "y")(axes, {"arms": arms})
    (middle, caps, _), *_ = (container.lines for container in axes.containers)
    assert [float(line.get_ydata()[0]) for line in (middle, *caps)] == [5, 1, 9]
    for run in arms["a"]["runs"]:
        run["held_out"] = [0.1, 0.2]
    _plots.curves("held_out", "y")(axes, {"arms": arms})
    assert axes.get_legend_handles_labels()[1] == ["a (rate 0.1, n 11)"]


def test_a_percentile_between_a_number_and_never_is_never():
    """One run of ten that never arrived: 90 % lies a tenth of the way from the last number to NEVER."""
    steps = [40, 60, 80, 100, 120, 140, 160, 180, 200, NEVER]
    assert _page.shown(np.percentile(steps, 90)) == "never"
    assert _page.shown(np.percentile(steps, 80)) != "never"
    assert _page.shown(-0.025 * NEVER, difference=True) == "only the first arrives"
    assert _page.shown(0.025 * NEVER, difference=True) == "only the second arrives"


def test_never_is_drawn_above_all_others():
    figure_module = pytest.importorskip("matplotlib.figure")
    axes = figure_module.Figure().subplots()
    _plots.bars("test", "steps")(axes, {"arms": {"a": runs(NEVER, NEVER), "b": runs(10.0, 20.0)}})
    assert max(np.max(line.get_ydata(), initial=0) for line in axes.lines) == 60.0
    assert [text.get_text() for text in axes.texts] == ["never "]


@pytest.mark.parametrize("name", ["", "._statistics"])
def test_doctests(name):
    module = importlib.import_module(f"fastnn.experiments{name}")
    found = doctest.testmod(module, raise_on_error=False)
    assert found.attempted
    assert found.failed == 0
