"""Training on the device, run by the shim: drawn networks, losses and optimizers give the CPU's bits."""

import contextlib
import copy
import sys

import fake_cupy
import fastnn
import numpy as np
import pytest
from custom import Square
from fastnn import losses, nn, optim
from networks import assert_same_course
from small import labelled_rows

pytestmark = [
    pytest.mark.usefixtures("device"),
    pytest.mark.filterwarnings("ignore:Rprop follows"),
]
# How batch-norm averages.
NORMS = [{"debias": True}, {"running_var": "biased"}, {"debias": True, "running_var": "biased"}]


def small(device="cpu", optimizer=optim.Adam, loss=None, norm=None, **options):
    hidden = nn.Linear(6, 9, bias=False), nn.BatchNorm1d(9, **(norm or {})), nn.ReLU(), nn.Dropout(0.3)
    model = nn.Sequential(*hidden, nn.Linear(9, 3), seed=3)
    made = optimizer(model.parameters(), **options)
    return fastnn.Trainer(model, loss or losses.CrossEntropyLoss(), made, device=device)


@pytest.fixture
def rows():
    return labelled_rows()


@pytest.mark.parametrize("kind", [nn.ReLU, nn.Tanh, nn.GELU, nn.LeakyReLU])
@pytest.mark.parametrize("residual", [False, True])
def test_slopes_behind_products(rows, kind, residual):
    """The gradient of an input takes the slope of the activation in front of it with it; not where a
    shortcut reads it too."""
    X, Y = rows

    def run(device):
        block = nn.Sequential(nn.Linear(6, 6), kind())
        hidden = nn.Residual(block) if residual else block
        model = nn.Sequential(nn.Linear(6, 6), hidden, nn.Linear(6, 5), kind(), nn.Linear(5, 3), seed=1)
        return fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()), device=device)

    one, other = run("cpu"), run("cuda")
    for _ in range(2):
        one.step(X, Y)
        other.step(X, Y)
    assert_same_course(other, one)


def test_arrays_move_and_come_back(rows):
    trained = small()
    trained.step(*rows)
    device = copy.deepcopy(trained)
    device.model.to("cuda")
    parameter = device.model.parameters()[0]
    assert isinstance(parameter.data, fake_cupy.ndarray)
    assert isinstance(parameter.grad, fake_cupy.ndarray)
    parameter.data = np.asarray(parameter.data.get())  # assignment copies from the host
    assert all(isinstance(array, np.ndarray) for array in device.model.state_dict().values())
    device.model.load_state_dict(trained.model.state_dict())
    for _ in range(2):
        assert device.step(*rows) == trained.step(*rows)
    assert_same_course(device, trained)
    device.model.to("cpu")
    assert type(parameter.data) is np.ndarray
    assert device.step(*rows) == trained.step(*rows)
    assert_same_course(device, trained)


def test_a_trainer_is_where_its_model_is(rows):
    """It moves a model to the device, and neither takes one back nor trains it on the other one."""
    there, host = small(), small()
    model = there.model.to("cuda")
    assert there.device == "cuda"
    with pytest.raises(ValueError, match='the model is on the GPU, and device is "cpu"; pass device="cuda"'):
        fastnn.Trainer(model, there.loss, there.optimizer)
    found = fastnn.Trainer(model, there.loss, there.optimizer, device="cuda")
    assert found.step(*rows) == host.step(*rows)
    assert isinstance(model[0].weight.data, fake_cupy.ndarray)
    model.to("cpu")
    back = fastnn.Trainer(model, there.loss, there.optimizer)
    assert back.device == found.device == there.device == "cpu"
    assert type(back.step(*rows)) is float
    host.step(*rows)
    assert_same_course(back, host)


def test_a_trainer_that_is_refused_moves_nothing():
    model = nn.Sequential(nn.Linear(6, 3), seed=0)
    parts = model, losses.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match='precision "tf32" exists on CUDA only'):
        fastnn.Trainer(*parts, precision="tf32")
    with pytest.raises(ValueError, match="seed must be at least 0"):
        fastnn.Trainer(*parts, seed=-1, device="cuda")
    assert fastnn.Trainer(*parts).device == "cpu"
    assert fastnn.Trainer(*parts, precision="tf32", device="cuda").device == "cuda"


