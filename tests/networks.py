"""Networks, losses, optimizers and rows drawn at random, and the plain loop that training is held to."""

import copy
from dataclasses import dataclass
from typing import Any

import fastnn
import numpy as np
from draws import Source
from fastnn import data, losses, nn, optim, preprocessing, schedulers
from fastnn._queue import QueuedLoss
from runs import assert_equal_tree

# ---- layers

ACTIVATIONS = (
    *(nn.ReLU, nn.LeakyReLU, lambda: nn.LeakyReLU(0.2), nn.Sigmoid, nn.Tanh, nn.GELU, nn.SiLU, nn.SELU),
    *(lambda: nn.GELU("tanh"), nn.ELU, lambda: nn.ELU(0.5), nn.Softplus, nn.Identity),
)


def batch_norm(source, width):
    debias = source.flag()
    return nn.BatchNorm1d(
        width,
        eps=source.choose(1e-5, 1e-3, 0.1),
        momentum=source.choose(0.1, 0.3, 1.0) if debias else source.choose(0.1, 0.3, 0.0, 1.0),
        running_var=source.choose("unbiased", "biased"),
        debias=debias,
    )


def dropout(source):
    if source.flag():
        return nn.Dropout(source.choose(0.5, 0.1, 0.25, 0.0, 1.0))
    return nn.Dropout(keep=source.choose(0.8, 1.0))


class Chain:
    """Layers one after the other, drawn for `width` columns; `flat`: x has two axes."""

    def __init__(self, source, width, flat, depth, largest):
        self.source, self.width, self.flat, self.depth, self.largest = source, width, flat, depth, largest
        self.layers = []

    def linear(self, width=None):
        width = width or self.source.size(1, self.largest)
        self.layers.append(nn.Linear(self.width, width, bias=self.source.flag()))
        self.width = width

    def inner(self):
        chain = Chain(self.source, self.width, self.flat, self.depth - 1, self.largest)
        for _ in range(self.source.integer(1, 3)):
            chain.draw()
        return chain

    def residual(self):
        source, chain = self.source, self.inner()
        if chain.width != self.width and source.flag():
            chain.linear(self.width)
        block = chain.layers[0] if len(chain.layers) == 1 and source.flag() else nn.Sequential(*chain.layers)
        shortcut = source.choose(None, nn.Identity(), nn.Linear(self.width, chain.width))
        if chain.width != self.width:
            shortcut = nn.Sequential(nn.Linear(self.width, chain.width, bias=False), nn.Tanh())
        normed = any(isinstance(module, nn.BatchNorm1d) for module in block.modules())
        self.layers.append(nn.Residual(block, shortcut, zero_gamma=normed and source.flag()))
        self.width = chain.width

    def draw(self):
        kinds = ("linear", "linear", "batch_norm", "activation", "activation", "dropout", "standardize")
        kind = self.source.choose(*kinds, *(("residual", "nested") if self.depth else ()))
        if kind == "linear":
            self.linear()
        elif kind == "batch_norm":
            self.layers.append(batch_norm(self.source, self.width))
        elif kind == "activation":
            self.layers.append(self.source.choose(*ACTIVATIONS)())
        elif kind == "dropout":
            self.layers.append(dropout(self.source))
        elif kind == "standardize":
            # In the middle of a network it is a layer like any other.
            rows = self.source.values((5, self.width), ("normal",))
            self.layers.append(nn.Standardize(preprocessing.StandardScaler().fit(rows)))
        elif kind == "residual":
            self.residual()
        else:
            chain = self.inner()
            self.layers.append(nn.Sequential(*chain.layers))
            self.width = chain.width


def network(source, X, largest, flat):
    """A model for the rows X (`flat`: with results of two axes), in training mode, and its width."""
    chain = Chain(source, X.shape[-1], X.ndim == 2, 2, largest)
    flatten = [True] if X.ndim == 3 and flat else []
    if source.integer(0, 3) == 0:
        scaler = source.choose(preprocessing.StandardScaler, preprocessing.MinMaxScaler)()
        chain.layers.append(nn.Standardize(scaler.fit(X.reshape(-1, X.shape[-1]))))
    for _ in range(source.integer(0, 4)):
        if flatten and source.flag():
            chain.layers.append(nn.Flatten())
            chain.width *= X.shape[1]
            chain.flat = bool(flatten.pop())
        chain.draw()
    if flatten:
        chain.layers.append(nn.Flatten())
        chain.width *= X.shape[1]
    if not any(layer.parameters() for layer in chain.layers) or source.integer(0, 4):
        chain.linear(source.choose(None, 1))
    alone = len(chain.layers) == 1 and source.flag()
    model = chain.layers[0] if alone else nn.Sequential(*chain.layers)
    model.reset_parameters(source.integer(0, 2**32 - 1))
    if source.flag():  # away from biases of 0 and gammas of 1
        for parameter in model.parameters():
            parameter.data = parameter.data + 0.1 * source.values(parameter.data.shape, ("normal",))
    return model, chain.width


# ---- losses and their targets

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", ">i4", ">u8")
FLOATS = ("float32", "float64", "float16", ">f8")


