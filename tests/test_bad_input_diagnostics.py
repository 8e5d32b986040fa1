"""Bad input to fastnn.diagnostics: the exception, and a text that names argument and cure."""

import fastnn
import numpy as np
import pytest
from fastnn import diagnostics, losses, nn, optim
from runs import assert_equal_tree

nan = float("nan")


def model():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2), seed=0)


def trainer(net=None, loss=None, lr=0.1):
    net = net or model()
    return fastnn.Trainer(net, loss or losses.CrossEntropyLoss(), optim.SGD(net.parameters(), lr))


def x(*shape, dtype=np.float32):
    return np.ones(shape or (32, 3), dtype)


ids = np.zeros(32, int)
activations = nn.Sequential(nn.ReLU(), nn.Tanh())


def with_rows(function, **options):
    """Rows of the functions that take (trainer, X, Y)."""
    call, name = getattr(diagnostics, function), rf"^{function}: "
    yield lambda: call(model(), x(), ids, **options), TypeError, rf"{name}trainer must be a fastnn\.Trainer"
    yield lambda: call(None, x(), ids, **options), TypeError, rf"{name}trainer must be .* got NoneType"
    yield (
        lambda: call(trainer(), [[1.0]], ids, **options),
        TypeError,
        rf"{name}[xX] must be a NumPy array, got",
    )
    if function == "step_report":
        return
    yield lambda: call(trainer(), x(), [0], **options), TypeError, rf"{name}Y must be a NumPy array, got list"
    yield (
        lambda: call(trainer(), x(), ids[:5], **options),
        ValueError,
        rf"{name}Y must have one row for each of the 32 of X, got 5",
    )
    far = np.where(np.arange(32) == 17, 2, 0)
    yield lambda: call(trainer(), x(), far, **options), ValueError, rf"{name}Y\[17\] is 2, must be in 0\.\.1"
    yield (
        lambda: call(trainer(), x(), ids * 0.5, **options),
        TypeError,
        rf"{name}CrossEntropyLoss: target must hold integer class ids",
    )
    masked = np.ma.masked_array(x())
    yield lambda: call(trainer(), masked, ids, **options), TypeError, rf"{name}X is a masked array.*\.filled"
    yield lambda: call(trainer(), np.float32(1), ids, **options), TypeError, rf"{name}X must be a NumPy array"
    yield lambda: call(trainer(), x(0, 3), ids[:0], **options), ValueError, rf"{name}X .*row"
    yield (
        lambda: call(trainer(), x(dtype="U1"), ids, **options),
        TypeError,
        rf"{name}X must hold real numbers",
    )
    yield (
        lambda: call(trainer(), x(32, 7), ids, **options),
        ValueError,
        r"Linear: x must have shape \(\.\.\., 3\)",
    )
    yield lambda: call(trainer(), x(), ids + 9, **options), ValueError, rf"{name}Y\[0\] is 9"


def numbers(function, name, least, **options):
    """Rows of an argument that is a whole number."""
    call = getattr(diagnostics, function)
    for value in (2.5, "8", None, True):
        if function == "suggest_batch_size" and value is None:
            continue
        yield (
            lambda value=value: call(trainer(), x(), ids, **{**options, name: value}),
            TypeError,
            rf"^{function}: {name} must be a whole number",
        )
    for value in (least - 1, -3):
        yield (
            lambda value=value: call(trainer(), x(), ids, **{**options, name: value}),
            ValueError,
            rf"^{function}: {name} must be at least {least}, got {value}",
        )


def rates():
    for name in ("min_lr", "max_lr"):
        for value in ("a", None, True):
            yield (
                lambda name=name, value=value: diagnostics.lr_find(
                    trainer(), x(), ids, batch_size=8, **{name: value}
                ),
                TypeError,
                rf"^lr_find: {name} must be a number",
            )
        for value in (nan, -0.1, float("inf")):
            yield (
                lambda name=name, value=value: diagnostics.lr_find(
                    trainer(), x(), ids, batch_size=8, **{name: value}
                ),
                ValueError,
                rf"^lr_find: {name} must be at least 0 and finite",
            )
    for low, high in ((0.0, 1.0), (1.0, 1.0), (2.0, 1.0)):
        yield (
            lambda low=low, high=high: diagnostics.lr_find(
                trainer(), x(), ids, batch_size=8, min_lr=low, max_lr=high
            ),
            ValueError,
            "^lr_find: min_lr must be above 0 and below max_lr",
        )


