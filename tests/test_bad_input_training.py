"""Bad input to optimizers and Trainer: the exception, and a text that names argument and cure."""

import fastnn
import numpy as np
import pytest
from fastnn import losses, nn, optim


def x(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def parameter():
    return nn.Parameter(x(2, 3), name="w")


def trainer():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2), seed=0)
    return fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), 0.1))


def fit(X=None, Y=None, **options):
    X, Y = x(6, 3) if X is None else X, np.zeros(6, int) if Y is None else Y
    return trainer().fit(X, Y, **{"batch_size": 4, "epochs": 1, **options})


def make_trainer(**changes):
    model = nn.Linear(3, 2, rng=0)
    given = {
        "model": model,
        "loss": losses.CrossEntropyLoss(),
        "optimizer": optim.SGD(model.parameters(), 0.1),
    }
    return fastnn.Trainer(**{**given, **changes})


def load_adam(**changes):
    optimizer = optim.Adam([parameter()])
    optimizer.load_state_dict({**optimizer.state_dict(), **changes})


ids = np.zeros(4, int)
nan = float("nan")


def error_for(name, value):
    """TypeError for the wrong kind, ValueError for a wrong value of the right one."""
    if name in ("decay", "decay_to", "nonfinite", "like", "style", "eps_mode"):
        return ValueError
    pair = name in ("grad_noise", "betas", "etas", "step_sizes")
    items = value if pair and isinstance(value, tuple) else (value,)
    right = all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in items)
    right = right and pair == isinstance(value, tuple) and (not pair or len(value) in (2, 3))
    right = right and (len(items) < 3 or isinstance(items[2], int))
    return ValueError if right and name not in ("nesterov", "centered", "amsgrad", "colour") else TypeError


def option_rows():
    """Every option of every optimizer, wrong in kind and in value."""
    kinds = [optim.SGD, optim.Momentum, optim.RMSProp, optim.AdaGrad, optim.Adam, optim.AdamW, optim.Rprop]
    common = {
        "weight_decay": (-0.1, nan, float("inf"), "a", None),
        "l1": (-0.1, nan, float("inf"), "a", None),
        "decay": ("some", None, 1),
        "decay_to": ("start", None, 0),
        "clip": (0.0, -1.0, nan, float("inf"), "norm", True, optim.ClipByNorm),
        "nonfinite": ("stop", None, True),
        "grad_noise": (0.1, (0.1,), (-0.1, 1.0), (0.1, nan), (0.1, 0.5, -1), (0.1, 0.5, 0.5), ("a", 1)),
        "like": ("torch", 1),
        "colour": (1,),
    }
    own = {
        optim.Momentum: {
            "momentum": (1.0, -0.1, nan, "a", None),
            "dampening": (-0.1, 1.1, "a"),
            "nesterov": (1, "no"),
            "style": ("heavy", None),
        },
        optim.RMSProp: {
            "rho": (1.0, -0.1),
            "centered": (1, None),
            "momentum": (1.0, -0.1, "a"),
            "eps_mode": ("hat", None),
            "initial_accumulator": (-0.1, nan, "a"),
        },
        optim.AdaGrad: {"eps_mode": ("hat", None), "initial_accumulator": (-0.1, nan, "a")},
        optim.Adam: {"amsgrad": (1, None), "eps_mode": ("root", None), "betas": (("a", 0.9), (1.0, 0.9), 3)},
        optim.Rprop: {
            "etas": ((0.5,), 0.5, (1.0, 1.2), (0.5, 1.0), (0.0, 1.2), ("a", 1.2)),
            "step_sizes": ((1.0, 0.5), (1.0,), (-1.0, 1.0), None, (0.1, nan)),
        },
    }
    for kind in kinds:
        lr = {"lr": 0.1} if kind in (optim.SGD, optim.Momentum) else {}
        for name, values in {**common, **own.get(kind, {})}.items():
            for value in values:

                def call(kind=kind, lr=lr, name=name, value=value):
                    kind([parameter()], **lr, **{name: value})

                yield call, error_for(name, value), rf"^{kind.__name__}: .*{name}"
    for clip, arguments in (
        (optim.ClipByValue, ("max_value",)),
        (optim.ClipByNorm, ("max_norm",)),
        (optim.ClipByGlobalNorm, ("max_norm",)),
        (optim.AdaptiveClip, ("clipping", "eps")),
    ):
        for name in arguments:
            for value in (0.0, -1.0, nan, float("inf"), "a", None, True):

                def call(clip=clip, name=name, value=value):
                    clip(**{name: value})

                yield call, error_for(name, value), rf"^{clip.__name__}: {name}"
    for kind, like in ((optim.RMSProp, "sklearn"), (optim.Rprop, "keras"), (optim.AdamW, "source")):
        yield (
            lambda kind=kind, like=like: kind([parameter()], like=like),
            ValueError,
            rf'{kind.__name__}: like="{like}" names no {kind.__name__}; it is known of .*pytorch',
        )
    yield (
        lambda: optim.Momentum([parameter()], 0.1, nesterov=True, dampening=0.5),
        ValueError,
        "nesterov needs dampening=0, got 0.5",
    )
    yield (
        lambda: optim.SGD([{"params": [parameter()], "clip": 1.0}], 0.1),
        ValueError,
        r"unknown options \['clip'\] in a group",
    )
    yield lambda: optim.SGD([parameter()], 1e39).step(), ValueError, "finite as float32"
    yield lambda: setattr(optim.SGD([parameter()], 0.1), "clip", -1), ValueError, "SGD: clip must be"
    yield lambda: setattr(optim.SGD([parameter()], 0.1), "nonfinite", 1), ValueError, "SGD: nonfinite must be"


