"""Optimizers: they update parameters in place, one native call per step for each group of parameters.

`lr` is a number or a schedule: any function of the number of updates done so far (`fastnn.schedulers`).
Updates read the gradients that `backward` left in `Parameter.grad`; nothing has to be zeroed.

>>> import numpy as np
>>> from fastnn import nn, optim
>>> model = nn.Sequential(nn.Linear(2, 1), seed=0)
>>> opt = optim.Adam(model.parameters(), lr=lambda t: 0.1 / (1 + t))
>>> model.backward(np.ones_like(model(np.ones((4, 2), np.float32)))).shape
(4, 2)
>>> opt.step()
>>> opt.step_count, opt.lr
(1, 0.05)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

import numpy as np

from fastnn import ops
from fastnn._arrays import check_number
from fastnn._optimizer import Group, Lists, Optimizer, Rate
from fastnn._parameter import Parameter

__all__ = ["SGD", "AdaGrad", "Adam", "AdamW", "Momentum", "Optimizer", "RMSProp"]


class SGD(Optimizer):
    """Stochastic gradient descent: p -= lr * g.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> p = nn.Parameter(np.ones(2))
    >>> p.grad = np.array([1.0, -2.0])
    >>> optim.SGD([p], lr=0.5).step()
    >>> p.data.tolist()
    [0.5, 2.0]
    """

    def __init__(self, params: Iterable[Parameter] | Iterable[Group], lr: Rate) -> None:
        super().__init__(params, lr=lr)

    def _update(self, lists: Lists, group: Group, lr: float) -> None:
        ops.sgd_(lists.data, lists.grad, lr=lr)


class Momentum(Optimizer):
    """Gradient descent with momentum, in two styles that differ once the rate changes.

    "buffer" (PyTorch, PaddlePaddle, Optax, ONNX): v = momentum * v + g; p -= lr * v, with `nesterov`
    p -= lr * (g + momentum * v). "velocity" (the source documents, Keras, scikit-learn):
    v = momentum * v - lr * g; p += v, with `nesterov` p += momentum * v - lr * g. 0 <= momentum < 1.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> p = nn.Parameter(np.ones(1))
    >>> p.grad = np.ones(1)
    >>> opt = optim.Momentum([p], lr=lambda t: 0.1**(t + 1), style="velocity")
    >>> for _ in range(3):
    ...     opt.step()
    >>> round(p.data.item(), 6)
    0.709
    """

    slot_names = ("velocity",)

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Group],
        lr: Rate,
        momentum: float = 0.9,
        nesterov: bool = False,
        style: Literal["buffer", "velocity"] = "buffer",
    ) -> None:
        super().__init__(params, lr=lr, momentum=momentum, nesterov=nesterov, style=style)

    def _check(self, group: Group) -> None:
        super()._check(group)
        check_number(group["momentum"], "Momentum: momentum", 0, 1)
        if not isinstance(group["nesterov"], (bool, np.bool_)):
            raise TypeError(f"Momentum: nesterov must be True or False, got {group['nesterov']!r}")
        if group["style"] not in ("buffer", "velocity"):
            raise ValueError(f'Momentum: style must be "buffer" or "velocity", got {group["style"]!r}')

    def _update(self, lists: Lists, group: Group, lr: float) -> None:
        ops.momentum_(
            lists.data,
            lists.grad,
            lists.slots[0],
            lr=lr,
            momentum=group["momentum"],
            nesterov=group["nesterov"],
            style=group["style"],
        )


class RMSProp(Optimizer):
    """s = rho * s + (1 - rho) * g**2; p -= lr * g / (sqrt(s) + eps), with s starting at 0.

    eps stands outside the root, as in the source documents and PyTorch (whose `alpha` is `rho`, there 0.99);
    Keras, PaddlePaddle and Optax put it inside. 0 <= rho < 1, eps >= 0.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> p = nn.Parameter(np.ones(1))
    >>> p.grad = np.array([4.0])
    >>> optim.RMSProp([p], lr=0.1, rho=0.75, eps=0).step()
    >>> round(p.data.item(), 6)
    0.8
    """

    slot_names = ("square_avg",)

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Group],
        lr: Rate = 1e-2,
        rho: float = 0.9,
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, lr=lr, rho=rho, eps=eps)

    def _check(self, group: Group) -> None:
        super()._check(group)
        check_number(group["rho"], "RMSProp: rho", 0, 1)
        check_number(group["eps"], "RMSProp: eps", 0)

    def _update(self, lists: Lists, group: Group, lr: float) -> None:
        ops.rmsprop_(lists.data, lists.grad, lists.slots[0], lr=lr, rho=group["rho"], eps=group["eps"])


class AdaGrad(Optimizer):
    """s = s + g**2; p -= lr * g / (sqrt(s) + eps), with s starting at 0.

    eps stands outside the root, as in the source documents and PyTorch; Keras and Optax put it inside and
    start s at 0.1. The rate of each number only ever falls. eps >= 0.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> p = nn.Parameter(np.ones(1))
    >>> opt = optim.AdaGrad([p], lr=0.5)
    >>> for g in (3.0, 4.0):
    ...     p.grad = np.array([g])
    ...     opt.step()
    >>> round(p.data.item(), 6)
    0.1
    """

    slot_names = ("square_sum",)

    def __init__(
        self, params: Iterable[Parameter] | Iterable[Group], lr: Rate = 1e-2, eps: float = 1e-10
    ) -> None:
        super().__init__(params, lr=lr, eps=eps)

    def _check(self, group: Group) -> None:
        super()._check(group)
        check_number(group["eps"], "AdaGrad: eps", 0)

    def _update(self, lists: Lists, group: Group, lr: float) -> None:
        ops.adagrad_(lists.data, lists.grad, lists.slots[0], lr=lr, eps=group["eps"])


class Adam(Optimizer):
    """Adam with bias correction, as in the paper and in PyTorch.

    m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * g**2;
    p -= lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps), with t = 1 at the first step.

    betas = (b1, b2), each 0 <= b < 1; eps >= 0 (Keras and scikit-learn add it to the uncorrected root). A
    `weight_decay` > 0 first adds weight_decay * p to g (L2; `AdamW` is the decoupled form).
    `decay="weights"` leaves biases, gamma and beta alone (those whose `Parameter.decay` is False), "all"
    decays every parameter, as PyTorch does.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> p = nn.Parameter(np.ones(2))
    >>> p.grad = np.array([0.5, -3.0])
    >>> optim.Adam([p], lr=0.25).step()
    >>> p.data.round(6).tolist()
    [0.75, 1.25]
    """

    slot_names = ("m", "v")
    _decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Group],
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        decay: Literal["weights", "all"] = "weights",
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, decay=decay)

    def _check(self, group: Group) -> None:
        super()._check(group)
        name, betas = type(self).__name__, group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"{name}: betas must be two numbers (b1, b2), got {betas!r}")
        for i, beta in enumerate(betas):
            check_number(beta, f"{name}: betas[{i}]", 0, 1)
        check_number(group["eps"], f"{name}: eps", 0)
        check_number(group["weight_decay"], f"{name}: weight_decay", 0)
        if group["decay"] not in ("weights", "all"):
            raise ValueError(f'{name}: decay must be "weights" or "all", got {group["decay"]!r}')

    def _update(self, lists: Lists, group: Group, lr: float) -> None:
        beta1, beta2 = group["betas"]
        ops.adam_(
            lists.data,
            lists.grad,
            *lists.slots,
            step=self.step_count + 1,
            lr=lr,
            beta1=beta1,
            beta2=beta2,
            eps=group["eps"],
            weight_decay=group["weight_decay"] if lists.decays else 0.0,
            decoupled=self._decoupled,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter): p is multiplied by 1 - lr * weight_decay,
    then updated as by `Adam`, whose averages never see the decay.

    `decay="weights"` leaves biases, gamma and beta alone (those whose `Parameter.decay` is False); "all"
    decays every parameter, as PyTorch's `AdamW` does. The other arguments are those of `Adam`.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> p = nn.Parameter(np.full(2, 2.0))
    >>> p.grad = np.array([0.5, 0.0])
    >>> optim.AdamW([p], lr=0.25, weight_decay=0.5).step()
    >>> p.data.round(6).tolist()
    [1.5, 1.75]
    """

    _decoupled = True

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Group],
        lr: Rate = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        *,
        weight_decay: float = 1e-2,
        decay: Literal["weights", "all"] = "weights",
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay=weight_decay, decay=decay)
