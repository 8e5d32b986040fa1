"""PyTorch on the CPU, each operation as its users get it fastest: `out=`, fused optimizers, no autograd where
none is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cases.activations import SELU_ALPHA, SELU_SCALE, SLOPE
from cases.batch_norm import EPS, MOMENTUM
from cases.case import Arrays
from cases.losses import P, dropout_results
from cases.networks import one_of_many
from cases.updates import DECAY
from peers.job_commands import commands
from peers.peer import Prepared
from peers.torch_network import Job, network

aten = torch.ops.aten
COMMANDS = commands(Job)


def describe(threads: int) -> dict[str, Any]:
    """The version and the instruction set PyTorch chose."""
    torch.set_num_threads(threads)
    return {"version": torch.__version__, "detail": f"{torch.backends.cpu.get_cpu_capability()}, eager"}


def own(v: Arrays) -> dict[str, Tensor]:
    """The inputs in PyTorch's own memory, aligned as it likes."""
    return {key: torch.from_numpy(a).clone() for key, a in v.items()}


def shown(results: Mapping[str, Tensor]) -> Arrays:
    return {key: t.detach().numpy() for key, t in results.items()}


def gemm(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    t = own(v)
    a = t["a"].T if sizes["trans_a"] else t["a"]
    b = t["b"].T if sizes["trans_b"] else t["b"]
    c = torch.empty((sizes["m"], sizes["n"]))
    if "bias" not in t:
        return Prepared(lambda: torch.mm(a, b, out=c), lambda: shown({"c": c}))
    bias = t["bias"]
    return Prepared(lambda: torch.addmm(bias, a, b, out=c).relu_(), lambda: shown({"c": c}))


def linear_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    t = own(v)
    dy, x, w = t["dy"], t["x"], t["w"]
    found = {"dx": torch.empty_like(x), "dw": torch.empty_like(w), "db": torch.empty(len(w[0]))}

    def call() -> None:
        torch.mm(dy, w.T, out=found["dx"])
        torch.mm(x.T, dy, out=found["dw"])
        torch.sum(dy, 0, out=found["db"])

    return Prepared(call, lambda: shown(found))


def gemm_bf16(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared | None:
    """No large products where oneDNN has none: without AVX-512, 1024^3 takes PyTorch three seconds."""
    if sizes["m"] > 128 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    a, b = (t.bfloat16() for t in own(v).values())
    c = torch.empty((sizes["m"], sizes["n"]), dtype=torch.bfloat16)
    return Prepared(lambda: torch.mm(a, b, out=c), lambda: shown({"c": c.float()}))


# kind -> (function of x and out, function of dy, x, y and out)
ACTIVATIONS: dict[str, tuple[Any, Any]] = {
    "relu": (
        lambda x, out: torch.clamp_min(x, 0, out=out),
        lambda dy, x, y, out: aten.threshold_backward.grad_input(dy, y, 0, grad_input=out),
    ),
    "leaky_relu": (
        lambda x, out: aten.leaky_relu.out(x, SLOPE, out=out),
        lambda dy, x, y, out: aten.leaky_relu_backward.grad_input(dy, x, SLOPE, False, grad_input=out),
    ),
    "sigmoid": (
        lambda x, out: torch.sigmoid(x, out=out),
        lambda dy, x, y, out: aten.sigmoid_backward.grad_input(dy, y, grad_input=out),
    ),
    "tanh": (
        lambda x, out: torch.tanh(x, out=out),
        lambda dy, x, y, out: aten.tanh_backward.grad_input(dy, y, grad_input=out),
    ),
    "gelu": (
        lambda x, out: aten.gelu.out(x, out=out),
        lambda dy, x, y, out: aten.gelu_backward.grad_input(dy, x, grad_input=out),
    ),
    "gelu_tanh": (
        lambda x, out: aten.gelu.out(x, approximate="tanh", out=out),
        lambda dy, x, y, out: aten.gelu_backward.grad_input(dy, x, approximate="tanh", grad_input=out),
    ),
    "silu": (
        lambda x, out: aten.silu.out(x, out=out),
        lambda dy, x, y, out: aten.silu_backward.grad_input(dy, x, grad_input=out),
    ),
    "elu": (
        lambda x, out: aten.elu.out(x, 1, 1, 1, out=out),
        lambda dy, x, y, out: aten.elu_backward.grad_input(dy, 1, 1, 1, True, y, grad_input=out),
    ),
    "selu": (
        lambda x, out: aten.elu.out(x, SELU_ALPHA, SELU_SCALE, 1, out=out),
        lambda dy, x, y, out: aten.elu_backward.grad_input(
            dy, SELU_ALPHA, SELU_SCALE, 1, True, y, grad_input=out
        ),
    ),
    "softplus": (
        lambda x, out: aten.softplus.out(x, 1, 20, out=out),
        lambda dy, x, y, out: aten.softplus_backward.grad_input(dy, x, 1, 20, grad_input=out),
    ),
}


def activation(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    x, function = own(v)["x"], ACTIVATIONS[sizes["kind"]][0]
    y = torch.empty_like(x)
    return Prepared(lambda: function(x, y), lambda: shown({"y": y}))


def activation_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    t, function = own(v), ACTIVATIONS[sizes["kind"]][1]
    dy, x, y, dx = t["dy"], t["x"], t["y"], torch.empty_like(t["x"])
    return Prepared(lambda: function(dy, x, y, dx), lambda: shown({"dx": dx}))


def batch_norm(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    t = own(v)
    x, gamma, beta = t["x"], t["gamma"], t["beta"]
    running_mean, running_var = torch.zeros_like(gamma), torch.ones_like(gamma)
    results: dict[str, Tensor] = {"running_mean": running_mean, "running_var": running_var}
    relu = sizes["relu"]

    def call() -> None:
        y = torch.native_batch_norm(x, gamma, beta, running_mean, running_var, True, MOMENTUM, EPS)[0]
        results["y"] = y.relu_() if relu else y

    return Prepared(call, lambda: shown(results))


def batch_norm_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    t = own(v)
    x, dy, gamma = t["x"], t["dy"], t["gamma"]
    _, mean, rstd = torch.native_batch_norm(x, gamma, t["beta"], None, None, True, MOMENTUM, EPS)
    y = t["y"] if sizes["relu"] else None
    results: dict[str, Tensor] = {}

    def call() -> None:
        masked = dy if y is None else aten.threshold_backward(dy, y, 0)
        results["dx"], results["dgamma"], results["dbeta"] = aten.native_batch_norm_backward(
            masked, x, gamma, None, None, mean, rstd, True, EPS, [True, True, True]
        )

    return Prepared(call, lambda: shown(results))


def batch_norm_both(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    t = own(v)
    x, dy, gamma, beta = t["x"], t["dy"], t["gamma"], t["beta"]
    running_mean, running_var = torch.zeros_like(gamma), torch.ones_like(gamma)
    results: dict[str, Tensor] = {}

    def call() -> None:
        results["y"], mean, rstd = torch.native_batch_norm(
            x, gamma, beta, running_mean, running_var, True, MOMENTUM, EPS
        )
        results["dx"], results["dgamma"], results["dbeta"] = aten.native_batch_norm_backward(
            dy, x, gamma, running_mean, running_var, mean, rstd, True, EPS, [True, True, True]
        )

    return Prepared(call, lambda: shown(results))


def update(v: Arrays, sizes: Mapping[str, Any], make: Any) -> Prepared:
    """The `step` of the optimizer that `make` makes, on parameters whose gradients stay as they are."""
    t = own(v)
    params = [t[f"p{i}"].requires_grad_() for i in range(sizes["arrays"])]
    for i, p in enumerate(params):
        p.grad = t[f"g{i}"]
    return Prepared(make(params).step, lambda: shown({f"p{i}": p for i, p in enumerate(params)}))


def adam(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return update(v, sizes, lambda params: torch.optim.Adam(params, lr=lr, fused=True))


def rmsprop(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return update(
        v, sizes, lambda params: torch.optim.RMSprop(params, lr=lr, alpha=0.9, eps=1e-8, foreach=True)
    )


def momentum(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return update(v, sizes, lambda params: torch.optim.SGD(params, lr=lr, momentum=0.9, fused=True))


def sgd(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return update(v, sizes, lambda params: torch.optim.SGD(params, lr=lr, fused=True))


def adagrad(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return update(v, sizes, lambda params: torch.optim.Adagrad(params, lr=lr, fused=True))


def adamw(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return update(v, sizes, lambda params: torch.optim.AdamW(params, lr=lr, weight_decay=DECAY, fused=True))


def softmax_cross_entropy(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    """What autograd runs for `cross_entropy` and its backward, without autograd."""
    t = own(v)
    logits, labels, one = t["logits"], t["labels"], torch.ones(())
    results: dict[str, Tensor] = {}

    def call() -> None:
        log_p = torch.log_softmax(logits, 1)
        value, weight = aten.nll_loss_forward(log_p, labels, None, 1, -100)
        dlog_p = aten.nll_loss_backward(one, log_p, labels, None, 1, -100, weight)
        gradient = aten._log_softmax_backward_data(dlog_p, log_p, 1, torch.float32)
        results.update(value=value, gradient=gradient)

    return Prepared(call, lambda: shown(results))


def sigmoid_cross_entropy(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    t = own(v)
    logits, targets = t["logits"], t["targets"]
    results: dict[str, Tensor] = {}

    def call() -> None:
        results["value"] = aten.binary_cross_entropy_with_logits(logits, targets)
        results["gradient"] = torch.sigmoid(logits).sub_(targets).div_(logits.numel())

    return Prepared(call, lambda: shown(results))


def _loss(
    v: Arrays, forward: Callable[..., Tensor], backward: Callable[..., Tensor], *more: float
) -> Prepared:
    """A mean over all elements and its gradient; both functions take `more` after the reduction."""
    t = own(v)
    pred, target, one = t["pred"], t["target"], torch.ones(())
    results: dict[str, Tensor] = {}

    def call() -> None:
        results["value"] = forward(pred, target, 1, *more)
        results["gradient"] = backward(one, pred, target, 1, *more)

    return Prepared(call, lambda: shown(results))


def mse(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return _loss(v, aten.mse_loss, aten.mse_loss_backward)


def huber(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    return _loss(v, aten.huber_loss, aten.huber_loss_backward, 1.0)


def dropout(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    x = own(v)["x"]
    results: dict[str, Tensor] = {}

    def call() -> None:
        results["y"], results["mask"] = torch.native_dropout(x, P, True)

    return Prepared(call, lambda: dropout_results(v["x"], results["y"].numpy()))


def dropout_backward(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    t = own(v)
    dy, mask = t["dy"], torch.native_dropout(t["x"], P, True)[1]
    results: dict[str, Tensor] = {}

    def call() -> None:
        results["dx"] = aten.native_dropout_backward(dy, mask, 1 / (1 - P))

    return Prepared(call, lambda: dropout_results(v["dy"], results["dx"].numpy()))


def losses_of(sizes: Mapping[str, Any], model: torch.nn.Module) -> Any:
    """From a batch to its loss."""
    loss = torch.nn.functional.mse_loss if sizes["mse"] else torch.nn.functional.cross_entropy
    return lambda x, y: loss(model(x), y)


def train_step(
    v: Arrays,
    sizes: Mapping[str, Any],
    lr: float,
    compiled: Any = lambda function: function,
    autocast: bool = False,
) -> Prepared:
    """`compiled`: what the function from a batch to its loss goes through. `autocast`: in bfloat16."""
    t = own({key: v[key] for key in ("X", "Y", "order")})
    model = network(v, sizes)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    loss_of = compiled(losses_of(sizes, model))
    x = torch.empty((sizes["batch"], t["X"].shape[1]))
    values: list[float] = []

    def call() -> None:
        rows = t["order"][len(values) % len(t["order"])]
        torch.index_select(t["X"], 0, rows, out=x)
        with torch.autocast("cpu", torch.bfloat16) if autocast else nullcontext():
            loss = loss_of(x, t["Y"][rows])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        values.append(loss.item())

    return Prepared(call, lambda: {"losses": np.array(values)})


def train_step_bf16(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared | None:
    """Not where oneDNN has no such products (see `gemm_bf16`)."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return None
    return train_step(v, sizes, lr, autocast=True)


def many_steps(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared:
    """One network after another; the rows are gathered once for all."""
    t = own({key: v[key] for key in ("X", "Y", "order")})
    models = [network(one_of_many(v, k), sizes) for k in range(sizes["networks"])]
    optimizers = [torch.optim.Adam(model.parameters(), lr=lr, fused=True) for model in models]
    values: list[list[float]] = []

    def call() -> None:
        rows = t["order"][len(values) % len(t["order"])]
        x, y = t["X"][rows], t["Y"][rows]
        values.append([])
        for model, optimizer in zip(models, optimizers, strict=True):
            loss = torch.nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            values[-1].append(loss.item())

    return Prepared(call, lambda: {"mean_losses": np.mean(values, 0)})


swept_step = train_step