def ids(source, rng, n, width, spare):
    """Class ids, of which less than `spare` are ignored, and the loss for them."""
    smoothing = source.choose(0.0, 0.1)
    ignored = source.choose(None, -1, width - 1 if width > 1 else None)
    dtypes = INTEGERS[:4] if ignored == -1 else INTEGERS
    labels = rng.integers(0, width - (ignored == width - 1), n)
    if ignored is not None:
        labels[rng.permutation(n)[: source.integer(0, spare - 1)]] = ignored
    loss = losses.CrossEntropyLoss(label_smoothing=smoothing, ignore_index=ignored)
    return loss, labels.astype(source.choose(*dtypes))


def targets(source, shape, spare):
    """A loss for results of this shape, targets, sample weights; every `spare` rows hold one that counts."""
    rng = np.random.default_rng(source.integer(0, 2**32 - 1))
    n, width = shape[0], shape[-1]
    kinds = (losses.MSELoss, losses.HuberLoss, losses.QuadraticCost, losses.BCEWithLogitsLoss)
    kind = source.choose(*kinds, *(("ids", "ids", "probabilities") if len(shape) == 2 else ()))
    if kind == "ids":
        loss, target = ids(source, rng, n, width, spare)
        spare -= int(np.sum(target == loss.ignore_index)) if loss.ignore_index is not None else 0
    elif kind == "probabilities":
        loss = losses.CrossEntropyLoss(label_smoothing=source.choose(0.0, 0.2))
        target = rng.dirichlet(np.ones(width), n).astype(source.choose(*FLOATS))
    elif kind is losses.BCEWithLogitsLoss:
        whole = source.flag()
        target = rng.integers(0, 2, shape) if whole else rng.random(shape)
        loss, target = kind(), target.astype(source.choose(*(("bool", *INTEGERS) if whole else FLOATS)))
    else:
        loss = kind(delta=source.choose(1.0, 0.3)) if kind is losses.HuberLoss else kind()
        target = rng.standard_normal(shape)
        target = np.round(np.abs(target)).astype("int8") if source.flag() else target
        target = target.astype(
            source.choose(*FLOATS) if target.dtype.kind == "f" else source.choose(*INTEGERS)
        )
    if target.shape == (n, 1) and kind != "probabilities" and source.flag():
        target = target[:, 0]
    weight = None
    if source.flag():
        dtype = source.choose("float32", "float64", "int64")
        weight = (rng.integers(1, 5, n) if dtype == "int64" else rng.random(n) + 0.1).astype(dtype)
        weight[rng.permutation(n)[: source.integer(0, spare - 1)]] = 0
    return loss, target, weight


# ---- optimizers

CLIPS = (None, 0.5, 1e3, optim.ClipByGlobalNorm(0.05), optim.ClipByValue(0.01), optim.ClipByNorm(0.1))
COMMON = {
    "weight_decay": (0.1, 0.01),
    "l1": (0.01,),
    "decay": ("all",),
    "decay_to": ("init",),
    "grad_noise": ((0.01, 0.55), (0.001, 0.0, 7)),
}
HALVED = schedulers.StepDecay(0.9, 2, gamma=0.5)
OWN = {
    optim.SGD: {},
    optim.Momentum: {
        "momentum": (0.0, 0.5, HALVED),
        "nesterov": (True,),
        "style": ("velocity",),
        "dampening": (0.4,),
    },
    optim.RMSProp: {
        "rho": (0.5, 0.99),
        "eps": (1e-4,),
        "centered": (True,),
        "momentum": (0.5, HALVED),
        "eps_mode": ("inside",),
        "initial_accumulator": (0.1,),
    },
    optim.AdaGrad: {"eps": (1e-4,), "eps_mode": ("inside",), "initial_accumulator": (0.1,)},
    optim.Adam: {
        "betas": ((0.5, 0.9), (HALVED, 0.99)),
        "eps": (1e-4,),
        "amsgrad": (True,),
        "eps_mode": ("inside", "hat"),
    },
    optim.Rprop: {"etas": ((0.4, 1.5),), "step_sizes": ((1e-5, 0.02),)},
}
OWN[optim.AdamW] = OWN[optim.Adam]


def rate(source):
    size = source.choose(0.01, 0.003)
    return source.choose(
        size,
        size,
        lambda t: size / (1 + t),
        schedulers.LinearWarmup(schedulers.CosineAnnealingDecay(size, 8), 3),
        schedulers.PerEpoch(schedulers.StepDecay(size, 1, gamma=0.5), steps_per_epoch=2),
        schedulers.OneCycle(size, 20),
        schedulers.PiecewiseDecay([2, 5], [size, size / 2, size / 4]),
        schedulers.Sequence(
            [schedulers.ExponentialDecay(size, 0.9), schedulers.LinearDecay(size, 4, 1e-4)], [3]
        ),
    )


def options(source, choices):
    """About a third of the options, each with one of its values."""
    made = {name: source.choose(*values) for name, values in choices.items() if source.integer(0, 2) == 0}
    if made.get("nesterov"):
        made["dampening"] = 0.0
    return made


