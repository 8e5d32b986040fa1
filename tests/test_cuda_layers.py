"""Layers, losses and optimizers called one by one on CuPy's arrays: a plain loop with the bits of the host's.

Without a GPU the kernels are the shim's and the arrays a stand-in. Where there is one, CuPy is tested too;
`pytest --noconftest -k "not stand-in" tests/test_cuda_layers.py` needs nothing but that.
"""

import warnings
from functools import partial

import cuda_checks
import fake_torch
import fastnn
import numpy as np
import pytest
from bounds import assert_bits
from custom import Scale, Square
from device_places import REAL, STAND_INS, missing, place
from fastnn import losses, nn, optim, preprocessing
from fastnn._precision import products_in
from networks import DEVICE_FITS, DEVICE_STEPS, assert_same_course, seeded
from small import labelled_rows

pytestmark = pytest.mark.filterwarnings("ignore:Rprop follows")
CUPY, STAND_IN = REAL[0], STAND_INS[0]


@pytest.fixture(params=[STAND_IN, CUPY])
def where(request):
    if request.param == CUPY:
        reason = missing(CUPY)
        if reason is not None:
            pytest.skip(reason)
        yield place(CUPY)
        return
    kernels = request.getfixturevalue("device")
    yield place(STAND_IN)
    assert kernels.library.shim_borrowed() == 0


@pytest.fixture(params=[STAND_IN])
def stand_in(request):
    """For what the stand-in alone can show."""
    kernels = request.getfixturevalue("device")
    yield place(request.param)
    assert kernels.library.shim_borrowed() == 0


@pytest.fixture
def rows():
    X, Y = labelled_rows()
    return X[:12], Y[:12]


def step(run, x, y, weight=None, **given):
    """A step of a plain loop, and what it gave."""
    pred = run.model(x)
    value, dpred = run.loss(pred, y, weight)
    dx = run.model.backward(dpred, **given)
    run.optimizer.step()
    return {"loss": value, "pred": pred, "dpred": dpred, "dx": dx}


def assert_same_step(where, got, want, what):
    assert type(got["loss"]) is float
    assert got["loss"] == want["loss"] or np.isnan([got["loss"], want["loss"]]).all(), what
    for name in ("pred", "dpred", "dx"):
        assert (got[name] is None) == (want[name] is None), (what, name)
        if want[name] is not None:
            assert isinstance(got[name], where.kind), (what, name)
            assert_bits(where.get(got[name]), want[name], f"{what}: {name}")


def assert_same_gradients(where, got, want, what):
    for one, other in zip(got.model.parameters(), want.model.parameters(), strict=True):
        assert isinstance(one.grad, where.kind)
        assert_bits(where.get(one.grad), other.grad, f"{what}: the gradient of {other.name}")


def pair(problem):
    """The same problem on the host and on the device."""
    host, device = problem.plain(), problem.plain()
    device.model.to("cuda")
    return host, device


def native(array):
    """As CuPy holds it."""
    return None if array is None else np.array(array, array.dtype.newbyteorder("="), order="C")


@pytest.mark.parametrize("seed", sorted({*DEVICE_STEPS, *DEVICE_FITS}))
def test_a_plain_loop_has_the_hosts_bits(where, seed):
    """Predictions, losses and gradients of each step and what they leave: every layer, loss, rule, clip."""
    problem = seeded(seed)
    host, device = pair(problem)
    batches = [batch for epoch in range(3) for batch in problem.batches(epoch)][:3]
    for count, batch in enumerate(batches):
        given = {"input_grad": count % 2 == 0, "accumulate": count == 2}
        want = step(host, *batch, **given)
        got = step(device, *where.all(tuple(map(native, batch))), **given)
        what = f"step {count}"
        assert_same_step(where, got, want, what)
        assert_same_gradients(where, device, host, what)
        assert_same_course(device, host, what)
    x = batches[0][0]
    for run in (host, device):
        run.model.eval()
    assert_bits(where.get(device.model(where.put(native(x)))), host.model(x), "evaluation")
    assert_same_course(device, host, "evaluation")


