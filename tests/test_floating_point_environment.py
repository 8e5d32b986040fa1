"""Kernels flush denormals inside their own calls and leave the caller's floating-point settings alone."""

import ctypes
import functools
import platform
import signal
import struct

import fastnn
import numpy as np
import pytest
import reference as ref
from bounds import assert_bits
from fastnn import _core, callbacks, data, losses, nn, ops, optim, preprocessing
from native import NATIVE

try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None

x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="reads MXCSR, a register of x86-64")

DENORMALS_ARE_ZERO, FLUSH_TO_ZERO = 1 << 6, 1 << 15
ROUND_UP = 2 << 13
CONTROL = ~0x3F  # all but the six sticky flags
TINY = np.float32(1e-40)


class Environment(ctypes.Structure):
    """glibc's fenv_t on x86-64: 28 bytes of x87 state, then MXCSR."""

    _fields_ = [("x87", ctypes.c_char * 28), ("mxcsr", ctypes.c_uint32)]


def mxcsr(new=None):
    """The MXCSR register of this thread; sets it first if asked."""
    libm = ctypes.CDLL("libm.so.6")
    environment = Environment()
    assert libm.fegetenv(ctypes.byref(environment)) == 0
    if new is not None:
        environment.mxcsr = new
        assert libm.fesetenv(ctypes.byref(environment)) == 0
    return environment.mxcsr


def denormals_work():
    """NumPy, in this thread, still computes with denormals."""
    small = np.full(64, np.finfo(np.float32).tiny, np.float32)
    return bool((small * np.float32(0.5) > 0).all() and (np.full(64, TINY) + TINY > 0).all())


def refused(x, y):
    with pytest.raises(ValueError, match="gemm"):
        ops.gemm(x, y)


def bfloat16_calls(x, y):
    x, y = x.astype(ml_dtypes.bfloat16), y.astype(ml_dtypes.bfloat16)
    return {"gemm bfloat16": lambda: ops.gemm(x, y, trans_b=True, activation="silu")}


@functools.cache
def calls():
    """name -> a call of every function of ops, with work enough for several threads."""
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 300, 200), np.float32)
    gamma = rng.standard_normal(200, np.float32)
    statistics = np.zeros(200, np.float32), np.ones(200, np.float32)
    labels = rng.integers(0, 200, 300)
    state = np.abs(rng.standard_normal((4, 50_000), np.float32))
    return {
        "gemm": lambda: ops.gemm(x, y, trans_b=True),
        "gemm small": lambda: ops.gemm(x[:2, :2], y[:2, :2]),
        **({} if ml_dtypes is None else bfloat16_calls(x, y)),
        "linear_backward": lambda: ops.linear_backward(x, y, x[:200].T @ x[:200]),
        "gemm rounded": lambda: _core.linear_bf16(x, y[:200], activation="gelu"),
        "linear_backward rounded": lambda: _core.linear_backward_bf16(x, y, x[:200].T @ x[:200]),
        "activation": lambda: [ops.activation(x, kind) for kind in ref.ACTIVATIONS],
        "activation_backward": lambda: [ops.activation_backward(x, y, kind) for kind in ref.ACTIVATIONS],
        "gemm gelu": lambda: ops.gemm(x, y, trans_b=True, activation="gelu"),
        "dropout": lambda: ops.dropout(x, 0.5, seed=0, step=0),
        "batch_norm": lambda: ops.batch_norm(x, gamma, gamma, *statistics),
        "batch_norm evaluation": lambda: ops.batch_norm(x, gamma, gamma, *statistics, training=False),
        "batch_norm_backward": lambda: ops.batch_norm_backward(x, y, gamma, *statistics),
        "softmax_cross_entropy": lambda: ops.softmax_cross_entropy(x, labels),
        "mse": lambda: ops.mse(x, y),
        "quadratic_cost": lambda: ops.quadratic_cost(
            x, y, sample_weight=gamma[0] ** 2 + np.zeros(300, np.float32)
        ),
        "sigmoid_cross_entropy": lambda: ops.sigmoid_cross_entropy(x, y),
        "huber": lambda: ops.huber(x, y),
        "sgd_": lambda: ops.sgd_(*state[:2], lr=0.1),
        "momentum_": lambda: ops.momentum_(*state[:3], lr=0.1),
        "rmsprop_": lambda: ops.rmsprop_(*state[:3], lr=0.1),
        "adagrad_": lambda: ops.adagrad_(*state[:3], lr=0.1),
        "adam_": lambda: ops.adam_(*state, step=1),
        "optimizer": optimizer_steps,
        "refused": lambda: refused(x, y),
    }


