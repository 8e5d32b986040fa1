"""batch_norm_steps: nine steps forward and nine backward are batch normalization and its gradient."""

import numpy as np
import pytest
import reference as ref
from bounds import assert_within, batch_norm_backward_bounds, batch_norm_bound
from fastnn import ops

FORWARD = ["mu", "xmu", "carre", "var", "sqrtvar", "invvar", "va2", "va3", "out"]
BACKWARD = [
    *("dva3", "dbeta", "dva2", "dgamma", "dxmu1", "dinvvar"),
    *("dsqrtvar", "dvar", "dcarre", "dxmu2", "dx1", "dmu", "dx"),
]
COLUMNS = {"mu", "var", "sqrtvar", "invvar", "dbeta", "dgamma", "dinvvar", "dsqrtvar", "dvar", "dmu"}
SHAPES = [(2, 1), (7, 3), (50, 17), (4, 3, 5)]


def draw(rng, shape, dtype=np.float64):
    x, dy = 2.0 + 3.0 * rng.standard_normal(shape), rng.standard_normal(shape)
    gamma, beta = rng.standard_normal((2, shape[-1]))
    return [a.astype(dtype) for a in (x, gamma, beta, dy)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_names_shapes_and_dtype(dtype, rng):
    for shape in SHAPES:
        x, gamma, beta, dy = draw(rng, shape, dtype)
        kept = [a.copy() for a in (x, gamma, beta, dy)]
        assert list(ops.batch_norm_steps(x, gamma, beta)) == FORWARD
        steps = ops.batch_norm_steps(x, gamma, beta, dy)
        assert list(steps) == FORWARD + BACKWARD
        for name, array in steps.items():
            assert array.shape == (shape[-1:] if name in COLUMNS else shape), name
            assert array.dtype == dtype, name
            array[...] = 7  # an array of its own
        for array, before in zip((x, gamma, beta, dy), kept, strict=True):
            np.testing.assert_array_equal(array, before)


def test_the_chain_is_the_closed_form(rng):
    """In float64: all but the last digits of the formulas that docs/numerics.md gives."""
    for shape in SHAPES:
        x, gamma, beta, dy = draw(rng, shape)
        eps = float(np.float32(1e-5))
        steps = ops.batch_norm_steps(x, gamma, beta, dy, eps=eps)
        y, mean, var, xhat = ref.batch_norm(x, gamma, beta)
        for name, want in {"mu": mean, "var": var, "va2": xhat, "out": y}.items():
            np.testing.assert_allclose(steps[name], want, rtol=1e-12, atol=1e-12, err_msg=name)
        dx, dgamma, dbeta = ref.batch_norm_backward(dy, x, gamma, mean, 1.0 / np.sqrt(var + eps))
        for name, want in {"dx": dx, "dgamma": dgamma, "dbeta": dbeta}.items():
            np.testing.assert_allclose(steps[name], want, rtol=1e-9, atol=1e-12, err_msg=name)


def test_the_chain_is_the_fused_form(isa, rng):
    """In float32, within the bounds of the kernels, which the chain itself may use up once more."""
    for shape in SHAPES:
        x, gamma, beta, dy = draw(rng, shape, np.float32)
        steps = ops.batch_norm_steps(x, gamma, beta, dy)
        y, mean, rstd = ops.batch_norm(x, gamma, beta)
        _, want_mean, var, xhat = ref.batch_norm(x, gamma, beta)
        std = np.sqrt(var + 1e-5)
        assert_within(steps["out"], y, 2.0 * batch_norm_bound(gamma, beta, xhat, want_mean, std), "out")
        assert_within(steps["mu"], mean, 1e-6 * (np.abs(want_mean) + std), "mu")
        assert_within(steps["invvar"], rstd, 2e-6 / std, "invvar")
        got = [steps[name] for name in ("dx", "dgamma", "dbeta")]
        fused = ops.batch_norm_backward(dy, x, gamma, mean, rstd)
        limits = batch_norm_backward_bounds(dy, x, gamma, mean, rstd)
        for name, one, other, limit in zip(("dx", "dgamma", "dbeta"), got, fused, limits, strict=True):
            assert_within(one, other, 4.0 * limit, f"{name} {shape}")


def test_every_step_is_the_derivative_of_the_one_it_undoes(rng):
    """Each backward result by central differences of the loss as a function of that intermediate alone."""
    shape, eps = (6, 3), 1e-3
    x, gamma, beta, dy = draw(rng, shape)
    s = ops.batch_norm_steps(x, gamma, beta, dy, eps=eps)
    rest = lambda va2: float(((gamma * va2 + beta) * dy).sum())  # noqa: E731
    losses = {
        "dva3": ("va3", lambda v: float(((v + beta) * dy).sum())),
        "dva2": ("va2", rest),
        "dxmu1": ("xmu", lambda v: rest(v * s["invvar"])),
        "dinvvar": ("invvar", lambda v: rest(s["xmu"] * v)),
        "dsqrtvar": ("sqrtvar", lambda v: rest(s["xmu"] / v)),
        "dvar": ("var", lambda v: rest(s["xmu"] / np.sqrt(v + eps))),
        "dcarre": ("carre", lambda v: rest(s["xmu"] / np.sqrt(v.mean(0) + eps))),
        "dxmu2": ("xmu", lambda v: rest(s["xmu"] / np.sqrt((v * v).mean(0) + eps))),
        "dx1": ("xmu", lambda v: rest(v / np.sqrt((v * v).mean(0) + eps))),
        "dmu": ("mu", lambda v: rest((x - v) / np.sqrt(((x - v) ** 2).mean(0) + eps))),
        "dgamma": (gamma, lambda v: float(((v * s["va2"] + beta) * dy).sum())),
        "dbeta": (beta, lambda v: float(((s["va3"] + v) * dy).sum())),
        "dx": (x, lambda v: float((ref.batch_norm(v, gamma, beta, eps=eps)[0] * dy).sum())),
    }
    assert set(losses) == set(BACKWARD)
    for name, (at, loss) in losses.items():
        want = ref.numerical_gradient(loss, s[at] if isinstance(at, str) else at)
        np.testing.assert_allclose(s[name], want, rtol=1e-5, atol=1e-7, err_msg=name)


def test_gamma_and_beta_can_undo_the_normalization(rng):
    """gamma = sqrt(var + eps) and beta = mean give x back: nothing that could be learnt is lost."""
    x = draw(rng, (50, 4))[0]
    steps = ops.batch_norm_steps(x, np.ones(4), np.zeros(4))
    again = ops.batch_norm_steps(x, steps["sqrtvar"], steps["mu"])
    np.testing.assert_allclose(again["out"], x, rtol=1e-12)
    x32, gamma, beta = (a.astype(np.float32) for a in (x, steps["sqrtvar"], steps["mu"]))
    y, *_ = ops.batch_norm(x32, gamma, beta)
    np.testing.assert_allclose(y, x32, rtol=1e-5, atol=1e-5)


def test_one_row_gives_beta_and_no_gradient(rng):
    x, gamma, beta, dy = draw(rng, (1, 4))
    steps = ops.batch_norm_steps(x, gamma, beta, dy)
    np.testing.assert_array_equal(steps["out"], beta[None])
    np.testing.assert_array_equal(steps["dx"], np.zeros((1, 4)))
