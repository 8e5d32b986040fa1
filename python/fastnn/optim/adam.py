"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from fastnn._arrays import check_flag, check_number
from fastnn._optimizer import Optimizer
from fastnn._options import DEFAULTS, EPS_MODES, Common, Group, Rate, check_choice, rate_at
from fastnn._parameter import Parameter

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Adam(Optimizer):
    """Adam with bias correction, as in the paper and in PyTorch.

    m = b1 * m + (1 - b1) * g; v = b2 * v + (1 - b2) * g**2, from 0; with t = 1 at the first step,
    p -= lr * (m / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps).

    betas : (b1, b2), each 0 <= b < 1; b1 may be a schedule (the correction then uses b1**t of the present b1)
    eps_mode : where eps >= 0 stands. "outside" the root as above (PyTorch, PaddlePaddle, Optax); "inside":
        sqrt(v / (1 - b2**t) + eps) (Optax's `eps_root`); "hat": outside, beside the uncorrected root,
        lr * sqrt(1 - b2**t) / (1 - b1**t) * m / (sqrt(v) + eps) (Keras, MindSpore, scikit-learn)
    amsgrad : divide by the root of the largest v so far, as PyTorch and Keras do (Optax compares the
        corrected ones)

    A `weight_decay` is added to g (L2; `AdamW` is the decoupled form). The keyword options are those of
    `Optimizer`.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> p = nn.Parameter(np.ones(2))
    >>> p.grad = np.array([0.5, -3.0])
    >>> optim.Adam([p], lr=0.25).step()
    >>> p.data.round(6).tolist()
    [0.75, 1.25]
    """

    _rule = "adam"
    _decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[Group],
        lr: Rate = 1e-3,
        betas: tuple[Rate, float] = (0.9, 0.999),
        eps: float = 1e-8,
        amsgrad: bool = False,
        eps_mode: Literal["outside", "inside", "hat"] = "outside",
        **common: Unpack[Common],
    ) -> None:
        super().__init__(params, common, lr=lr, betas=betas, eps=eps, amsgrad=amsgrad, eps_mode=eps_mode)

    def _check(self, group: Group) -> None:
        super()._check(group)
        name, betas = type(self).__name__, group["betas"]
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise TypeError(f"{name}: betas must be two numbers (b1, b2), got {betas!r}")
        rate_at(betas[0], None, f"{name}: betas[0]", 1)
        check_number(betas[1], f"{name}: betas[1]", 0, 1)
        check_number(group["eps"], f"{name}: eps", 0)
        check_flag(group["amsgrad"], f"{name}: amsgrad")
        check_choice(group["eps_mode"], f"{name}: eps_mode", ("outside", "inside", "hat"))

    def _slots(self, group: Group) -> tuple[str | None, ...]:
        return ("m", "v", "v_max" if group["amsgrad"] else None)

    def _numbers(self, group: Group, lr: float) -> tuple[float, ...]:
        beta1 = self._now(group["betas"][0], "betas[0]", 1)
        amsgrad, mode = bool(group["amsgrad"]), EPS_MODES.index(group["eps_mode"])
        return lr, beta1, group["betas"][1], group["eps"], mode, amsgrad, self._decoupled


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter): p is multiplied by 1 - lr * weight_decay,
    then updated as by `Adam`, whose averages never see the decay.

    With `decay_to="init"` and `l1`, p -= lr * (weight_decay * (p - p0) + l1 * sign(p - p0)) comes first
    instead. PyTorch's `AdamW` decays all parameters (`decay="all"`). The other arguments are those of `Adam`.

    >>> import numpy as np
    >>> from fastnn import nn, optim
    >>> p = nn.Parameter(np.full(2, 2.0))
    >>> p.grad = np.array([0.5, 0.0])
    >>> optim.AdamW([p], lr=0.25, weight_decay=0.5).step()
    >>> p.data.round(6).tolist()
    [1.5, 1.75]
    """

    _decoupled = True
    _common: ClassVar[Mapping[str, Any]] = {**DEFAULTS, "weight_decay": 1e-2}