class Run:
    """What a plain loop needs."""

    def __init__(self, *layers, loss=None, optimizer=optim.Adam, device="cpu", **options):
        self.model = nn.Sequential(*layers, seed=1)
        self.model.to(device)
        self.loss = losses.CrossEntropyLoss() if loss is None else loss
        self.optimizer = optimizer(self.model.parameters(), **options)


def both(make):
    return make("cpu"), make("cuda")


def own_loss(pred, target, weight=None):
    """The sum of the cubes' thirds; its gradient is made by the array's own library."""
    gap = pred - target
    return 0.5, gap * gap


def test_layers_and_a_loss_of_ones_own(where, rows):
    """Whatever they are made of: the gradient that they hand over is one more array."""
    target = cuda_checks.draw(12, 4)
    host, device = both(
        lambda at: Run(nn.Linear(6, 4), Square(), nn.Residual(nn.Linear(4, 4)), loss=own_loss, device=at)
    )
    for count in range(3):
        want = step(host, rows[0], target, input_grad=False)
        got = step(device, where.put(rows[0]), where.put(target), input_grad=False)
        assert_same_step(where, got, want, count)
        assert_same_course(device, host)


def test_a_layer_of_ones_own_with_a_parameter(stand_in, rows, monkeypatch):
    """Its gradient is assigned on the device; a sum of CuPy's may have another order, hence the stand-in."""
    host, device = both(lambda at: Run(Scale(6), nn.Linear(6, 3), optimizer=optim.SGD, lr=0.1, device=at))
    x, y = stand_in.all(rows)
    with monkeypatch.context() as refusing:
        refusing.setattr(stand_in.kind, "get", None)
        step(device, x, y)
        step(device, x, y, accumulate=True)
    step(host, *rows)
    step(host, *rows, accumulate=True)
    assert_same_course(device, host)


@pytest.mark.parametrize("dtype", ["f8", "f2", "u1", "i8", "?"])
def test_other_numbers_are_converted_as_on_the_host(where, rows, dtype):
    """x, targets, weights and a gradient of one's own."""
    X = np.abs(10 * rows[0]).astype(dtype)
    weight = np.arange(1, 13).astype(dtype)

    def make(at):
        return Run(nn.BatchNorm1d(6), nn.Linear(6, 6), loss=losses.MSELoss(), device=at)

    host, device = both(make)
    want, got = step(host, X, X, weight), step(device, *where.all((X, X, weight)))
    assert_same_step(where, got, want, dtype)
    want, got = host.model.backward(X), device.model.backward(where.put(X))
    assert_bits(where.get(got), want, "dx")
    assert_same_gradients(where, device, host, dtype)


def test_more_axes(where):
    x, dy = cuda_checks.draw(5, 3, 4), cuda_checks.draw(5, 18, seed=1)
    scaler = preprocessing.MinMaxScaler().fit(x.reshape(15, 4))

    def make(at):
        inner = nn.Linear(4, 6), nn.GELU(), nn.BatchNorm1d(6), nn.ELU(0.3)
        return Run(nn.Standardize(scaler), *inner, nn.Flatten(), device=at)

    host, device = both(make)
    assert_bits(where.get(device.model(where.put(x))), host.model(x), "y")
    assert_bits(where.get(device.model.backward(where.put(dy))), host.model.backward(dy), "dx")
    assert_same_gradients(where, device, host, "backward")
    assert_same_course(device, host)