OPTION_ROWS = list(option_rows())

ROWS = [
    # ---- optimizers
    (lambda: optim.SGD([], 0.1), ValueError, r"SGD: params is empty; pass model\.parameters\(\)"),
    (lambda: optim.SGD(parameter(), 0.1), TypeError, r"SGD: params must be a list of parameters or groups"),
    (lambda: optim.SGD({"params": [parameter()]}, 0.1), TypeError, r"pass \[\.\.\.\] around it"),
    (
        lambda: optim.SGD([x(3)], 0.1),
        TypeError,
        r"SGD: params\[0\] must be an nn\.Parameter, got ndarray; .*fastnn\.ops",
    ),
    (
        lambda: optim.SGD([parameter(), None], 0.1),
        TypeError,
        r"params\[1\] must be an nn\.Parameter, got NoneType",
    ),
    (lambda: optim.SGD([parameter()] * 2, 0.1), ValueError, r"a parameter occurs twice"),
    (lambda: optim.SGD([{"lr": 0.1}], 0.1), TypeError, r"SGD: a group must be a dict with 'params'"),
    (
        lambda: optim.SGD([{"params": [parameter()], "beta": 1}], 0.1),
        ValueError,
        r"unknown options \['beta'\] .*'lr'",
    ),
    (
        lambda: optim.SGD([{"params": [parameter()], "lr": -1}], 0.1),
        ValueError,
        r"SGD: lr must be at least 0",
    ),
    (lambda: optim.SGD([parameter()], -0.1), ValueError, r"SGD: lr must be at least 0 and finite, got -0\.1"),
    (lambda: optim.SGD([parameter()], nan), ValueError, r"SGD: lr must be at least 0"),
    (lambda: optim.SGD([parameter()], float("inf")), ValueError, r"SGD: lr must be at least 0 and finite"),
    (lambda: optim.SGD([parameter()], "fast"), TypeError, r"SGD: lr must be a number, got 'fast'"),
    (lambda: optim.SGD([parameter()], None), TypeError, r"SGD: lr must be a number"),
    (lambda: optim.SGD([parameter()]), TypeError, r"lr"),
    (lambda: setattr(optim.Adam([parameter()]), "lr", -1), ValueError, r"Adam: lr must be at least 0"),
    (
        lambda: optim.SGD([parameter()], lambda t: nan).step(),
        ValueError,
        r"SGD: lr after 0 updates must be at least 0",
    ),
    (
        lambda: optim.SGD([parameter()], lambda t: "a").step(),
        TypeError,
        r"SGD: lr after 0 updates must be a number",
    ),
    (
        lambda: optim.Momentum([parameter()], 0.1, momentum=1.0),
        ValueError,
        r"momentum must be in \[0, 1\), got 1\.0",
    ),
    (lambda: optim.Momentum([parameter()], 0.1, momentum=-0.1), ValueError, r"Momentum: momentum must be in"),
    (
        lambda: optim.Momentum([parameter()], 0.1, nesterov="no"),
        TypeError,
        r"Momentum: nesterov must be True or False",
    ),
    (
        lambda: optim.Momentum([parameter()], 0.1, style="heavy"),
        ValueError,
        r'style must be "buffer" or "velocity"',
    ),
    (lambda: optim.RMSProp([parameter()], rho=1), ValueError, r"RMSProp: rho must be in \[0, 1\)"),
    (lambda: optim.RMSProp([parameter()], eps=-1), ValueError, r"RMSProp: eps must be at least 0"),
    (
        lambda: optim.Adam([parameter()], betas=(0.9, 1.0)),
        ValueError,
        r"Adam: betas\[1\] must be in \[0, 1\), got 1\.0",
    ),
    (lambda: optim.Adam([parameter()], betas=0.9), TypeError, r"Adam: betas must be two numbers"),
    (lambda: optim.Adam([parameter()], betas=(0.9,)), TypeError, r"Adam: betas must be two numbers"),
    (lambda: optim.Adam([parameter()], eps=nan), ValueError, r"Adam: eps must be at least 0"),
    (
        lambda: optim.Adam([parameter()], weight_decay=-1),
        ValueError,
        r"Adam: weight_decay must be at least 0",
    ),
    (
        lambda: optim.Adam([parameter()], decay="biases"),
        ValueError,
        r"""decay must be "weights" or "all", got""",
    ),
    (
        lambda: optim.AdamW([parameter()], weight_decay=nan),
        ValueError,
        r"AdamW: weight_decay must be at least 0",
    ),
    (lambda: optim.AdamW([parameter()], betas=(2, 0)), ValueError, r"AdamW: betas\[0\] must be in"),
    (lambda: optim.AdaGrad([parameter()], eps=-1), ValueError, r"AdaGrad: eps must be at least 0"),
    (lambda: optim.AdaGrad([parameter()], lr="0.1"), TypeError, r"AdaGrad: lr must be a number, got '0\.1'"),
    (
        lambda: optim.Adam([parameter()]).load_state_dict([]),
        TypeError,
        r"Adam\.load_state_dict: expected a dict",
    ),
    (
        lambda: optim.Adam([parameter()]).load_state_dict({}),
        ValueError,
        r"missing 'step_count', 'skipped_steps', 'param_groups', 'state'",
    ),
    (
        lambda: optim.SGD(nn.Linear(3, 2), 0.1),
        TypeError,
        r"SGD: params must be a list .*, got Linear; pass model\.parameters\(\)",
    ),
    (lambda: optim.SGD(None, 0.1), TypeError, r"SGD: params must be a list .*, got NoneType; pass model"),
    (
        lambda: optim.SGD([{"params": parameter()}], 0.1),
        TypeError,
        r"SGD: params of a group must be a list .*, got Parameter; pass \[\.\.\.\] around it",
    ),
    (lambda: optim.SGD([parameter()], 0.1, like=["keras"]), ValueError, "SGD: like must be None or one of"),
    *(
        (
            lambda key=key, value=value: load_adam(**{key: value}),
            ValueError,
            rf"Adam\.load_state_dict: .*{message}",
        )
        for key, value, message in (
            ("param_groups", None, "param_groups must be a list of dicts, got None"),
            ("param_groups", [1], r"param_groups must be a list of dicts, got \[1\]"),
            ("state", None, "state must be a dict of dicts, got None"),
            ("state", {0: None}, r"state must be a dict of dicts, got \{0: None\}"),
        )
    ),
    *OPTION_ROWS,
    # ---- Trainer
    (
        lambda: make_trainer(model=[nn.Linear(3, 2)]),
        TypeError,
        r"Trainer: model must be an nn\.Module, got list",
    ),
    (lambda: make_trainer(loss=losses.CrossEntropyLoss), TypeError, r"Trainer: loss must be a loss such as"),
    (lambda: make_trainer(loss="ce"), TypeError, r"Trainer: loss must be a loss such as .*, got 'ce'"),
    (
        lambda: make_trainer(optimizer="adam"),
        TypeError,
        r"Trainer: optimizer must be one of fastnn\.optim, got str",
    ),
    (
        lambda: make_trainer(optimizer=optim.SGD([parameter()], 0.1)),
        ValueError,
        r"holds no parameter of the model",
    ),
    (
        lambda: make_trainer(device="cuda"),
        fastnn.CudaError,
        r"""Trainer: device "cuda" cannot be used: \w+.*; stay on "cpu\"""",
    ),
    *((lambda d=d: make_trainer(device=d), ValueError, rf'must be "cpu" .*, got {d!r}') for d in ("gpu", 0)),
    (
        lambda: make_trainer(precision="tf32"),
        ValueError,
        r"""Trainer: precision "tf32" exists on CUDA""",
    ),
    (
        lambda: make_trainer(precision="float16"),
        ValueError,
        r"""precision must be "float32" or "bfloat16", got 'float16'""",
    ),
    (lambda: make_trainer(precision=None), ValueError, r"""precision must be "float32" .*, got None"""),
    (
        lambda: make_trainer(precision=np.float32),
        ValueError,
        r"""precision must be "float32" .*, got <class""",
    ),
    (
        lambda: setattr(make_trainer(), "precision", 16),
        ValueError,
        r"""Trainer: precision must be "float32" or "bfloat16", got 16""",
    ),
    (lambda: make_trainer(seed=-1), ValueError, r"Trainer: seed must be at least 0"),
    (lambda: make_trainer(seed=0.5), TypeError, r"Trainer: seed must be a whole number"),
    (
        lambda: make_trainer(metrics=[len]),
        TypeError,
        r"Trainer: metrics must be a dict of name -> f\(pred, tar",
    ),
    (
        lambda: make_trainer(metrics={"a": 1}),
        TypeError,
        r"metrics must be name -> f\(pred, target\), got 'a'",
    ),
    (lambda: make_trainer(metrics={1: len}), TypeError, r"metrics must be name -> f\(pred, target\), got 1"),
    (lambda: make_trainer(metrics={"loss": max}), ValueError, r"metrics: the name 'loss' is taken"),
    (lambda: make_trainer(metrics={"val_x": max}), ValueError, r"metrics: the name 'val_x' is taken"),
    (
        lambda: trainer().step([[1, 2, 3]], ids),
        TypeError,
        r"Trainer\.step: x must be a NumPy array, got list",
    ),
    (lambda: trainer().step(x(4, 2), ids), ValueError, r"Linear: x must have shape \(\.\.\., 3\)"),
    (lambda: trainer().step(x(1, 3), ids[:1]), ValueError, "at least two rows in training, for batch-norm"),
    (lambda: trainer().step(x(5, 3), ids), ValueError, r"class ids of shape \(5,\)"),
    (lambda: fit(X=[[1, 2, 3]] * 6), TypeError, r"Trainer\.fit: X must be a NumPy array, got list"),
    (lambda: fit(Y=[0] * 6), TypeError, r"Trainer\.fit: Y must be a NumPy array, got list"),
    (lambda: fit(X=x(6, 3, dtype=complex)), TypeError, r"Trainer\.fit: X must hold real numbers"),
    (lambda: fit(Y=ids), ValueError, r"Trainer\.fit: Y must have one row for each of the 6 of X, got 4"),
    (lambda: fit(X=x(0, 3), Y=ids[:0]), ValueError, r"Trainer\.fit: X has no rows"),
    (
        lambda: fit(X=x()),
        ValueError,
        r"Trainer\.fit: X must have rows, got a single value",
    ),
    (lambda: fit(batch_size=0), ValueError, r"Trainer\.fit: batch_size must be at least 1"),
    (lambda: fit(batch_size=2.0), TypeError, r"Trainer\.fit: batch_size must be a whole number"),
    (lambda: fit(batch_size=7, drop_last=True), ValueError, r"Trainer\.fit: drop_last leaves no batch"),
    (lambda: fit(epochs=0), ValueError, r"Trainer\.fit: epochs must be at least 1"),
    (lambda: fit(epochs=1.5), TypeError, r"Trainer\.fit: epochs must be a whole number"),
    (lambda: fit(sample_weight=x(5)), ValueError, r"sample_weight must have one row for each of the 6"),
    (lambda: fit(sample_weight=[1.0] * 6), TypeError, r"Trainer\.fit: sample_weight must be a NumPy array"),
    (lambda: fit(validation=x(4, 3)), TypeError, r"Trainer\.fit: validation must be a pair \(X, Y\)"),
    (lambda: fit(validation=(x(4, 3),)), TypeError, r"Trainer\.fit: validation must be a pair"),
    (
        lambda: fit(validation=(x(4, 3), ids[:3])),
        ValueError,
        r"Trainer\.fit: validation: Y must have one row",
    ),
    (lambda: trainer().evaluate(x(4, 3), ids[:3]), ValueError, r"Trainer\.evaluate: Y must have one row"),
    (
        lambda: trainer().evaluate(x(4, 3), ids, sample_weight=x(3)),
        ValueError,
        r"sample_weight must have one row",
    ),
    (lambda: trainer().evaluate(x(4, 3), ids, batch_size=0), ValueError, r"batch_size must be at least 1"),
    (
        lambda: trainer().predict([[1, 2, 3]]),
        TypeError,
        r"Trainer\.predict: X must be a NumPy array, got list",
    ),
    (lambda: trainer().predict(None), TypeError, r"Trainer\.predict: X must be a NumPy array, got NoneType"),
    (lambda: trainer().predict(x()), ValueError, r"Trainer\.predict: X must have rows"),
    (
        lambda: trainer().predict(x(4, 3), batch_size=-1),
        ValueError,
        r"Trainer\.predict: batch_size must be at least",
    ),
    (lambda: trainer().predict_proba(x(4, 2)), ValueError, r"Linear: x must have shape"),
    (
        lambda: trainer().predict_class(x(4, 3), batch_size="all"),
        TypeError,
        r"batch_size must be a whole number",
    ),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), ROWS, ids=[f"{i}-{row[2][:40]}" for i, row in enumerate(ROWS)]
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error


def test_a_refused_fit_trains_nothing():
    run = trainer()
    before = run.model.state_dict()
    for options in ({"epochs": 0}, {"batch_size": 0}, {"validation": 3}, {"sample_weight": x(5)}):
        with pytest.raises((TypeError, ValueError)):
            run.fit(x(6, 3), np.zeros(6, int), **{"batch_size": 4, "epochs": 1, **options})
    for name, array in run.model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    assert run.optimizer.step_count == 0
