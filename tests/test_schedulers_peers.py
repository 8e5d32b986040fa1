"""Schedules against PyTorch's and PaddlePaddle's, where they have the same one."""

import importlib.util
import json
import math
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from fastnn import schedulers as s

# PaddlePaddle's expression, PyTorch's or None, ours. `lr` is the peer's module, `opt` an optimizer at 0.5.
ROWS = {
    "piecewise": (
        "lr.PiecewiseDecay([3, 6], [0.1, 0.2, 0.3])",
        None,
        s.PiecewiseDecay([3, 6], [0.1, 0.2, 0.3]),
    ),
    "exponential": (
        "lr.ExponentialDecay(0.5, 0.9)",
        "lr.ExponentialLR(opt, 0.9)",
        s.ExponentialDecay(0.5, 0.9),
    ),
    "natural": ("lr.NaturalExpDecay(0.5, 0.1)", None, s.NaturalExpDecay(0.5, 0.1)),
    "inverse": ("lr.InverseTimeDecay(0.5, 0.1)", None, s.InverseTimeDecay(0.5, 0.1)),
    "polynomial": ("lr.PolynomialDecay(0.5, 12)", None, s.PolynomialDecay(0.5, 12)),
    "polynomial-0": (
        "lr.PolynomialDecay(0.5, 12, 0.0, 1.5)",
        "lr.PolynomialLR(opt, 12, 1.5)",
        s.PolynomialDecay(0.5, 12, 0.0, 1.5),
    ),
    "polynomial-cycle": (
        "lr.PolynomialDecay(0.5, 4, 0.1, 2.0, cycle=True)",
        None,
        s.PolynomialDecay(0.5, 4, 0.1, 2.0, cycle=True),
    ),
    "polynomial-cycle-1": (
        "lr.PolynomialDecay(1.0, 7, cycle=True)",
        None,
        s.PolynomialDecay(1.0, 7, cycle=True),
    ),
    "step": ("lr.StepDecay(0.5, 3)", "lr.StepLR(opt, 3)", s.StepDecay(0.5, 3)),
    "step-gamma": (
        "lr.StepDecay(0.5, 1, 0.7)",
        "lr.StepLR(opt, 1, gamma=0.7)",
        s.StepDecay(0.5, 1, gamma=0.7),
    ),
    "multi-step": (
        "lr.MultiStepDecay(0.5, [2, 9, 20], 0.3)",
        "lr.MultiStepLR(opt, [2, 9, 20], 0.3)",
        s.MultiStepDecay(0.5, [2, 9, 20], 0.3),
    ),
    "linear": (
        "lr.LinearLR(0.5, 10, start_factor=1.0, end_factor=0.02)",
        "lr.LinearLR(opt, 1.0, 0.02, total_iters=10)",
        s.LinearDecay(0.5, 10, 0.01),
    ),
    "lambda": (
        "lr.LambdaDecay(0.5, lambda t: 0.95**t)",
        "lr.LambdaLR(opt, lambda t: 0.95**t)",
        s.LambdaDecay(0.5, lambda t: 0.95**t),
    ),
    "noam": ("lr.NoamDecay(512, 4)", None, s.NoamDecay(512, 4)),
    "noam-lr": ("lr.NoamDecay(64, 10, learning_rate=2.0)", None, s.NoamDecay(64, 10, lr=2.0)),
    # Both rise again after T_max; "hold" is Keras's and Optax's, in test_schedulers.py.
    "cosine": (
        "lr.CosineAnnealingDecay(0.5, 7, 0.01)",
        "lr.CosineAnnealingLR(opt, 7, eta_min=0.01)",
        s.CosineAnnealingDecay(0.5, 7, 0.01),
    ),
    "cosine-long": (
        "lr.CosineAnnealingDecay(0.5, 40)",
        "lr.CosineAnnealingLR(opt, 40)",
        s.CosineAnnealingDecay(0.5, 40),
    ),
    "restarts": (
        "lr.CosineAnnealingWarmRestarts(0.5, 3, 2, 0.1)",
        "lr.CosineAnnealingWarmRestarts(opt, 3, 2, 0.1)",
        s.CosineAnnealingWarmRestarts(0.5, 3, 2, 0.1),
    ),
    "restarts-equal": (
        "lr.CosineAnnealingWarmRestarts(0.5, 4)",
        "lr.CosineAnnealingWarmRestarts(opt, 4)",
        s.CosineAnnealingWarmRestarts(0.5, 4),
    ),
    # Paddle's ends at an absolute rate.
    "one-cycle": (
        f"lr.OneCycleLR(0.5, 31, end_learning_rate={0.5 / 25 / 1e4!r})",
        "lr.OneCycleLR(opt, 0.5, total_steps=31, cycle_momentum=False)",
        s.OneCycle(0.5, 31),
    ),
    "one-cycle-options": (
        None,
        "lr.OneCycleLR(opt, 0.3, 30, pct_start=0.45, div_factor=7, final_div_factor=3, cycle_momentum=False)",
        s.OneCycle(0.3, 30, 0.45, 7, 3),
    ),
    "one-cycle-from-the-top": (
        None,
        "lr.OneCycleLR(opt, 0.3, total_steps=30, pct_start=0.0, cycle_momentum=False)",
        s.OneCycle(0.3, 30, pct_start=0.0),
    ),
    "cyclic": (
        "lr.CyclicLR(0.1, 0.5, 4, 7)",
        "lr.CyclicLR(opt, 0.1, 0.5, 4, 7, cycle_momentum=False)",
        s.Cyclic(0.1, 0.5, 4, 7),
    ),
    "cyclic-even": (
        "lr.CyclicLR(0.0, 0.5, 5)",
        "lr.CyclicLR(opt, 0.0, 0.5, 5, cycle_momentum=False)",
        s.Cyclic(0.0, 0.5, 5),
    ),
    "warmup": (
        "lr.LinearWarmup(0.5, 5, 0.05, 0.5)",
        "lr.LinearLR(opt, 0.1, total_iters=5)",
        s.LinearWarmup(0.5, 5, start_lr=0.05),
    ),
    "warmup-cosine": (
        "lr.LinearWarmup(lr.CosineAnnealingDecay(0.5, 9), 4, 0.25, 0.5)",
        "lr.SequentialLR(opt, [lr.LinearLR(opt, 0.5, total_iters=4), lr.CosineAnnealingLR(opt, 9)], [4])",
        s.LinearWarmup(s.CosineAnnealingDecay(0.5, 9), 4, start_lr=0.25),
    ),
    "sequence": (
        None,
        "lr.SequentialLR(opt, [lr.ConstantLR(opt, 0.2, 99), lr.StepLR(opt, 2), lr.ExponentialLR(opt, 0.9)],"
        " [5, 11])",
        s.Sequence([0.1, s.StepDecay(0.5, 2), s.ExponentialDecay(0.5, 0.9)], [5, 11]),
    ),
}