@pytest.mark.parametrize("nonfinite", ["raise", "skip", "ignore"])
def test_gradients_that_are_not_finite(where, rows, nonfinite):
    """The step after them goes on as on the host; the error names number and place."""
    bad = rows[0].copy()
    bad[3, 2] = np.inf
    runs = both(lambda at: Run(nn.Linear(6, 3), nonfinite=nonfinite, clip=0.5, device=at))
    said = []
    for run, (x, y), wrong in zip(runs, (rows, where.all(rows)), (bad, where.put(bad)), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            step(run, x, y)
            try:
                step(run, wrong, y)
            except optim.NonFiniteGradientError as error:
                said.append((str(error), error.parameter, error.index))
            step(run, x, y)
    assert len(said) == (2 if nonfinite == "raise" else 0)
    assert len(set(said)) < 2
    assert runs[1].optimizer.skipped_steps == runs[0].optimizer.skipped_steps == (nonfinite != "ignore")
    assert_same_course(*runs)


def test_an_optimizer_made_before_the_move_takes_its_slots_along(where, rows):
    host, device = both(lambda at: Run(nn.Linear(6, 3), decay_to="init", weight_decay=0.1, amsgrad=True))
    for run in (host, device):
        step(run, *rows)
    device.model.to("cuda")
    step(device, *where.all(rows))
    step(host, *rows)
    assert_same_course(device, host)
    device.model.to("cpu")
    for run in (host, device):
        step(run, *rows)
    assert_same_course(device, host)


def test_nothing_but_losses_and_verdicts_is_copied_to_the_host(stand_in, rows, monkeypatch):
    layers = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3, rng=0), nn.Linear(8, 3)
    x, y = stand_in.all(rows)
    big = stand_in.put(np.tile(rows[0], (50, 1))), stand_in.put(np.tile(rows[1], 50))
    for clip, nonfinite in ((None, "raise"), (0.1, "ignore")):
        run = Run(*layers, device="cuda", clip=clip, nonfinite=nonfinite)
        step(run, x, y)
        moved = []
        with monkeypatch.context() as refusing:
            refusing.setattr(stand_in.kind, "get", None)
            for batch in ((x, y), big):
                before, _ = fastnn.cuda.transfer_bytes()
                step(run, *batch)
                moved.append(fastnn.cuda.transfer_bytes()[0] - before)
        assert moved[0] == moved[1] < 200


# ---- refused


def said(call, *arguments, error=TypeError):
    with pytest.raises(error) as raised:
        call(*arguments)
    return str(raised.value)


LAYERS = {
    "Linear": lambda: nn.Linear(6, 6, rng=0),
    "BatchNorm1d": lambda: nn.BatchNorm1d(6),
    "Standardize": lambda: nn.Standardize(6),
}


@pytest.mark.parametrize("name", LAYERS)
def test_arrays_of_the_other_place(where, rows, name):
    host, device = rows[0], where.put(rows[0])
    layer = LAYERS[name]()
    assert said(layer, device) == (
        f'{name}: x lies on a CUDA device and the model on the CPU; call model.to("cuda")'
    )
    layer(host)
    assert said(layer.backward, device).startswith(f"{name}.backward: dy lies on a CUDA device and")
    layer.to("cuda")
    cure = 'in host memory and the model on a CUDA device; pass cupy.asarray(...), or call model.to("cpu")'
    assert said(layer, host) == f"{name}: x lies {cure}"
    assert said(layer, host.tolist()) == f"{name}: x lies {cure}"
    layer(device)
    assert said(layer.backward, host) == f"{name}.backward: dy lies {cure}"


def test_a_gradient_of_the_other_place_for_an_activation(where, rows):
    layer = nn.Tanh()
    layer(where.put(rows[0]))
    assert "Tanh.backward: dy lies in host memory" in said(lambda: layer.backward(rows[0]))
    layer(rows[0])
    assert "Tanh.backward: dy lies on a CUDA device" in said(lambda: layer.backward(where.put(rows[0])))


def test_losses_of_two_places(where, rows):
    pred, ids, weight = cuda_checks.draw(12, 3), rows[1], np.ones(12, np.float32)
    for loss, target in ((losses.CrossEntropyLoss(), ids), (losses.HuberLoss(), pred)):
        given = (pred, target, weight)
        for at in range(3):
            mixed = [where.put(array) if i == at else array for i, array in enumerate(given)]
            assert "lies in host memory and" in said(loss, *mixed), at
            mixed = [array if i == at else where.put(array) for i, array in enumerate(given)]
            assert "lies in host memory and" in said(loss, *mixed), at


