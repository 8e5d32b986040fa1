"""The trainer of a command line: which class of the library each value of an option names."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from fastnn import data, init, losses, nn, optim, schedulers
from fastnn._arrays import Array
from fastnn._cli.rows import Known
from fastnn.preprocessing import StandardScaler
from fastnn.trainer import Trainer

Options = Mapping[str, Any]

OPTIMIZERS: dict[str, type[optim.Optimizer]] = {
    "sgd": optim.SGD,
    "momentum": optim.Momentum,
    "rmsprop": optim.RMSProp,
    "adagrad": optim.AdaGrad,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
    "rprop": optim.Rprop,
}
RATES = {"sgd": 0.1, "momentum": 0.01}  # the others have one of their own
CLASSIFICATION = {"cross-entropy": losses.CrossEntropyLoss}
REGRESSION = {"mse": losses.MSELoss, "quadratic": losses.QuadraticCost, "huber": losses.HuberLoss}
ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky-relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "softplus": nn.Softplus,
}
INITIALIZERS: dict[str, Callable[[], init.Initializer]] = {
    "kaiming-uniform": init.KaimingUniform,
    "kaiming-normal": init.KaimingNormal,
    "xavier-uniform": init.XavierUniform,
    "xavier-normal": init.XavierNormal,
    "scaled": init.LecunNormal,
    "standard-normal": lambda: init.Normal(0.0, 1.0),
    "orthogonal": init.Orthogonal,
    "zeros": init.Zeros,
}
# (rate, updates) -> what an optimizer takes as lr
SCHEDULES: dict[str, Callable[[float, int], Any]] = {
    "constant": lambda lr, _: lr,
    "linear": lambda lr, steps: schedulers.LinearDecay(lr, steps, 0.0),
    "cosine": lambda lr, steps: schedulers.CosineAnnealingDecay(lr, T_max=steps, after="hold"),
    "step": lambda lr, steps: schedulers.StepDecay(lr, step_size=-(-steps // 3), gamma=0.1),
    "one-cycle": lambda lr, steps: schedulers.OneCycle(lr, steps),
    "plateau": lambda lr, _: schedulers.ReduceOnPlateau(lr),
}


def build_trainer(options: Options, known: Known, X: Array, device: str) -> Trainer:
    """The trainer for these rows; the scaling of X is the model's first layer."""
    model = _model(options, known, X)
    optimizer = _optimizer(options, model, data.steps_per_epoch(len(X), options["batch_size"]))
    return Trainer(model, _loss(options, known), optimizer, device=device, seed=options["seed"])


def trainer_of(model: nn.Module, options: Options, known: Known, device: str) -> Trainer:
    """A trainer that only evaluates and predicts."""
    return Trainer(model, _loss(options, known), optim.SGD(model.parameters(), lr=1.0), device=device)


def finished(model: nn.Module, scaler: StandardScaler | None) -> nn.Module:
    """A copy for use: in evaluation mode, and in the units of the target, which the scaler took away."""
    done = copy.deepcopy(model).eval()
    if scaler is not None:
        last = [module for module in done.modules() if isinstance(module, nn.Linear)][-1]
        assert last.bias is not None
        last.weight.data = last.weight.data * scaler.scale_
        last.bias.data = last.bias.data * scaler.scale_ + scaler.mean_
    return done


def _model(options: Options, known: Known, X: Array) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()] if X.ndim > 2 else []
    if options["scale"]:
        layers.append(nn.Standardize(StandardScaler().fit(X.reshape(len(X), -1))))
    weight_init = INITIALIZERS[options["init"]]
    width = X[0].size
    for wanted in options["layers"]:
        layers.append(nn.Linear(width, wanted, not options["batch_norm"], weight_init=weight_init()))
        if options["batch_norm"]:
            layers.append(nn.BatchNorm1d(wanted))
        layers.append(ACTIVATIONS[options["activation"]]())
        if options["keep"] < 1.0:
            layers.append(nn.Dropout(keep=options["keep"]))
        width = wanted
    layers.append(nn.Linear(width, known.outputs, weight_init=weight_init()))
    return nn.Sequential(*layers, seed=options["seed"])


def _loss(options: Options, known: Known) -> Any:
    costs = REGRESSION if known.classes is None else CLASSIFICATION
    name = options["cost"] or next(iter(costs))
    if name not in costs:
        task, other = "classification", "regression"
        if known.classes is None:
            task, other = other, task
        raise ValueError(
            f"--cost {name} is for {other}, and the target means {task}; choose {' or '.join(costs)}, "
            f"or pass --task {other}"
        )
    return costs[name]()


def _optimizer(options: Options, model: nn.Sequential, steps_per_epoch: int) -> optim.Optimizer:
    name = options["optimizer"]
    made = OPTIMIZERS[name]
    taken = inspect.signature(made).parameters
    rate = options["lr"]
    if rate is None:
        rate = RATES[name] if name in RATES else taken["lr"].default
    updates = options["epochs"] * steps_per_epoch
    warmup = options["warmup_steps"]
    if warmup >= updates:
        raise ValueError(f"--warmup-steps must be below the {updates} updates of the run, got {warmup}")
    schedule = SCHEDULES[options["schedule"]](rate, updates - warmup)
    if warmup:
        schedule = schedulers.LinearWarmup(schedule, warmup)
    further = {key: options[key] for key in ("momentum", "weight_decay", "clip") if options[key] is not None}
    if "momentum" in further and "momentum" not in taken:
        raise ValueError(f"--momentum is for --optimizer momentum and rmsprop, got {name}")
    return made(model.parameters(), lr=schedule, **further)