def metric_rows():
    """Name -> options, metrics: sequences that fall, stall and jump, all above 0."""
    rng = np.random.default_rng(0)
    for i in range(40):
        options = {
            "factor": 0.5,
            "patience": int(rng.integers(0, 4)),
            "threshold": float(rng.choice([0.0, 1e-4, 0.05])),
            "threshold_mode": str(rng.choice(["rel", "abs"])),
            "cooldown": int(rng.integers(0, 4)),
            "min_lr": float(rng.choice([0.0, 0.01])),
        }
        metrics = rng.choice([0.5, 0.6, 0.7, 0.9, 1.0], size=40) * np.linspace(1, 0.6, 40)
        mode = str(rng.choice(["min", "max"]))
        yield f"plateau-{i}", {"mode": mode, **options}, metrics.tolist()
    dip = [1.0] * 4 + [0.5] + [0.6] * 9
    yield "plateau-dip", {"factor": 0.5, "patience": 2, "cooldown": 2}, dip
    yield "plateau-defaults", {}, [1.0] * 30


PLATEAUS = {name: (options, metrics) for name, options, metrics in metric_rows()}
# Where fastnn differs on purpose.
NEGATIVE = {"factor": 0.5, "patience": 2}, [-1.0] * 8
NAN_FIRST = {"factor": 0.5, "patience": 1}, [math.nan, 1.0, 0.9, 0.8, 0.7]