def test_an_optimizer_with_parameters_in_two_places(where):
    one, other = nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=0)
    made = optim.SGD([*one.parameters(), *other.parameters()], lr=0.1)
    other.to("cuda")
    words = 'SGD: some of its parameters are on the CPU, some on the device; move the whole model with "to"'
    assert said(made.step, error=fastnn.CudaError) == words


def test_layouts_types_and_precisions_that_the_device_lacks(where, rows):
    run = Run(nn.Linear(6, 3), device="cuda")
    x = where.put(rows[0])
    assert said(run.model, x.T, error=ValueError) == (
        "Linear: x must be C-contiguous on a device; pass cupy.ascontiguousarray(...)"
    )
    run.model(x)
    wide = where.put(cuda_checks.draw(12, 6))[:, ::2]
    assert "Linear.backward: dy must be C-contiguous" in said(run.model.backward, wide, error=ValueError)
    assert "must hold real numbers, got dtype complex64" in said(
        lambda: run.model(where.put(rows[0].astype("c8")))
    )


def test_products_in_bfloat16(where, rows):
    """Rounded as on the host; what tensor cores add has bits of its own."""
    runs = Run(nn.Linear(6, 3)), Run(nn.Linear(6, 3), device="cuda")
    x, dy = rows[0], cuda_checks.draw(12, 3)
    with products_in("bfloat16"):
        want = runs[0].model(x), runs[0].model.backward(dy)
        got = runs[1].model(where.put(x)), runs[1].model.backward(where.put(dy))
    for one, other in zip(got, want):
        assert np.abs(where.get(one) - other).max() < 1e-5
    exact = Run(nn.Linear(6, 3)).model(x)
    assert np.abs(want[0] - exact).max() > 1e-4


def test_what_is_the_hosts_alone(where, rows):
    """It says so; nothing is copied there for it."""
    run = Run(nn.Standardize(6), nn.Linear(6, 3), nn.BatchNorm1d(3), device="cuda")
    refused = 'the model is on the device, this is for the CPU; call model.to("cpu")'
    for function in (nn.fold_scaling, partial(nn.recalibrate_bn, X=where.put(rows[0]))):
        assert refused in said(function, run.model, error=fastnn.CudaError)


def test_bad_labels_are_named_as_on_the_host(where, rows):
    run = Run(nn.Linear(6, 3), device="cuda")
    labels = rows[1].copy()
    labels[5] = 3
    pred = run.model(where.put(rows[0]))
    want = said(run.loss, where.get(pred), labels, error=ValueError)
    assert "labels[5] is 3, must be in 0..2" in want
    assert said(run.loss, pred, where.put(labels), error=ValueError) == want


def test_the_trainer_names_the_plain_loop(where, rows):
    run = Run(nn.Linear(6, 3), Square(), device="cuda")
    trainer = fastnn.Trainer(run.model, run.loss, run.optimizer, device="cuda")
    for call in (trainer.step, partial(trainer.fit, batch_size=4, epochs=1)):
        words = said(call, *rows)
        assert "the plain loop: value, dpred = loss(model(x), y); model.backward(dpred" in words


def test_pytorchs_tensors_are_read_where_they_lie(stand_in, rows, monkeypatch):
    """A model's own arrays and results are CuPy's."""
    import shimmed

    shimmed.install_torch(monkeypatch)
    host, device = both(lambda at: Run(nn.Linear(6, 3), device=at))
    tensors = [fake_torch.Tensor(array.copy()) for array in rows]
    want, got = step(host, *rows), step(device, *tensors)
    assert_same_step(stand_in, got, want, "tensors")
    assert_same_course(device, host)
    monkeypatch.setattr(fake_torch.stream, "cuda_stream", 96)
    assert "Linear: x is ordered on another stream" in said(device.model, tensors[0], error=ValueError)