def models(function):
    """Rows of the functions that take (model, x)."""
    call = getattr(diagnostics, function)
    yield lambda: call(None, x()), TypeError, rf"^{function}: model must be an nn\.Module, got NoneType"
    yield lambda: call(trainer(), x()), TypeError, rf"^{function}: model must be an nn\.Module, got Trainer"
    yield lambda: call(nn.ReLU, x()), TypeError, rf"^{function}: model must be an nn\.Module, got ABCMeta"
    yield lambda: call(model(), [[1, 2, 3]]), TypeError, rf"^{function}: x must be a NumPy array, got list"
    yield lambda: call(model(), x(dtype=complex)), TypeError, rf"^{function}: x must hold real numbers"
    yield lambda: call(model(), x(3)), ValueError, rf"^{function}: x must have shape .*pass x\[None\]"
    yield lambda: call(model(), x(0, 3)), ValueError, rf"^{function}: x must have .*at least one row"
    yield lambda: call(model(), x(1, 3)), ValueError, "at least two rows"
    yield lambda: call(model(), x(8, 5)), ValueError, "Linear: x must have shape"


def callback(name, whole):
    """Rows of an argument of StepReports."""
    call = diagnostics.StepReports
    kind, high = ("a whole number", "at least 1") if whole else ("a number", r"in \[0, 1\)")
    for value in ("x", True, [3], 1.5 if whole else None):
        yield (
            lambda value=value: call(**{name: value}),
            TypeError,
            rf"^StepReports: {name} must be {kind}, got",
        )
    for value in (-1, 0) if whole else (-0.1, 1.0, nan):
        yield lambda value=value: call(**{name: value}), ValueError, rf"^StepReports: {name} must be {high}"
    if not whole:
        yield lambda: call(share=0), ValueError, "^StepReports: share must be above 0, got 0"


def fit(given):
    return trainer().fit(x(), ids, batch_size=8, epochs=1, callbacks=given)


