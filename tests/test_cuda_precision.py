"""bfloat16 and TF32 on a device: products of tensor cores in `ops`, and training in these precisions.

Their sums have bits of their own, so results are near float64 of the rounded numbers. A tensor core adds with
24 bits or a few more, and cuts what lies below: a term of a sum may be wrong by twice as much as on the host.
"""

import copy

import fake_cupy
import fastnn
import numpy as np
import pytest
import reference as ref
from bounds import EPS, assert_bits, assert_within, gemm_bf16_bound
from cuda_checks import draw
from cuda_tensor_checks import tf32
from fastnn import _core, losses, nn, ops, optim
from fastnn._precision import products_in
from test_cuda_ops import where as where

F32 = np.dtype(np.float32)
PRECISIONS = ["bfloat16", "tf32"]
SHAPES = [(1, 1, 1), (3, 5, 0), (64, 64, 32), (65, 33, 100), (16, 8, 512), (40, 72, 48)]


def put16(where, x):
    """x rounded to bfloat16, on the device."""
    if where.name == "PyTorch":  # beside which ml_dtypes need not be
        return where.put(x).bfloat16()
    return where.put(x.astype(pytest.importorskip("ml_dtypes").bfloat16))


def get16(where, x):
    """A result in bfloat16 as float32."""
    if where.name == "PyTorch":
        return where.get(x.float())
    array = where.get(x)
    assert array.dtype == pytest.importorskip("ml_dtypes").bfloat16
    return array.astype(F32)


def near(got, a, b, want, what, *, rounded=False, **epilogue):
    bound = 2 * gemm_bf16_bound(a, b, want, rounded=rounded, random=True, **epilogue) + EPS * np.abs(want)
    assert_within(got, want, bound, what)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_products(where, precision):
    for i, (m, n, k) in enumerate(SHAPES):
        trans_a, trans_b = i % 2 == 1, i // 2 % 2 == 1
        a, b = draw(*((k, m) if trans_a else (m, k))), draw(*((n, k) if trans_b else (k, n)), seed=1)
        options = {"trans_a": trans_a, "trans_b": trans_b, "bias": draw(n, seed=2) if i % 2 else None}
        on = {**options, "bias": where.put(options["bias"]) if i % 2 else None}
        if precision == "tf32":
            read, given = (tf32(a), tf32(b)), (where.put(a), where.put(b))
            got = where.get(ops.gemm(*given, tf32=True, activation="relu", **on))
            near(got, *read, ref.gemm(*read, activation="relu", **options), (m, n, k), **options)
            continue
        read, given = (ref.bfloat16(a), ref.bfloat16(b)), (put16(where, a), put16(where, b))
        want = ref.gemm(*read, **options)
        got = ops.gemm(*given, **on)
        assert isinstance(got, where.kind)
        near(get16(where, got), *read, want, (m, n, k), rounded=True, **options)
        got = where.get(ops.gemm(*given, out_dtype=F32, **on))
        assert got.dtype == F32
        near(got, *read, want, (m, n, k), **options)


def test_what_is_given_comes_back(where):
    a, b, c = draw(5, 8), draw(8, 7, seed=1), draw(5, 7, seed=2)
    out = put16(where, c)
    assert ops.gemm(put16(where, a), put16(where, b), out=out, beta=0.5) is out
    wide = [ref.bfloat16(x) for x in (a, b, c)]
    epilogue = {"beta": 0.5, "out": wide[2]}
    near(get16(where, out), *wide[:2], ref.gemm(*wide[:2], **epilogue), "beta", rounded=True, **epilogue)
    on = where.put(a), where.put(b)
    assert_bits(where.get(ops.gemm(*on)), ops.gemm(a, b), "float32 stays float32")
    assert not np.array_equal(where.get(ops.gemm(*on, tf32=True)), ops.gemm(a, b))


def test_products_of_layers_in_bfloat16(where):
    """What Linear calls: float32 in and out, rounded in between; db sums dy as it is."""
    x, w, dy = draw(9, 20), draw(20, 6, seed=1), draw(9, 6, seed=2)
    on = [where.put(array) for array in (x, w, dy)]
    wide = [ref.bfloat16(array) for array in (x, w, dy)]
    near(where.get(_core.linear_bf16(*on[:2])), *wide[:2], wide[0] @ wide[1], "y")
    dx, dw, db = where.back(_core.linear_backward_bf16(on[2], on[0], on[1]))
    near(dx, wide[2], wide[1].T, wide[2] @ wide[1].T, "dx")
    near(dw, wide[0].T, wide[2], wide[0].T @ wide[2], "dw")
    assert_bits(db, _core.linear_backward_bf16(dy, x, w)[2], "db")


# ---- training, by the shim


@pytest.fixture
def old_device(device):
    device.library.shim_capability(7)
    yield device
    device.library.shim_capability(9)


def test_a_device_without_such_tensor_cores(old_device):
    x, w = (fake_cupy.ndarray(draw(4, 4)) for _ in range(2))
    said = "CUDA says: the device has no tensor cores for bfloat16 or TF32"
    with pytest.raises(fastnn.CudaError, match=rf"^gemm\(\): {said}"):
        ops.gemm(x, w, tf32=True)
    assert_bits(ops.gemm(x, w).get(), ops.gemm(x.get(), w.get()), "float32")
    run = trainer("tf32")
    before = state(run)
    with pytest.raises(fastnn.CudaError, match=said):
        run.step(draw(6, 40), np.zeros(6, int))
    for name, array in state(run).items():
        assert_bits(array, before[name], name)


