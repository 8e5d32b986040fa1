"""ops on arrays of a device: the bits of the same call on the host, in the caller's memory, on its stream.

Without a GPU the kernels are the shim's and the arrays stand-ins. Where there is one, CuPy's and PyTorch's
are tested too; `pytest --noconftest -k "not stand-in" tests/test_cuda_ops.py` needs nothing but them.
"""

import numpy as np
import pytest
from bounds import assert_bits
from cuda_checks import KINDS, OF_RESULT, draw
from device_places import REAL, STAND_INS, missing, place
from fastnn import ops
from test_cuda_kernels import BATCHES, CLASSES, GEMM, LENGTHS, OUTPUTS


@pytest.fixture(params=[*STAND_INS, *REAL])
def where(request, monkeypatch):
    """Each library in turn."""
    if request.param in REAL:
        reason = missing(request.param)
        if reason is not None:
            pytest.skip(reason)
        yield place(request.param)
        return
    import shimmed

    kernels = request.getfixturevalue("device")
    shimmed.install_torch(monkeypatch)
    yield place(request.param)
    assert kernels.library.shim_borrowed() == 0


def nans(*shape):
    return np.full(shape, np.nan, np.float32)


# ---- arguments over the shapes of test_cuda_kernels.py: a list for each function


def of_activations():
    for i, n in enumerate(LENGTHS):
        kind = KINDS[1 + i % 10]
        given = {"x": draw(n, scale=4.0), "kind": kind}
        if i % 3 == 0 and kind in ("leaky_relu", "elu"):
            given["alpha"] = 0.3
        yield "activation", {**given, "out": nans(n)} if i % 2 else given
        given = {**given, "dy": draw(n, seed=1)}
        if kind in OF_RESULT and i % 2:
            given["y"] = ops.activation(given["x"], kind, alpha=given.get("alpha"))
        yield "activation_backward", {**given, "out": nans(n)} if i % 3 else given


def of_dropout():
    for i, n in enumerate(LENGTHS):
        yield "dropout", {"x": draw(n), "p": (0.5, 0.1, 0.0, 1.0)[i % 4], "seed": i, "step": 3}