ROWS = [
    *models("signal_report"),
    *models("check_init"),
    (lambda: diagnostics.check_init(activations), ValueError, "^check_init: the model has no parameters"),
    (
        lambda: diagnostics.check_init(nn.Sequential(Own())),
        ValueError,
        "^check_init: no layer of the model says how wide the inputs are; .*pass a batch",
    ),
    *with_rows("step_report"),
    (lambda: diagnostics.step_report(trainer(), x(3), ids), ValueError, "^step_report: x must have shape"),
    (lambda: diagnostics.step_report(trainer(), x(), ids[:4]), ValueError, "target must hold"),
    (lambda: diagnostics.step_report(trainer(), x(1, 3), ids[:1]), ValueError, "at least two rows"),
    (
        lambda: diagnostics.step_report(trainer(lr=lambda t: -1.0), x(), ids),
        ValueError,
        "lr after 0 updates must be at least 0",
    ),
    *callback("every", whole=True),
    *callback("share", whole=False),
    (
        lambda: fit([diagnostics.StepReports(), diagnostics.StepReports(5)]),
        ValueError,
        "^Trainer.fit: callbacks: StepReports and StepReports would watch the same steps; pass one of them",
    ),
    *with_rows("lr_find", batch_size=8),
    *numbers("lr_find", "batch_size", 1),
    *numbers("lr_find", "steps", 2, batch_size=8),
    *rates(),
    (lambda: diagnostics.lr_find(trainer(), x(), ids), TypeError, "batch_size"),
    (lambda: diagnostics.lr_find(trainer(), x(), ids, batch_size=1), ValueError, "at least two rows"),
    *with_rows("gradient_noise_scale", batch_size=8),
    *numbers("gradient_noise_scale", "batch_size", 1),
    *numbers("gradient_noise_scale", "batches", 2, batch_size=8),
    (
        lambda: diagnostics.gradient_noise_scale(trainer(), x(), ids, batch_size=17),
        ValueError,
        "^gradient_noise_scale: X must have rows for two batches of 17, got 32; pass a smaller batch_size",
    ),
    *with_rows("suggest_batch_size"),
    *numbers("suggest_batch_size", "memory", 1),
    (
        lambda: diagnostics.suggest_batch_size(trainer(), x(15, 3), ids[:15]),
        ValueError,
        "^suggest_batch_size: X must have at least 16 rows, two batches of 8, got 15",
    ),
    (
        lambda: diagnostics.suggest_batch_size(trainer(), x(), ids, memory=100),
        ValueError,
        "^suggest_batch_size: a batch of 8 needs .*, there are 100 B; make the model smaller",
    ),
    *with_rows("profile", batch_size=8),
    *numbers("profile", "batch_size", 1),
    (
        lambda: diagnostics.memory_plan(model(), 8),
        TypeError,
        r"^memory_plan: trainer must be a fastnn\.Trainer",
    ),
    (
        lambda: diagnostics.memory_plan(trainer(), 0),
        ValueError,
        "^memory_plan: batch_size must be at least 1",
    ),
    (lambda: diagnostics.memory_plan(trainer(), 2.0), TypeError, "^memory_plan: batch_size must be a whole"),
    (
        lambda: diagnostics.memory_plan(trainer(nn.Sequential(Own())), 8),
        ValueError,
        "^memory_plan: no layer of the model says how wide the inputs are; begin it with Linear",
    ),
    (
        lambda: diagnostics.feature_report([[1]]),
        TypeError,
        "^feature_report: X must be a NumPy array, got list",
    ),
    (lambda: diagnostics.feature_report(x(3)), ValueError, r"^feature_report: X must be \(rows, columns\)"),
    (lambda: diagnostics.feature_report(x(2, 3, 4)), ValueError, r"got shape \(2, 3, 4\); pass X\.reshape"),
    (lambda: diagnostics.feature_report(x(0, 3)), ValueError, r"one of each at least, got shape \(0, 3\)"),
    (lambda: diagnostics.feature_report(x(2, 0)), ValueError, r"one of each at least, got shape \(2, 0\)"),
    (
        lambda: diagnostics.feature_report(x(dtype="U1")),
        TypeError,
        "^feature_report: X must hold real numbers",
    ),
    (
        lambda: diagnostics.feature_report(x(dtype="c8")),
        TypeError,
        "^feature_report: X must hold real numbers",
    ),
    (
        lambda: diagnostics.feature_report(np.ma.masked_array(x())),
        TypeError,
        r"^feature_report: X is a masked array.*\.filled",
    ),
]


class Own(nn.Module):
    """A layer that does not say how wide its inputs are."""

    def __init__(self):
        self.factor = nn.Parameter(np.ones(1))

    def forward(self, x):
        return x * self.factor.data

    def backward(self, dy, *, accumulate=False, input_grad=True):
        return dy


@pytest.mark.parametrize(
    ("call", "error", "message"), ROWS, ids=[f"{i}-{row[2][:40]}" for i, row in enumerate(ROWS)]
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error


def test_every_public_function_has_rows():
    functions = {name for name in diagnostics.__all__ if name[0].islower()} | {"StepReports"}
    text = " ".join(row[2] for row in ROWS)
    assert all(f"^{name}: " in text for name in functions)


def test_a_refused_call_changes_nothing():
    run = trainer()
    before = {"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict()}
    for name in ("step_report", "lr_find", "gradient_noise_scale", "suggest_batch_size", "profile"):
        options = {"lr_find": {"batch_size": 8}}.get(name, {})
        labels = r"labels\[0\]" if name == "step_report" else rf"^{name}: Y\[0\]"
        with pytest.raises(ValueError, match=f"{labels} is 9"):
            getattr(diagnostics, name)(run, x(64, 3), np.full(64, 9), **options)
    assert_equal_tree({"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict()}, before)