def optimizer_steps():
    """Norms, noise and decay before the rule."""
    p = nn.Parameter(np.ones((70, 30)))
    p.grad = np.full((70, 30), 1e-20)
    for clip in (1e-30, optim.AdaptiveClip(1e-30)):
        optim.Adam([p], clip=clip, grad_noise=(1e-3, 1), l1=0.1, decay_to="init").step()


class Seen(callbacks.Callback):
    """Where a fit calls back MXCSR is always the same on that thread; ends the fit if told so."""

    def __init__(self, end=None):
        self.end, self.first = end, None

    def see(self):
        setting = mxcsr() & CONTROL
        self.first = setting if self.first is None else self.first
        assert setting == self.first

    def on_fit_begin(self, trainer):
        self.see()

    def on_step_end(self, trainer, step, loss):
        self.see()
        if self.end is not None:
            self.end()

    def on_epoch_end(self, trainer, logs):
        self.see()


def fails():
    raise OSError


def ends(error, call, *arguments, **options):
    with pytest.raises(error):
        call(*arguments, **options)


def own_loss(pred, target):
    return losses.CrossEntropyLoss()(pred, target)


@functools.cache
def larger_calls():
    """name -> a call of what is made of those functions: trainers, scalers, batches. Errors among them."""
    rng = np.random.default_rng(3)
    X, Y = rng.standard_normal((512, 100), np.float32), rng.integers(0, 10, 512)
    wrong, unknown = np.full(512, 10), np.where(np.arange(512) < 500, X.T, np.nan).T

    def made(loss=None, **options):
        hidden = nn.Linear(100, 200), nn.BatchNorm1d(200), nn.GELU(), nn.Dropout(0.2)
        model = nn.Sequential(*hidden, nn.Linear(200, 10), seed=0)
        optimizer = optim.Adam(model.parameters(), 1e-5, clip=1.0)
        return fastnn.Trainer(model, loss or losses.CrossEntropyLoss(), optimizer, **options)

    run, rounded, own = made(), made(precision="bfloat16"), made(own_loss)
    fit = {"batch_size": 256, "epochs": 2, "progress": False}
    many = {"batch_size": 256, "epochs": 1}

    def fit_with(end, **options):
        return run.fit(X, Y, callbacks=[Seen(end)], **fit, **options)

    def fit_many(*ends):
        fastnn.fit_many([made() for _ in ends], X, Y, callbacks=[[Seen(end)] for end in ends], **many)

    def scaled():
        for scaler in (
            preprocessing.StandardScaler(),
            preprocessing.MinMaxScaler(),
            preprocessing.Whitening(eps=0.1),
        ):
            scaler.inverse_transform(scaler.fit(X).transform(X))

    return {
        "step": lambda: run.step(X, Y),
        "step bfloat16": lambda: rounded.step(X, Y),
        "step of layers": lambda: own.step(X, Y),
        "step, bad ids": lambda: ends(ValueError, run.step, X, wrong),
        "step, not finite": lambda: ends(optim.NonFiniteGradientError, run.step, unknown, Y),
        "fit": lambda: run.fit(X, Y, validation=(X, Y), **fit),
        "fit with callbacks": lambda: fit_with(None, validation=(X, Y)),
        "fit of layers": lambda: own.fit(X, Y, **fit),
        "fit, bad ids": lambda: ends(ValueError, run.fit, X, wrong, **fit),
        "fit, not finite": lambda: ends(optim.NonFiniteGradientError, run.fit, unknown, Y, **fit),
        "fit, a callback's error": lambda: ends(OSError, fit_with, fails),
        "fit, Ctrl-C": lambda: ends(KeyboardInterrupt, fit_with, lambda: signal.raise_signal(signal.SIGINT)),
        "predict": lambda: (run.predict(X), run.predict_proba(X), run.predict_class(X)),
        "evaluate": lambda: (run.evaluate(X, Y), rounded.evaluate(X, Y)),
        "evaluate, bad ids": lambda: ends(ValueError, run.evaluate, X, wrong),
        "fit_many": lambda: fit_many(None, None, None),
        "fit_many, a callback's error": lambda: ends(OSError, fit_many, None, fails),
        "preprocessing": scaled,
        "batches": lambda: list(data.batches(X, Y, 200, seed=1)),
        "batches, bad rows": lambda: ends(ValueError, lambda: list(data.batches(X, Y[:3], 200))),
    }


def test_every_function_is_called():
    assert {name.split()[0] for name in calls()} == {*NATIVE, "optimizer", "refused"}


@pytest.mark.parametrize("name", calls())
def test_denormals_work_after_a_call(isa, name):
    assert denormals_work()
    calls()[name]()
    assert denormals_work()


def after_call(call, bits):
    """What the register holds after a call with these bits set, and what it should."""
    before = mxcsr()
    try:
        wanted = mxcsr((before & ~(FLUSH_TO_ZERO | DENORMALS_ARE_ZERO)) | bits)
        call()
        return mxcsr(), wanted
    finally:
        mxcsr(before)