def test_files_hold_what_the_cpu_would_save(rows, tmp_path):
    one, other = small(), small("cuda")
    for run, name in ((one, "cpu"), (other, "cuda")):
        run.step(*rows)
        fastnn.save(tmp_path / f"{name}.safetensors", run.model)
        run.save(tmp_path / f"{name}-run.safetensors")
    assert (tmp_path / "cpu.safetensors").read_bytes() == (tmp_path / "cuda.safetensors").read_bytes()
    again = small("cuda", lr=0.5)
    again.load(tmp_path / "cpu-run.safetensors")
    assert again.step(*rows) == one.step(*rows)
    assert_same_course(again, one)


def test_a_copy_stays_on_the_device(rows):
    one = small("cuda")
    one.step(*rows)
    other = copy.deepcopy(one)
    assert other.step(*rows) == one.step(*rows)
    assert isinstance(other.model.parameters()[0].data, fake_cupy.ndarray)


def test_new_arrays_and_rates_need_no_new_graph(rows):
    """A graph for each of the last four batch sizes and kinds; what changes is in the steps' records."""
    X, Y = rows
    run = small("cuda", lr=lambda t: 0.1 / (1 + t))
    for i in range(3):
        run.step(X[i : i + 9].copy(), Y[i : i + 9].copy())
        run.step(X[i : i + 9].astype(np.float64), Y[i : i + 9].astype(np.uint8))
    native = run._kept_steps._program.native
    assert native.graphs_made() == 1
    for size in (2, 3, 4, 5, 2, 3, 4, 5):  # 9 is dropped
        run.step(X[:size], Y[:size])
    assert native.graphs_made() == 5 or native.graphs_made() == 1 + 4 + 3  # a larger arena drops all
    made = native.graphs_made()
    run.step(X[:9], Y[:9])
    assert native.graphs_made() == made + 1
    run.step(X[:9], Y[:9], np.ones(9))
    assert native.graphs_made() == made + 2


@pytest.mark.parametrize("where", ["label", "weight", "no weight"])
def test_a_bad_batch_changes_nothing_and_raises(rows, where):
    """In the middle of an epoch that is queued: the steps before it count, those behind it do nothing."""
    X, Y = rows[0], rows[1].copy()
    weight = np.ones(len(X), np.float32)
    if where == "label":
        Y[30] = 3
    else:
        weight[24:32] = -1.0 if where == "weight" else 0.0
    trainers = [small(), small("cuda")]
    said = []
    for run in trainers:
        with pytest.raises(ValueError) as caught:
            run.fit(X, Y, batch_size=8, epochs=1, shuffle=False, sample_weight=weight)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert trainers[1].optimizer.step_count == 3
    assert_same_course(trainers[1], trainers[0])


@pytest.mark.parametrize("norm", [None, NORMS[-1]], ids=["", "debiased"])
@pytest.mark.parametrize("nonfinite", ["raise", "skip", "ignore"])
def test_gradients_that_are_not_finite(rows, nonfinite, norm):
    X, Y = rows[0].copy(), rows[1]
    X[27, 2] = np.inf
    trainers = [small(device, nonfinite=nonfinite, norm=norm) for device in ("cpu", "cuda")]
    for run in trainers:
        try:
            run.fit(X, Y, batch_size=8, epochs=1, shuffle=False)
        except optim.NonFiniteGradientError as error:
            run.error = str(error)
    assert getattr(trainers[0], "error", "") == getattr(trainers[1], "error", "")
    assert ("error" in vars(trainers[0])) == (nonfinite == "raise")
    assert_same_course(trainers[1], trainers[0])


