"""Bad input to layers, parameters and losses: the exception, and a text that names argument and cure."""

import fastnn
import numpy as np
import pytest
from fastnn import init, nn
from fastnn.preprocessing import MinMaxScaler, StandardScaler, Whitening


def x(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def linear():
    return nn.Linear(3, 2, rng=0)


def after_forward(layer, *shape):
    layer(x(*shape))
    return layer


def parameter():
    return nn.Parameter(x(2, 3), name="w")


def shared_layer():
    layer = nn.ReLU()
    return nn.Sequential(linear(), layer, nn.Linear(2, 2), layer)


def shared_weight():
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.weight = one.weight
    return nn.Sequential(one, nn.ReLU(), other)


def shared_shortcut():
    layer = linear()
    return nn.Residual(nn.Sequential(layer), layer)


masked = np.ma.masked_array(np.ones((4, 3)), mask=False)
ids = np.zeros(4, int)
nan = float("nan")

ROWS = [
    # ---- layers: construction
    (lambda: nn.Linear(0, 2), ValueError, r"Linear: in_features must be at least 1, got 0"),
    (lambda: nn.Linear(3, -1), ValueError, r"Linear: out_features must be at least 1, got -1"),
    (lambda: nn.Linear(3.0, 2), TypeError, r"Linear: in_features must be a whole number, got 3\.0 \(float\)"),
    (lambda: nn.Linear(True, 2), TypeError, r"in_features must be a whole number, got True"),
    (lambda: nn.Linear("3", 2), TypeError, r"in_features must be a whole number"),
    (lambda: nn.Linear(3, None), TypeError, r"out_features must be a whole number"),
    (lambda: nn.Linear(3, 2, rng="seed"), TypeError, r"Linear: rng must be a whole number"),
    (lambda: nn.Linear(3, 2, rng=-1), ValueError, r"Linear: rng must be at least 0"),
    (lambda: nn.BatchNorm1d(0), ValueError, r"BatchNorm1d: num_features must be at least 1"),
    (lambda: nn.BatchNorm1d(2.5), TypeError, r"BatchNorm1d: num_features must be a whole number"),
    (
        lambda: nn.BatchNorm1d(2, eps=-1),
        ValueError,
        r"BatchNorm1d: eps must be at least 0 and finite, got -1",
    ),
    (lambda: nn.BatchNorm1d(2, eps=nan), ValueError, r"BatchNorm1d: eps must be at least 0"),
    (lambda: nn.BatchNorm1d(2, eps="small"), TypeError, r"BatchNorm1d: eps must be a number, got 'small'"),
    (
        lambda: nn.BatchNorm1d(2, momentum=1.5),
        ValueError,
        r"BatchNorm1d: momentum must be in \[0, 1\], got 1\.5",
    ),
    (lambda: nn.BatchNorm1d(2, momentum=None), TypeError, r"BatchNorm1d: momentum must be a number"),
    (
        lambda: nn.BatchNorm1d(2, running_var="population"),
        ValueError,
        r"BatchNorm1d: running_var must be \"unbiased\" or \"biased\", got 'population'",
    ),
    (lambda: nn.BatchNorm1d(2, running_var=True), TypeError, r"BatchNorm1d: running_var must be"),
    (
        lambda: nn.BatchNorm1d(2, debias="yes"),
        TypeError,
        r"BatchNorm1d: debias must be True or False, got 'yes'",
    ),
    (lambda: nn.BatchNorm1d(2, debias=1), TypeError, r"BatchNorm1d: debias must be True or False, got 1"),
    (
        lambda: nn.BatchNorm1d(2, momentum=0, debias=True),
        ValueError,
        r"BatchNorm1d: debias needs momentum above 0, got 0",
    ),
    (lambda: nn.BatchNorm1d(2, 1e-5, 0.1, "biased"), TypeError, r"takes from 2 to 4 positional"),
    (
        lambda: nn.LeakyReLU(-0.1),
        ValueError,
        r"LeakyReLU: negative_slope must be at least 0 and finite, got -0\.1",
    ),
    (lambda: nn.LeakyReLU(nan), ValueError, r"LeakyReLU: negative_slope must be at least 0"),
    (lambda: nn.LeakyReLU("0.1"), TypeError, r"LeakyReLU: negative_slope must be a number, got '0\.1'"),
    (lambda: nn.LeakyReLU(None), TypeError, r"LeakyReLU: negative_slope must be a number"),
    (lambda: nn.ELU(-1), ValueError, r"ELU: alpha must be at least 0 and finite, got -1"),
    (lambda: nn.ELU(np.inf), ValueError, r"ELU: alpha must be at least 0 and finite"),
    (lambda: nn.ELU([1.0]), TypeError, r"ELU: alpha must be a number, got \[1\.0\]"),
    (lambda: nn.GELU("erf"), ValueError, r"GELU: approximate must be 'none' or 'tanh', got 'erf'"),
    (lambda: nn.GELU(None), TypeError, r"GELU: approximate must be 'none' or 'tanh', got None"),
    (lambda: nn.GELU(True), TypeError, r"GELU: approximate must be 'none' or 'tanh', got True"),
    (lambda: nn.Sequential(), ValueError, r"Sequential: needs at least one layer"),
    (
        lambda: nn.Sequential(linear(), np.tanh),
        TypeError,
        r"Sequential: layer 1 must be a Module, got <ufunc",
    ),
    (
        lambda: nn.Sequential(nn.ReLU),
        TypeError,
        r"layer 0 must be a Module, .*; pass an object of it, with \(\)",
    ),
    (lambda: nn.Sequential([linear()]), TypeError, r"Sequential: layer 0 must be a Module"),
    (lambda: nn.Sequential(linear(), seed="1"), TypeError, r"seed must be a whole number, got '1'"),
    (lambda: nn.Sequential(linear(), seed=-1), ValueError, r"seed must be at least 0"),
    (shared_layer, ValueError, r"layers 1 and 3 are or share the same ReLU; make a new one"),
    (shared_weight, ValueError, r"layers 0 and 2 are or share the same Parameter"),
    (lambda: nn.Module(), TypeError, r"abstract"),
    (lambda: nn.Dropout(-0.1), ValueError, r"Dropout: p must be in \[0, 1\], got -0\.1"),
    (lambda: nn.Dropout(1.5), ValueError, r"Dropout: p must be in \[0, 1\], got 1\.5"),
    (lambda: nn.Dropout(nan), ValueError, r"Dropout: p must be in \[0, 1\], got nan"),
    (lambda: nn.Dropout("half"), TypeError, r"Dropout: p must be a number, got 'half'"),
    (lambda: nn.Dropout(None), TypeError, r"Dropout: p must be a number, got None"),
    (lambda: nn.Dropout(keep=2), ValueError, r"Dropout: keep must be in \[0, 1\], got 2"),
    (lambda: nn.Dropout(keep="most"), TypeError, r"Dropout: keep must be a number, got 'most'"),
    (
        lambda: nn.Dropout(0.5, keep=0.5),
        ValueError,
        r"Dropout: got p=0\.5 and keep=0\.5; pass one of them",
    ),
    (lambda: nn.Dropout(0.5, rng=1.5), TypeError, r"Dropout: rng must be a whole number"),
    (lambda: nn.Residual(np.tanh), TypeError, r"Residual: block must be a Module, got <ufunc"),
    (lambda: nn.Residual(nn.ReLU), TypeError, r"Residual: block must be a Module, .*with \(\)"),
    (lambda: nn.Residual(None), TypeError, r"Residual: block must be a Module, got None"),
    (lambda: nn.Residual(linear(), "x"), TypeError, r"Residual: shortcut must be a Module, got 'x'"),
    (shared_shortcut, ValueError, r"Residual: layers block and shortcut are or share the same Linear"),
    (
        lambda: nn.Residual(linear(), zero_gamma=True),
        ValueError,
        r"Residual: zero_gamma=True needs a BatchNorm1d in the block, which has none; add one",
    ),
    (
        lambda: nn.Residual(linear(), nn.BatchNorm1d(3), zero_gamma=True),
        ValueError,
        r"Residual: zero_gamma=True needs a BatchNorm1d in the block",
    ),
    (
        lambda: nn.Residual(nn.BatchNorm1d(3), zero_gamma=1),
        TypeError,
        r"Residual: zero_gamma must be True or False, got 1",
    ),
    # ---- layers: input
    (
        lambda: linear()([[1.0, 2.0, 3.0]]),
        TypeError,
        r"Linear: x must be a NumPy array, got list; pass np\.asarray",
    ),
    (lambda: linear()(None), TypeError, r"Linear: x must be a NumPy array, got NoneType"),
    (
        lambda: linear()(x(4, 3, dtype=complex)),
        TypeError,
        r"Linear: x must hold real numbers, got dtype complex128",
    ),
    (lambda: linear()(np.full((4, 3), "1")), TypeError, r"Linear: x must hold real numbers"),
    (
        lambda: linear()(np.full((4, 3), None)),
        TypeError,
        r"Linear: x must hold real numbers, got dtype object",
    ),
    (lambda: linear()(masked), TypeError, r"masked array .* pass \.filled\(value\)"),
    (
        lambda: linear()(x(3)),
        ValueError,
        r"shape \(\.\.\., 3\) and at least two axes, got \(3,\); pass x\.reshape\(-1, 3\)",
    ),
    (lambda: linear()(x(4, 2)), ValueError, r"Linear: x must have shape \(\.\.\., 3\) .*, got \(4, 2\)"),
    (
        lambda: linear()(x(2, 4, 2)),
        ValueError,
        r"Linear: x must have shape \(\.\.\., 3\) .*, got \(2, 4, 2\)",
    ),
    (
        lambda: nn.BatchNorm1d(3)(x(4, 2)),
        ValueError,
        r"BatchNorm1d: x must have shape \(\.\.\., 3\), got \(4, 2\)",
    ),
    (lambda: nn.BatchNorm1d(3)(x(3)), ValueError, r"BatchNorm1d: x must have shape"),
    (lambda: nn.BatchNorm1d(3)(x(1, 3)), ValueError, r"batch_norm\(\)"),
    (lambda: nn.BatchNorm1d(3)("x"), TypeError, r"BatchNorm1d: x must be a NumPy array, got str"),
    (lambda: nn.ReLU()(3.0), TypeError, r"ReLU: x must be a NumPy array, got float"),
    (lambda: nn.ReLU()(x(3, dtype=complex)), TypeError, r"ReLU: x must hold real numbers"),
    (lambda: nn.Dropout()(1.0), TypeError, r"Dropout: x must be a NumPy array, got float"),
    (lambda: nn.Dropout()(x(3, dtype=complex)), TypeError, r"Dropout: x must hold real numbers"),
    (
        lambda: nn.Flatten()(x(3)),
        ValueError,
        r"Flatten: x must have shape \(n, \.\.\.\), got \(3,\); pass x\[",
    ),
    (lambda: nn.Flatten()([[1]]), TypeError, r"Flatten: x must be a NumPy array, got list"),
    (
        lambda: nn.Residual(linear())(x(4, 3)),
        ValueError,
        r"Residual: block gives shape \(4, 2\), x has \(4, 3\); pass a shortcut=",
    ),
    (
        lambda: nn.Residual(linear(), nn.Linear(3, 4))(x(4, 3)),
        ValueError,
        r"Residual: block gives shape \(4, 2\), shortcut has \(4, 4\)$",
    ),
    (
        lambda: nn.Residual(nn.Linear(3, 1))(x(4, 3)),
        ValueError,
        r"block gives shape \(4, 1\), x has \(4, 3\)",
    ),
    (lambda: nn.Residual(nn.ReLU())(None), TypeError, r"Residual: x must be a NumPy array"),
    (lambda: nn.GELU()([1.0]), TypeError, r"GELU: x must be a NumPy array, got list"),
    (lambda: nn.Identity()(None), TypeError, r"Identity: x must be a NumPy array, got NoneType"),
    (lambda: nn.Identity()(masked), TypeError, r"masked array .* pass \.filled\(value\)"),
    (
        lambda: nn.Standardize(3)(x(4, 2)),
        ValueError,
        r"Standardize: x must have shape \(\.\.\., 3\) .*, got \(4, 2\)",
    ),
    (lambda: nn.Standardize(3)(x(3)), ValueError, r"Standardize: x must have shape .* at least two axes"),
    (lambda: nn.Standardize(3)([[1, 2, 3]]), TypeError, r"Standardize: x must be a NumPy array, got list"),
    (lambda: nn.Standardize(0), ValueError, r"Standardize: scaler must be at least 1, got 0"),
    (lambda: nn.Standardize(None), TypeError, r"Standardize: scaler must be a fitted .*, got None"),
    (lambda: nn.Standardize(3.0), TypeError, r"Standardize: scaler must be .*, got 3\.0"),
    (lambda: nn.Standardize(True), TypeError, r"Standardize: scaler must be a whole number, got True"),
    (lambda: nn.Standardize(StandardScaler), TypeError, r"pass an object of it that was fitted"),
    (lambda: nn.Standardize(StandardScaler()), RuntimeError, r"StandardScaler\.affine: nothing was learned"),
    (
        lambda: nn.Standardize(Whitening().fit(np.eye(3))),
        TypeError,
        r"got Whitening\(method='pca', eps=1e-05\); it mixes columns",
    ),
    (
        lambda: nn.Standardize(MinMaxScaler(clip=True).fit(np.eye(3))),
        ValueError,
        r"MinMaxScaler\.affine: clip=True is no affine map; use clip=False",
    ),
    (lambda: nn.fold_scaling(linear()), TypeError, r"fold_scaling: model must be a Sequential, got Linear"),
    (
        lambda: nn.fold_scaling(nn.Sequential(linear())),
        ValueError,
        r"fold_scaling: the first layer must be a Standardize .*, got Linear",
    ),
    (
        lambda: nn.fold_scaling(nn.Sequential(nn.Flatten(), nn.Flatten())),
        ValueError,
        r"the first layer must be a Standardize .*, got Flatten",
    ),
    (
        lambda: nn.fold_scaling(nn.Sequential(nn.Standardize(3), nn.ReLU(), linear())),
        ValueError,
        r"fold_scaling: a Linear must follow the Standardize layer, got ReLU",
    ),
    (
        lambda: nn.fold_scaling(nn.Sequential(nn.Standardize(3))),
        ValueError,
        r"a Linear must follow the Standardize layer, got nothing",
    ),
    # ---- layers: backward
    (
        lambda: nn.Standardize(3).backward(x(4, 3)),
        RuntimeError,
        r"Standardize\.backward: no training-mode forward",
    ),
    (
        lambda: after_forward(nn.Standardize(3), 4, 3).backward(x(3)),
        ValueError,
        r"Standardize\.backward: dy must have shape \(4, 3\), got \(3,\)",
    ),
    (lambda: linear().backward(x(4, 2)), RuntimeError, r"Linear\.backward: no training-mode forward"),
    (lambda: nn.BatchNorm1d(3).backward(x(4, 3)), RuntimeError, r"BatchNorm1d\.backward: no training-mode"),
    (lambda: nn.ReLU().backward(x(4, 3)), RuntimeError, r"ReLU\.backward: no training-mode forward"),
    (lambda: nn.Softplus().backward(x(4, 3)), RuntimeError, r"Softplus\.backward: no training-mode forward"),
    (lambda: nn.Identity().backward(x(4, 3)), RuntimeError, r"Identity\.backward: no training-mode forward"),
    (
        lambda: after_forward(nn.Identity(), 4, 3).backward(x(4)),
        ValueError,
        r"Identity\.backward: dy must have shape \(4, 3\), got \(4,\)",
    ),
    (
        lambda: after_forward(nn.Tanh(), 4, 3).backward(x(3)),
        ValueError,
        r"Tanh\.backward: dy must have shape",
    ),
    (
        lambda: after_forward(linear(), 4, 3).backward(x(4, 3)),
        ValueError,
        r"dy must have shape \(4, 2\), got \(4, 3\)",
    ),
    (
        lambda: after_forward(linear(), 4, 3).backward([1]),
        TypeError,
        r"Linear\.backward: dy must be a NumPy array",
    ),
    (
        lambda: after_forward(nn.BatchNorm1d(3), 4, 3).backward(x(3)),
        ValueError,
        r"dy must have shape \(4, 3\)",
    ),
    (
        lambda: after_forward(nn.ReLU(), 4, 3).backward(x(4)),
        ValueError,
        r"ReLU\.backward: dy must have shape \(4, 3\)",
    ),
    (lambda: nn.Dropout().backward(x(4, 3)), RuntimeError, r"Dropout\.backward: no training-mode forward"),
    (lambda: nn.Flatten().backward(x(4, 3)), RuntimeError, r"Flatten\.backward: no training-mode forward"),
    (
        lambda: nn.Residual(nn.ReLU()).backward(x(4, 3)),
        RuntimeError,
        r"Residual\.backward: no training-mode forward",
    ),
    (
        lambda: after_forward(nn.Dropout(), 4, 3).backward(x(3, 4)),
        ValueError,
        r"Dropout\.backward: dy must have shape \(4, 3\), got \(3, 4\)",
    ),
    (
        lambda: after_forward(nn.Flatten(), 4, 3, 2).backward(x(4, 3, 2)),
        ValueError,
        r"Flatten\.backward: dy must have shape \(4, 6\), got \(4, 3, 2\)",
    ),
    (
        lambda: after_forward(nn.Residual(nn.ReLU()), 4, 3).backward(x(3)),
        ValueError,
        r"Residual\.backward: dy must have shape \(4, 3\), got \(3,\)",
    ),
    (
        lambda: after_forward(linear(), 2, 4, 3).backward(x(8, 2)),
        ValueError,
        r"dy must have shape \(2, 4, 2\), got \(8, 2\)",
    ),
    # ---- parameters
    (lambda: nn.Parameter([1.0]), TypeError, r"Parameter: value must be a NumPy array, got list"),
    (lambda: nn.Parameter(x(2, dtype=complex)), TypeError, r"Parameter: value must hold real numbers"),
    (
        lambda: setattr(parameter(), "data", x(3, 2)),
        ValueError,
        r"'w': data must have shape \(2, 3\), got \(3, 2\)",
    ),
    (lambda: setattr(parameter(), "data", x(3)), ValueError, r"Parameter 'w': data must have shape"),
    (lambda: setattr(parameter(), "data", 0.0), TypeError, r"'w': data must be a NumPy array, got float"),
    (
        lambda: setattr(parameter(), "data", x(2, 3, dtype=complex)),
        TypeError,
        r"'w': data must hold real numbers",
    ),
    (
        lambda: setattr(parameter(), "grad", x(1, 1)),
        ValueError,
        r"Parameter 'w': grad must have shape \(2, 3\)",
    ),
    (lambda: setattr(parameter(), "grad", None), TypeError, r"Parameter 'w': grad must be a NumPy array"),
    # ---- models as objects
    (lambda: linear().reset_parameters(None, {"b": init.Zeros()}), ValueError, r"init names no parameter: b"),
    (
        lambda: linear().reset_parameters(0, [init.Zeros()]),
        TypeError,
        r"init must be a dict of names to init",
    ),
    (
        lambda: linear().reset_parameters(0, {"weight": "zeros"}),
        TypeError,
        r"Parameter 'weight': init must be an initializer such as .*, got 'zeros'",
    ),
    (lambda: nn.Linear(2, 2, weight_init=init.Zeros), TypeError, r"'weight': init must be an init.*Zeros'>"),
    (lambda: nn.Linear(2, 2, bias_init=0), TypeError, r"'bias': init must be an initializer .*, got 0"),
    (lambda: linear().reset_parameters("0"), TypeError, r"reset_parameters: seed must be a whole number"),
    (
        lambda: linear().load_state_dict([]),
        TypeError,
        r"Linear\.load_state_dict: expected a mapping .*, got list",
    ),
    (lambda: linear().load_state_dict({}), ValueError, r"missing 'bias'; missing 'weight'"),
    (
        lambda: linear().load_state_dict({}, layout="torch"),
        ValueError,
        r"layout must be \"fastnn\" or \"pytorch\", got 'torch'",
    ),
    (lambda: linear().load_state_dict(linear()), TypeError, r"got Linear; pass its state_dict\(\)"),
    (lambda: linear().load_state_dict({1: x(1)}, layout="pytorch"), ValueError, r"unexpected 1"),
    (lambda: linear().to("gpu"), ValueError, r"Linear\.to: device must be \"cpu\" or \"cuda\", got 'gpu'"),
    (lambda: linear().to(None), ValueError, r"Linear\.to: device must be"),
    (lambda: linear().to("cuda"), fastnn.CudaError, r"Linear\.to: device \"cuda\" cannot be used: \w+"),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), ROWS, ids=[f"{i}-{row[2][:40]}" for i, row in enumerate(ROWS)]
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error