@x86
@pytest.mark.parametrize("name", calls())
@pytest.mark.parametrize(
    "bits",
    [0, FLUSH_TO_ZERO | DENORMALS_ARE_ZERO, FLUSH_TO_ZERO, ROUND_UP],
    ids=["default", "flushing", "flushing results", "rounding up"],
)
def test_the_callers_setting_is_restored(isa, threads, name, bits):
    """Whatever the caller set, denormals flushed or another rounding, is there again after the call."""
    after, wanted = after_call(calls()[name], bits)
    assert after & CONTROL == wanted & CONTROL, (
        f"{struct.pack('>I', after).hex()} {struct.pack('>I', wanted).hex()}"
    )


@x86
@pytest.mark.parametrize("name", larger_calls())
def test_a_larger_call_restores_the_callers_setting(restore_runtime, name):
    """However it ends, and for what is called inside it."""
    call = larger_calls()[name]
    for threads in (1, 3):
        fastnn.set_num_threads(threads)
        for bits in (0, FLUSH_TO_ZERO | DENORMALS_ARE_ZERO, FLUSH_TO_ZERO, ROUND_UP):
            after, wanted = after_call(call, bits)
            assert after & CONTROL == wanted & CONTROL, (threads, hex(bits), hex(after), hex(wanted))


def test_denormal_inputs_count_as_zero(isa):
    tiny = np.full((40, 40), TINY, np.float32)
    big = np.full((40, 40), 1e30, np.float32)
    assert not ops.gemm(tiny, big).any()
    p, g = np.zeros(40, np.float32), np.full(40, TINY, np.float32)
    ops.sgd_(p, g, lr=1e30)
    assert not p.any()


def test_denormal_results_are_zero(isa):
    small = np.full((40, 40), 1e-30, np.float32)
    assert not ops.gemm(small, small * np.float32(1e10) * np.float32(1e-20)).any()
    assert not ops.gemm(small, np.full((40, 40), 1e-12, np.float32), alpha=0.5).any()
    v = np.full(40, np.finfo(np.float32).tiny, np.float32)
    p = np.zeros(40, np.float32)
    ops.momentum_(p, np.zeros(40, np.float32), v, lr=0.0, momentum=0.5)
    assert not v.any()
    logits = np.array([[0.0, -95.0, -87.4, -150.0]], np.float32)
    _, dlogits = ops.softmax_cross_entropy(logits, np.array([0]))
    assert not dlogits[0, 1:].any()


def test_denormals_give_the_same_bits_everywhere(restore_runtime, isas, rng):
    """On every instruction set, with and without workers: flushing is part of the result."""
    x = (rng.standard_normal((300, 200)) * 10.0 ** rng.uniform(-44, -34, (300, 200))).astype(np.float32)
    y = (rng.standard_normal((200, 300)) * 10.0 ** rng.uniform(-6, 3, (200, 300))).astype(np.float32)
    state = [np.abs(a) for a in (x, y.T.copy(), x, x)]

    def compute():
        arrays = [a.copy() for a in state]
        ops.adam_(*arrays, step=2)
        gamma = y[0, :200].copy()
        normed = ops.batch_norm(x, gamma, gamma, eps=1e-30)
        back = ops.batch_norm_backward(y.T, x, gamma, *normed[1:])
        activated = [ops.activation(x, kind) for kind in ref.ACTIVATIONS]
        loss = ops.softmax_cross_entropy(x * np.float32(1e30), np.arange(300) % 200)[1]
        point = [f(x, y.T)[1] for f in (ops.mse, ops.huber, ops.sigmoid_cross_entropy)]
        return [ops.gemm(x, y), *point, *activated, *arrays, *normed, *back, loss]

    results = []
    for isa in isas:
        for threads in (1, 3):
            fastnn.set_isa(isa)
            fastnn.set_num_threads(threads)
            results.append(((isa, threads), compute()))
    for where, found in results[1:]:
        for got, want in zip(found, results[0][1], strict=True):
            assert_bits(got, want, f"{where} against {results[0][0]}")


@x86
def test_bits_do_not_depend_on_the_callers_flushing(isa, rng):
    """A caller that flushes denormals itself gets what everyone gets."""
    x = (rng.standard_normal((60, 60)) * 10.0 ** rng.uniform(-42, -30, (60, 60))).astype(np.float32)
    y = rng.standard_normal((60, 60), np.float32)
    plain = ops.gemm(x, y)
    before = mxcsr()
    try:
        mxcsr(before | FLUSH_TO_ZERO | DENORMALS_ARE_ZERO)
        flushing = ops.gemm(x, y)
    finally:
        mxcsr(before)
    assert_bits(flushing, plain)