@pytest.mark.parametrize("norm", NORMS)
def test_batches_count_as_on_the_cpu(rows, norm):
    """Also those of other sizes, after a fit that a bad label ends, and on from a state that was loaded."""
    X, Y = rows
    bad = Y.copy()
    bad[21] = 3
    one, other = (small(device, norm={"momentum": 0.05, **norm}) for device in ("cpu", "cuda"))
    counts = []
    for run in (one, other):
        for end in (9, 31, 2):
            run.step(X[:end], Y[:end])
        for labels in (bad, Y):
            with contextlib.suppress(ValueError):
                run.fit(X, labels, batch_size=8, epochs=1, shuffle=False)
            counts.append(float(np.max(run.model.state_dict().get("1.updates", 0))))
        with pytest.raises(ValueError, match=r"Trainer\.step: y\[5\] is 3"):
            float(run.step(X[16:24], bad[16:24]))
    assert_same_course(other, one)
    steps = [3 + 2, 3 + -(-len(X) // 8)] if norm.get("debias") else [0, 0]
    assert counts == [*steps, *steps]
    assert other.evaluate(X, Y) == pytest.approx(one.evaluate(X, Y), rel=1e-6)
    assert np.array_equal(other.predict(X), one.predict(X))
    state = {name: np.zeros_like(array) for name, array in one.model.state_dict().items()}
    for run in (one, other):
        run.model.load_state_dict(state)
        run.step(X, Y)
    assert_same_course(other, one)


def test_evaluation_and_prediction(rows):
    X, Y = rows
    one, other = small(), small("cuda")
    weight = np.linspace(0, 1, len(X)).astype(np.float32)
    for run in (one, other):
        run.fit(X, Y, batch_size=20, epochs=1)
    want = one.evaluate(X, Y, sample_weight=weight)
    got = other.evaluate(X, Y, sample_weight=weight, batch_size=16)
    assert got == pytest.approx(want, rel=1e-6)
    assert np.array_equal(other.predict(X, batch_size=7), one.predict(X))
    assert np.array_equal(other.predict_class(X), one.predict_class(X))
    assert other.predict(X[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    "loss", [losses.CrossEntropyLoss(ignore_index=1), losses.MSELoss()], ids=["", "values"]
)
def test_a_batch_of_no_weight_adds_nothing_to_an_evaluation(rows, loss):
    X, Y = rows
    if isinstance(loss, losses.MSELoss):
        Y = np.eye(3, dtype=np.float32)[Y]
    else:
        Y = Y.copy()
        Y[32:48] = 1  # ignored
    weight = np.linspace(1, 2, len(X)).astype(np.float32)
    weight[16:32] = 0
    results, nothing = [], np.zeros(len(X), np.float32)
    for device in ("cpu", "cuda"):
        model = nn.Sequential(nn.Linear(6, 3), seed=0)
        run = fastnn.Trainer(model, loss, optim.SGD(model.parameters(), lr=0.1), device=device)
        results.append(run.evaluate(X, Y, sample_weight=weight, batch_size=16))
        with pytest.raises(ValueError, match="must not be all zero"):
            run.evaluate(X, Y, sample_weight=nothing, batch_size=16)
    assert results[1] == pytest.approx(results[0], rel=1e-6)


def test_own_metrics_see_the_predictions(rows):
    metrics = {"largest": lambda pred, target: float(np.max(pred))}
    histories = []
    for device in ("cpu", "cuda"):
        model = nn.Sequential(nn.Linear(6, 3), seed=0)
        made = optim.SGD(model.parameters(), lr=0.1)
        run = fastnn.Trainer(model, losses.CrossEntropyLoss(), made, device=device, metrics=metrics)
        histories.append(run.fit(*rows, batch_size=16, epochs=2))
    assert histories[0]["largest"] == histories[1]["largest"]


# ---- refused by name, never run on the CPU instead


def test_what_the_device_does_not_have_is_refused(rows):
    model = nn.Sequential(nn.Linear(6, 3), Square())
    made = optim.SGD(model.parameters(), lr=0.1)
    run = fastnn.Trainer(model, losses.CrossEntropyLoss(), made, device="cuda")
    with pytest.raises(TypeError, match="Square is a layer of your own"):
        run.step(*rows)


def test_without_cupy(rows, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(fastnn.CudaError, match=r'needs CuPy.*pip install "fastnn-kernels\[cuda\]"'):
        small("cuda")


def test_half_a_model_on_the_device_is_refused(rows):
    run = small()
    run.model[0].to("cuda")
    with pytest.raises(fastnn.CudaError, match="part of the model is on the CPU"):
        run.step(*rows)
