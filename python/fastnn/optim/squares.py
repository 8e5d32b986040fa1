"""Rates of their own by the squares of past gradients: RMSProp and AdaGrad."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from fastnn._arrays import check_flag, check_number
from fastnn._optimizer import Optimizer
from fastnn._options import EPS_MODES, Common, Group, Rate, check_choice, rate_at
from fastnn._parameter import Parameter

if TYPE_CHECKING:
    from typing_extensions import Unpack


class RMSProp(Optimizer):
    """s = rho * s + (1 - rho) * g**2; p -= lr * g / (sqrt(s) + eps).

    eps stands outside the root, as in the source documents and PyTorch (whose `alpha` is `rho`, there 0.99);
    `eps_mode="inside"`, sqrt(s + eps), is Keras's, PaddlePaddle's and Optax's. s starts at
    `initial_accumulator`, 0 everywhere but in MindSpore (1).

    centered : also a = rho * a + (1 - rho) * g, and s - a**2, an estimate of the variance, stands under the
        root (0 where rounding makes it negative: PyTorch gives NaN there)
    momentum : with a number above 0 or a schedule, b = momentum * b + g / root; p -= lr * b, as in PyTorch
        (Keras, PaddlePaddle and Optax keep lr inside b: another result once lr changes)

    0 <= rho < 1, eps >= 0. With eps=0 a gradient that has always been 0 gives 0 / 0. The keyword options are
    those of `Optimizer`.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> p = nn.Parameter(np.ones(1))
    >>> p.grad = np.array([4.0])
    >>> optim.RMSProp([p], lr=0.1, rho=0.75, eps=0).step()
    >>> round(p.data.item(), 6)
    0.8
    """

    _rule = "rmsprop"

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Group],
        lr: Rate = 1e-2,
        rho: float = 0.9,
        eps: float = 1e-8,
        centered: bool = False,
        momentum: Rate = 0.0,
        eps_mode: Literal["outside", "inside"] = "outside",
        initial_accumulator: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params,
            common,
            lr=lr,
            rho=rho,
            eps=eps,
            centered=centered,
            momentum=momentum,
            eps_mode=eps_mode,
            initial_accumulator=initial_accumulator,
        )

    def _check(self, group: Group) -> None:
        super()._check(group)
        check_number(group["rho"], "RMSProp: rho", 0, 1)
        check_number(group["eps"], "RMSProp: eps", 0)
        check_flag(group["centered"], "RMSProp: centered")
        rate_at(group["momentum"], None, "RMSProp: momentum", 1)
        check_choice(group["eps_mode"], "RMSProp: eps_mode", ("outside", "inside"))
        check_number(group["initial_accumulator"], "RMSProp: initial_accumulator", 0)

    def _slots(self, group: Group) -> tuple[str | None, ...]:
        return (
            "square_avg",
            "grad_avg" if group["centered"] else None,
            "momentum_buffer" if callable(group["momentum"]) or group["momentum"] > 0 else None,
        )

    def _slot_start(self, slot: str, group: Group) -> float:
        return float(group["initial_accumulator"]) if slot == "square_avg" else 0.0

    def _numbers(self, group: Group, lr: float) -> tuple[float, ...]:
        momentum = self._now(group["momentum"], "momentum", 1)
        centered, buffered = (slot is not None for slot in self._slots(group)[1:])
        mode = EPS_MODES.index(group["eps_mode"])
        return lr, group["rho"], group["eps"], mode, centered, buffered, momentum


class AdaGrad(Optimizer):
    """s = s + g**2; p -= lr * g / (sqrt(s) + eps).

    eps stands outside the root and s starts at `initial_accumulator` = 0, as in the source documents and
    PyTorch; Keras and Optax add it inside (`eps_mode="inside"`) and start s at 0.1, as does MindSpore, which
    has no eps. The rate of each number only ever falls. eps >= 0; with eps=0 and a start of 0, a gradient
    that has always been 0 gives 0 / 0. The keyword options are those of `Optimizer`.

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

    _rule = "adagrad"

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Group],
        lr: Rate = 1e-2,
        eps: float = 1e-10,
        eps_mode: Literal["outside", "inside"] = "outside",
        initial_accumulator: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params, common, lr=lr, eps=eps, eps_mode=eps_mode, initial_accumulator=initial_accumulator
        )

    def _check(self, group: Group) -> None:
        super()._check(group)
        check_number(group["eps"], "AdaGrad: eps", 0)
        check_choice(group["eps_mode"], "AdaGrad: eps_mode", ("outside", "inside"))
        check_number(group["initial_accumulator"], "AdaGrad: initial_accumulator", 0)

    def _slots(self, group: Group) -> tuple[str | None, ...]:
        return ("square_sum",)

    def _slot_start(self, slot: str, group: Group) -> float:
        return float(group["initial_accumulator"])

    def _numbers(self, group: Group, lr: float) -> tuple[float, ...]:
        return lr, group["eps"], EPS_MODES.index(group["eps_mode"])