def optimizer(source, model):
    """Some or all parameters of the model in one or two groups, some of them frozen."""
    parameters = model.parameters()
    if len(parameters) > 1 and source.integer(0, 5) == 0:
        parameters.pop(source.integer(0, len(parameters) - 1))
    if len(parameters) > 1 and source.integer(0, 3) == 0:
        for parameter in parameters[1:]:
            parameter.trainable = source.flag()
    kind = source.choose(*OWN)
    choices = {**COMMON, **OWN[kind]}
    groups = parameters
    if source.integer(0, 2) == 0:
        at = source.integer(0, len(parameters))
        second = {"lr": rate(source), **options(source, choices)}
        groups = [{"params": parameters[:at]}, {"params": parameters[at:], **second}]
        if "dampening" in OWN[kind]:
            groups[1].setdefault("nesterov", False)  # whatever the first group has
            groups[1].setdefault("dampening", 0.0)
    return kind(
        groups,
        lr=rate(source),
        clip=source.choose(*CLIPS, optim.AdaptiveClip(0.05)),
        nonfinite=source.choose("raise", "skip", "ignore"),
        like=source.choose(None, None, "pytorch", None if kind is optim.Rprop else "keras"),
        **options(source, choices),
    )


# ---- all together


@dataclass
class Plain:
    """The loop of one who has no Trainer."""

    model: nn.Module
    loss: Any
    optimizer: Any

    def step(self, x, y, weight=None):
        if not self.model.training:
            self.model.train()
        value, gradient = self.loss(self.model(x), y, weight)
        self.model.backward(gradient, input_grad=False)
        self.optimizer.step()
        return value


@dataclass
class Problem:
    """A network with a loss, an optimizer and rows."""

    model: nn.Module
    loss: Any
    optimizer: Any
    X: np.ndarray
    Y: np.ndarray
    weight: np.ndarray | None
    batch_size: int

    def _copies(self):
        return copy.deepcopy((self.model, self.loss, self.optimizer))

    def plain(self):
        return Plain(*self._copies())

    def trainer(self, **given):
        return fastnn.Trainer(*self._copies(), **given)

    def batches(self, epoch, **given):
        """Those of `fit`: (x, y, weight), a lone last row joined to the batch before with batch-norm."""
        rows = np.arange(len(self.X))
        chosen = [x for x, _ in data.batches(rows, rows, self.batch_size, epoch=epoch, **given)]
        batch_norm = any(isinstance(module, nn.BatchNorm1d) for module in self.model.modules())
        if batch_norm and len(chosen) > 1 and len(chosen[-1]) == 1:
            chosen[-2:] = [np.concatenate(chosen[-2:])]
        return [
            (self.X[rows], self.Y[rows], None if self.weight is None else self.weight[rows])
            for rows in chosen
        ]


def draw(source):
    """A problem of the numbers that the source draws; one in twelve is large enough for several threads."""
    largest, rows = (90, 200) if source.integer(0, 11) == 11 else (source.choose(8, 20, 36), 24)
    n = source.integer(2, rows)
    batch_size = source.integer(max(2, n // 4), n + 3)
    flat = source.integer(0, 3) != 3
    middle = (source.integer(1, 4),) if not flat or source.integer(0, 3) == 3 else ()
    X = source.input((n, *middle, source.size(1, largest)), "normal", "integer")
    model, width = network(source, X, largest, flat)
    shape = (n, width) if flat or not middle else (n, *middle, width)
    loss, Y, weight = targets(source, shape, n % batch_size or batch_size)
    return Problem(model, loss, optimizer(source, model), X, Y, weight, batch_size)


def seeded(seed):
    """The problem of a seed."""
    rng = np.random.default_rng(seed)
    return draw(Source(lambda low, high: int(rng.integers(low, high, endpoint=True))))


# Small ones which together hold every layer, loss, rule and clip: for steps and for fits on a device.
DEVICE_STEPS = [0, 2, 3, 23, 41, 54, 103, 131, 133, 182, 190, 191, 192, 319, 699, 771]
DEVICE_FITS = [1, 3, 23, 54, 133, 182, 319, 699, 771]


def state(run):
    """All that the further course depends on; every NaN is the same one."""

    def plain(tree):
        if isinstance(tree, dict):
            return {key: plain(value) for key, value in tree.items()}
        return np.where(np.isnan(tree), np.float32(np.nan), tree) if isinstance(tree, np.ndarray) else tree

    counts = {
        name: {key: getattr(module, key) for key in module.counters}
        for name, module in run.model.named_modules()
    }
    return plain({"model": run.model.state_dict(), "optimizer": run.optimizer.state_dict(), "counts": counts})


def assert_same_loss(got, want, what=""):
    """Up to rounding: a program sums an element-wise loss in other blocks than one call over all rows."""
    assert type(got) in (float, QueuedLoss)
    got = float(got)
    assert got == want or abs(got - want) <= 1e-6 * abs(want) or (np.isnan(got) and np.isnan(want)), (
        got,
        want,
        what,
    )


def assert_same_course(one, other, what=""):
    """Parameters, slots, running statistics and counters of two runs are equal bit for bit."""
    assert_equal_tree(state(one), state(other), what)