def of_products():
    for i, (m, n, k) in enumerate(GEMM):
        trans_a, trans_b = i % 2 == 1, i // 2 % 2 == 1
        beta = (0.0, 2.0, 0.0)[i // 2 % 3]
        given = {
            "a": draw(*((k, m) if trans_a else (m, k))),
            "b": draw(*((n, k) if trans_b else (k, n)), seed=1),
            "trans_a": trans_a,
            "trans_b": trans_b,
            "alpha": (1.0, -0.5)[i // 3 % 2],
            "beta": beta,
        }
        if beta or i % 2:
            given["out"] = draw(m, n, seed=2) if beta else nans(m, n)
        if i // 4 % 2:
            given |= {"bias": draw(n, seed=3), "activation": KINDS[1 + i % 10]}
        yield "gemm", given
        given = {"dy": draw(m, n), "x": draw(m, k, seed=1), "w": draw(k, n, seed=2)}
        given |= {"need_dx": i % 4 != 1, "need_db": i % 5 != 1}
        if i % 3 == 0:
            dx, db = draw(m, k) if given["need_dx"] else None, draw(n) if given["need_db"] else None
            given |= {"out": (dx, draw(k, n), db), "accumulate": True}
        yield "linear_backward", given


def of_batch_norm():
    for i, (rows, cols) in enumerate(BATCHES):
        x = draw(rows, cols) + 3 * draw(cols, seed=5)
        gamma, kind = draw(cols, seed=1), KINDS[i % 11]
        given = {"x": x, "gamma": gamma, "beta": draw(cols, seed=2)}
        given |= {"activation": None if kind == "none" else kind}
        running = {"running_mean": draw(cols, seed=3), "running_var": np.abs(draw(cols, seed=4))}
        yield "batch_norm", {**given, **(running if i % 2 else {"out": nans(rows, cols)})}
        yield "batch_norm", {**given, **running, "training": False}
        yield "batch_norm", {**given, **running, "unbiased": False}
        if kind not in ("none", *OF_RESULT):
            continue
        y, mean, rstd = ops.batch_norm(**given)
        given = {"dy": draw(rows, cols, seed=6), "x": x, "gamma": gamma, "mean": mean, "rstd": rstd}
        if kind != "none":
            given |= {"activation": kind, "y": y}
        if i % 2:
            given |= {"out": (None, draw(cols), draw(cols)), "accumulate": True}
        yield "batch_norm_backward", given


def of_softmax():
    for i, (rows, classes) in enumerate(CLASSES):
        rng = np.random.default_rng(rows)
        dtype = ("i8", "i4", "u1", "i2")[i % 4] if classes < 100 else "i8"
        labels = rng.integers(0, classes, rows).astype(dtype)
        given = {"logits": draw(rows, classes, scale=3.0), "labels": labels}
        if i % 4 == 3:
            given["labels"] = rng.dirichlet(np.ones(classes), rows).astype(np.float32)
        elif i % 3 == 1 and labels.min() < labels.max():
            given["ignore_index"] = int(labels.min())
        if i % 2:
            given["sample_weight"] = np.abs(draw(rows, seed=2)) + np.float32(0.5)
        yield "softmax_cross_entropy", {**given, "label_smoothing": (0.0, 0.1)[i // 2 % 2]}


def of_elementwise_losses():
    names = ("mse", "huber", "sigmoid_cross_entropy", "quadratic_cost")
    for i, (rows, cols) in enumerate(OUTPUTS):
        function = names[i % 4]
        pred, target = ("logits", "targets") if function == "sigmoid_cross_entropy" else ("pred", "target")
        given = {pred: draw(rows, cols), target: np.abs(draw(rows, cols, seed=1)) % 1}
        if i // 4 % 2:
            given["sample_weight"] = np.abs(draw(rows, seed=2))
        yield function, given


def of_updates():
    decay = {"weight_decay": 0.1}
    options = {
        "sgd_": ((), [{"lr": 0.1}]),
        "momentum_": (("velocity",), [{"lr": 0.1}, {"lr": 0.1, "nesterov": True, "style": "velocity"}]),
        "rmsprop_": (("square_avg",), [{"lr": 0.1}]),
        "adagrad_": (("square_sum",), [{"lr": 0.1}]),
        "adam_": (("m", "v"), [{"step": 3}, {"step": 1, **decay}, {"step": 2, **decay, "decoupled": True}]),
    }
    for function, (slots, choices) in options.items():
        for i, numbers in enumerate(choices):
            lists = [[draw(n, seed=role) for n in LENGTHS[i::3]] for role in range(2)]
            lists += [[np.abs(draw(n, seed=2 + role)) for n in LENGTHS[i::3]] for role, _ in enumerate(slots)]
            yield function, {**dict(zip(("param", "grad", *slots), lists)), **numbers}
            arrays = [np.abs(draw(17, 40, seed=role)) for role in range(2 + len(slots))]
            yield function, {**dict(zip(("param", "grad", *slots), arrays)), **numbers}


FAMILIES = [
    *(of_activations, of_dropout, of_products, of_batch_norm, of_softmax, of_elementwise_losses, of_updates)
]


def assert_same(got, want, what):
    if isinstance(want, (list, tuple)):
        for i, (one, other) in enumerate(zip(got, want, strict=True)):
            assert_same(one, other, f"{what}[{i}]")
    elif isinstance(want, np.ndarray):
        assert_bits(got, want, what)
    else:
        assert got == want or got is want, what


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_the_bits_of_the_host(where, family):
    for function, given in family():
        on_host, on_device = given, where.all(given)
        want, got = getattr(ops, function)(**on_host), getattr(ops, function)(**on_device)
        results = got if isinstance(got, tuple) else (got,)
        assert all(x is None or isinstance(x, (float, where.kind)) for x in results), function
        shapes = [x.shape for x in given.values() if isinstance(x, np.ndarray)]
        assert_same(where.back(got), want, f"{function} of {shapes}")
        for name, array in on_host.items():
            assert_same(where.back(on_device[name]), array, f"{function}: {name}")


def test_every_compiled_function_is_among_them():
    from native import NATIVE

    assert {function for family in FAMILIES for function, _ in family()} == set(NATIVE)


def test_what_is_given_comes_back(where):
    x, out = where.put(draw(3, 4)), where.put(nans(3, 4))
    assert ops.activation(x, "relu", out=out) is out
    assert ops.activation(x, "relu", out=x) is x
    dw = where.put(nans(4, 5))
    assert ops.linear_backward(where.put(draw(3, 5)), x, where.put(draw(4, 5)), out=(None, dw, None))[1] is dw


@pytest.mark.parametrize("rows", [0, 5])
def test_matrices_may_have_any_strides(where, rows):
    """Products read them where they lie; rows may lie apart in everything of rows and columns."""
    a, b, wide = draw(7, 2 * rows), draw(9, 7), draw(6, 20)
    on = where.put(a)[:, ::2]
    want = ops.gemm(a[:, ::2], b, trans_a=True, trans_b=True)
    assert_bits(where.get(ops.gemm(on, where.put(b), trans_a=True, trans_b=True)), want, "gemm")
    gamma = draw(5)
    want = ops.batch_norm(wide[:, 3:8], gamma, gamma)
    got = ops.batch_norm(where.put(wide)[:, 3:8], where.put(gamma), where.put(gamma))
    assert_same(where.back(got), want, "batch_norm")
    with pytest.raises(ValueError, match=r"'x' must be C-contiguous on a CUDA device.*contiguous\(\)"):
        ops.activation(where.put(wide)[:, 3:8], "relu")


def test_arrays_of_two_places_are_refused(where):
    x, y = where.put(draw(3, 4)), draw(3, 4)
    for arguments in ({"dy": x, "x": y}, {"dy": y, "x": x}):
        with pytest.raises(TypeError, match=r"'(x|dy)' lies in host memory and '(x|dy)' on a CUDA device"):
            ops.activation_backward(**arguments, kind="relu")
    with pytest.raises(TypeError, match=r"'grad\[1\]' lies in host memory and 'param\[0\]' on a CUDA device"):
        ops.sgd_([x, where.put(y)], [where.put(y), y], lr=0.1)


def test_a_bad_label_or_weight_raises_as_on_the_host(where):
    logits, labels, weight = draw(5, 4), np.array([0, 3, 1, 2, 3]), np.ones(5, np.float32)
    changes = [{"labels": np.array([0, 3, 4, 2, -1])}, {"labels": np.full(5, -7)}]
    changes += [{"sample_weight": np.array([1, 1, x, 1, 0], np.float32)} for x in (-1.0, np.nan, np.inf)]
    changes += [{"sample_weight": np.zeros(5, np.float32)}, {"labels": np.full(5, 2), "ignore_index": 2}]
    for change in changes:
        given = {"logits": logits, "labels": labels, "sample_weight": weight, **change}
        with pytest.raises(ValueError) as on_host:
            ops.softmax_cross_entropy(**given)
        with pytest.raises(ValueError) as on_device:
            ops.softmax_cross_entropy(**where.all(given))
        assert str(on_device.value) == str(on_host.value)
    bad = {"pred": logits, "target": logits, "sample_weight": np.array([1, -2, 1, 1, 1], np.float32)}
    with pytest.raises(
        ValueError, match=r"mse\(\): 'sample_weight\[1\]' must be finite and at least 0, got -2"
    ):
        ops.mse(**where.all(bad))