def arguments(options):
    return ", ".join(f"{name}={value!r}" for name, value in options.items())


@pytest.fixture(scope="module")
def paddle():
    """Name -> the rates of Paddle's."""
    if importlib.util.find_spec("paddle") is None:
        pytest.skip("PaddlePaddle is not installed (pip install '.[peers]')")
    jobs = {name: (row[0], None) for name, row in ROWS.items() if row[0]}
    plateaus = {**PLATEAUS, "negative": NEGATIVE, "nan-first": NAN_FIRST}
    for name, (options, metrics) in plateaus.items():
        jobs[name] = f"lr.ReduceOnPlateau(0.5, {arguments(options)})", metrics
    jobs["warmup-plateau"] = "lr.LinearWarmup(lr.ReduceOnPlateau(0.5, patience=2), 3, 0.0, 0.5)", None
    script = Path(__file__).with_name("paddle_rates.py")
    done = subprocess.run(
        [sys.executable, script], input=json.dumps(jobs), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row[0]])
def test_agrees_with_paddle(paddle, name):
    ours = ROWS[name][2]
    assert [ours(t) for t in range(30)] == pytest.approx(paddle[name], rel=1e-9, abs=1e-12)


def torch_rates(expression, metrics=None):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install '.[peers]')")
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    rates = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR calls step() in a way that PyTorch itself warns of
        schedule = eval(expression, {"lr": torch.optim.lr_scheduler, "opt": opt})
        for metric in range(29) if metrics is None else metrics:
            rates.append(opt.param_groups[0]["lr"])
            opt.step()
            schedule.step(*([] if metrics is None else [metric]))
    return [*rates, opt.param_groups[0]["lr"]]


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row[1]])
def test_agrees_with_pytorch(name):
    ours = ROWS[name][2]
    assert [ours(t) for t in range(30)] == pytest.approx(torch_rates(ROWS[name][1]), rel=1e-9, abs=1e-12)


# ---- plateau


def rates(options, metrics, semantics):
    schedule = s.ReduceOnPlateau(0.5, semantics=semantics, **options)
    found = [schedule(0)]
    for metric in metrics:
        schedule.update(metric)
        found.append(schedule(0))
    return found


@pytest.mark.parametrize("name", PLATEAUS)
def test_plateau_counts_as_paddle(paddle, name):
    assert rates(*PLATEAUS[name], "paddle") == pytest.approx(paddle[name], rel=1e-9)


@pytest.mark.parametrize("name", PLATEAUS)
def test_plateau_counts_as_pytorch(name):
    options, metrics = PLATEAUS[name]
    theirs = torch_rates(f"lr.ReduceLROnPlateau(opt, {arguments(options)})", metrics)
    assert rates(options, metrics, "torch") == pytest.approx(theirs, rel=1e-9)


def test_where_plateau_differs_from_pytorch_on_purpose():
    options, metrics = NEGATIVE
    assert set(torch_rates(f"lr.ReduceLROnPlateau(opt, {arguments(options)})", metrics)) == {0.5}
    assert rates(*NEGATIVE, "torch")[-1] == 0.125


def test_where_plateau_differs_from_paddle_on_purpose(paddle):
    assert set(paddle["negative"]) == {0.5}
    assert rates(*NEGATIVE, "paddle")[-1] == 0.125
    assert paddle["nan-first"][-1] < 0.5  # although every metric is better than the one before
    assert set(rates(*NAN_FIRST, "paddle")) == {0.5}
    assert paddle["warmup-plateau"][-1] < 0.5  # it was told no metric at all
