"""Gradient descent: plain, with momentum, by the sign alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from fastnn._arrays import check_flag, check_number
from fastnn._optimizer import Optimizer
from fastnn._options import Common, Group, Rate, check_choice, rate_at
from fastnn._parameter import Parameter

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SGD(Optimizer):
    """Stochastic gradient descent: p -= lr * g.

    With momentum PyTorch's and Keras's `SGD` is `Momentum` here. The keyword options are those of
    `Optimizer`.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> p = nn.Parameter(np.ones(2))
    >>> p.grad = np.array([1.0, -2.0])
    >>> optim.SGD([p], lr=0.5).step()
    >>> p.data.tolist()
    [0.5, 2.0]
    """

    _rule = "sgd"

    def __init__(
        self, params: Iterable[Parameter] | Iterable[Group], lr: Rate, **common: Unpack[Common]
    ) -> None:
        super().__init__(params, common, lr=lr)

    def _numbers(self, group: Group, lr: float) -> tuple[float, ...]:
        return (lr,)


class Momentum(Optimizer):
    """Gradient descent with momentum, in two styles that differ once the rate changes.

    "buffer" (PyTorch, PaddlePaddle, Optax, ONNX): v = momentum * v + (1 - dampening) * g; p -= lr * v, with
    `nesterov` p -= lr * (g + momentum * v). "velocity" (the source documents, Keras, scikit-learn):
    v = momentum * v - lr * (1 - dampening) * g; p += v, with `nesterov` p += momentum * v - lr * g.
    Under a constant gradient the step grows to lr * |g| / (1 - momentum).

    `momentum` is a number, 0 <= momentum < 1, or a schedule; v starts at 0. As in PyTorch, the first step is
    not dampened, and `nesterov` needs a dampening of 0. The keyword options are those of `Optimizer`.

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

    _rule = "momentum"

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Group],
        lr: Rate,
        momentum: Rate = 0.9,
        nesterov: bool = False,
        style: Literal["buffer", "velocity"] = "buffer",
        dampening: float = 0.0,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            params, common, lr=lr, momentum=momentum, nesterov=nesterov, style=style, dampening=dampening
        )

    def _check(self, group: Group) -> None:
        super()._check(group)
        rate_at(group["momentum"], None, "Momentum: momentum", 1)
        check_flag(group["nesterov"], "Momentum: nesterov")
        check_choice(group["style"], "Momentum: style", ("buffer", "velocity"))
        check_number(group["dampening"], "Momentum: dampening", 0, 1, closed=True)
        if group["nesterov"] and group["dampening"]:
            raise ValueError(f"Momentum: nesterov needs dampening=0, got {group['dampening']}")

    def _slots(self, group: Group) -> tuple[str | None, ...]:
        return ("velocity",)

    def _numbers(self, group: Group, lr: float) -> tuple[float, ...]:
        momentum = self._now(group["momentum"], "momentum", 1)
        share = 1.0 - group["dampening"] if self.step_count else 1.0
        return lr, momentum, share, bool(group["nesterov"]), group["style"] == "velocity"


class Rprop(Optimizer):
    """Resilient backpropagation (iRprop-): the sign of the gradient alone, and a step d for every number.

    d *= etas[1] where g has the sign it had before, d *= etas[0] where it changed, kept within `step_sizes`;
    p -= sign(g) * d, but where the sign changed p stays, and g counts as 0 in the next step. d starts at `lr`
    (a schedule's first value), which plays no part afterwards. As in PyTorch and PaddlePaddle.

    For gradients of all rows: between mini-batches signs change by chance, which shrinks every step, so
    `Trainer.fit` warns of more than one batch an epoch. 0 < etas[0] < 1 < etas[1]. The keyword options are
    those of `Optimizer`.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> p = nn.Parameter(np.ones(1))
    >>> opt = optim.Rprop([p], lr=0.01)
    >>> for g in (1, 0.5, -0.2, -0.1, 0.3, 0.3):
    ...     p.grad = np.array([g])
    ...     opt.step()
    >>> round(p.data.item(), 6)
    0.981
    """

    _rule = "rprop"

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Group],
        lr: Rate = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        **common: Unpack[Common],
    ) -> None:
        super().__init__(params, common, lr=lr, etas=etas, step_sizes=step_sizes)

    def set_steps_per_epoch(self, steps: int) -> None:
        super().set_steps_per_epoch(steps)
        if steps > 1:
            warnings.warn(
                "Rprop follows the sign of the gradient of all rows, but an epoch has "
                f"{steps} batches; pass batch_size=len(X)",
                stacklevel=3,
            )

    def _check(self, group: Group) -> None:
        super()._check(group)
        for name in ("etas", "step_sizes"):
            pair = group[name]
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise TypeError(f"Rprop: {name} must be two numbers, got {pair!r}")
            for i, value in enumerate(pair):
                check_number(value, f"Rprop: {name}[{i}]", 0)
        if not 0 < group["etas"][0] < 1 < group["etas"][1]:
            raise ValueError(f"Rprop: etas must be (below 1, above 1), both above 0, got {group['etas']}")
        if group["step_sizes"][0] > group["step_sizes"][1]:
            raise ValueError(f"Rprop: step_sizes must be (least, largest), got {group['step_sizes']}")

    def _slots(self, group: Group) -> tuple[str | None, ...]:
        return ("previous", "step_size")

    def _slot_start(self, slot: str, group: Group) -> float:
        return rate_at(group["lr"], 0, "Rprop: lr") if slot == "step_size" else 0.0

    def _numbers(self, group: Group, lr: float) -> tuple[float, ...]:
        return (lr, *group["etas"], *group["step_sizes"])