@pytest.fixture
def rows(device):
    rng = np.random.default_rng(1)
    return rng.normal(size=(27, 40)).astype(np.float32), rng.integers(0, 3, 27)


def trainer(precision, on="cuda", rate=0.05):
    layers = nn.Linear(40, 24, bias=False), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 8), nn.Tanh()
    model = nn.Sequential(*layers, nn.Linear(8, 3), seed=3)
    made = optim.Adam(model.parameters(), lr=rate)
    return fastnn.Trainer(model, losses.CrossEntropyLoss(), made, precision=precision, device=on)


def state(run):
    return run.model.state_dict()


def test_a_step_in_bfloat16_is_that_of_the_cpu_but_for_rounding(rows):
    one, other, plain = trainer("bfloat16"), trainer("bfloat16", "cpu"), trainer("float32", "cpu")
    found = [[float(run.step(*rows)) for _ in range(3)] for run in (one, other, plain)]
    assert found[0] == pytest.approx(found[1], rel=2e-4)
    assert abs(found[0][0] - found[2][0]) > 1e-6  # it was rounded at all
    gradients = [[np.asarray(p.grad.get() if run is one else p.grad) for p in run.model.parameters()]
                 for run in (one, other)]  # fmt: skip
    for got, want in zip(*gradients):
        assert np.abs(got - want).max() <= 0.02 * np.abs(want).max()
    assert np.abs(one.predict(rows[0]) - other.predict(rows[0])).max() < 0.02


def test_a_step_in_tf32_lies_between(rows):
    """Ten bits of fraction: nearer to float32 than bfloat16 with its seven, but not float32."""
    losses_of = {p: float(trainer(p).step(*rows)) for p in ("float32", "tf32", "bfloat16")}
    assert (
        0 < abs(losses_of["tf32"] - losses_of["float32"]) < abs(losses_of["bfloat16"] - losses_of["float32"])
    )
    one, plain = trainer("tf32"), trainer("float32")
    for run in (one, plain):
        run.step(*rows)
    for a, b in zip(one.model.parameters(), plain.model.parameters()):
        assert np.abs(a.grad.get() - b.grad.get()).max() <= 4e-3 * max(np.abs(b.grad.get()).max(), 1e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_fits_are_the_steps_and_the_same_every_time(rows, precision):
    runs = [trainer(precision) for _ in range(3)]
    for run in runs[:2]:
        run.fit(*rows, batch_size=9, epochs=2)
    for epoch in range(2):
        for batch in fastnn.data.batches(*rows, 9, seed=runs[2].seed, epoch=epoch):
            runs[2].step(*batch)
    want = state(runs[0])
    for run in runs[1:]:
        for name, array in state(run).items():
            assert_bits(array, want[name], name)


def test_precision_may_change_between_steps(rows):
    run, same = trainer("float32"), trainer("tf32")
    run.precision = "tf32"
    assert float(run.step(*rows)) == float(same.step(*rows))
    run.model.to("cpu")
    with pytest.raises(ValueError, match='precision "tf32" exists on CUDA only'):
        run.step(*rows)


def test_a_file_says_its_precision(rows, tmp_path):
    run = trainer("tf32")
    run.step(*rows)
    run.save(tmp_path / "run.safetensors")
    with pytest.raises(ValueError, match="precision is tf32 in the file, bfloat16 here"):
        trainer("bfloat16").load(tmp_path / "run.safetensors")
    again = trainer("tf32")
    again.load(tmp_path / "run.safetensors")
    assert float(again.step(*rows)) == float(run.step(*rows))


@pytest.mark.parametrize("shortcut", [False, True])
def test_fused_products_have_the_bits_of_layers_one_by_one(rows, shortcut):
    """Slopes, sums of biases and results rounded beside products (csrc/program/fuse.h)."""
    block = nn.Sequential(nn.Linear(24, 24), nn.GELU(), nn.Linear(24, 24), nn.ReLU())
    layers = nn.Linear(40, 24), nn.Residual(block) if shortcut else block, nn.Linear(24, 8), nn.Tanh()
    model = nn.Sequential(*layers, nn.Linear(8, 3), seed=3)
    plain, loss = copy.deepcopy(model).to("cuda"), losses.CrossEntropyLoss()
    run = fastnn.Trainer(model, loss, optim.Adam(model.parameters()), precision="bfloat16", device="cuda")
    optimizer = optim.Adam(plain.parameters())
    x, y = fake_cupy.ndarray(rows[0]), fake_cupy.ndarray(rows[1])
    for _ in range(2):
        with products_in("bfloat16"):
            value, gradient = loss(plain(x), y)
        plain.backward(gradient, input_grad=False)
        optimizer.step()
        assert float(run.step(*rows)) == pytest.approx(value, rel=1e-6)
    for (name, got), want in zip(run.model.state_dict().items(), plain.state_dict().values(), strict=True):
        assert_bits(got, want, name)
