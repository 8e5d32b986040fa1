"""Activations: a function of every element, without parameters.

Formulas, derivatives at kinks and errors are those of `ops.activation`. All take x of any shape; NaN passes
through.
"""

from __future__ import annotations

from typing import Any, Literal

from fastnn import ops
from fastnn._arrays import Array, FloatArray, check_number
from fastnn._device import as_floats
from fastnn.nn.module import Module


class Activation(Module):
    """Base of the activations: `kind` is the name of the formula in `ops.activation`, `_alpha` its number."""

    kind: Any
    _alpha: float | None = None

    def forward(self, x: Array) -> FloatArray:
        x = as_floats(x, f"{type(self).__name__}: x")
        self._saved = x if self.training else None
        return ops.activation(x, self.kind, alpha=self._alpha)

    def backward(self, dy: Array, *, accumulate: bool = False, input_grad: bool = True) -> FloatArray | None:
        x = self._take_saved()
        where = f"{type(self).__name__}.backward: dy"
        dy = as_floats(dy, where, x)
        if dy.shape != x.shape:
            raise ValueError(f"{where} must have shape {x.shape}, got {dy.shape}")
        return ops.activation_backward(dy, x, self.kind, alpha=self._alpha) if input_grad else None

    def _lower(self, lowering: Any, x: Any) -> Any:
        y = lowering.value(x.shape)
        lowering.emit("activation", x, y, x.size, self.kind, self._alpha)

        def backward(dy: Any, wanted: bool) -> Any:
            if not wanted:
                return None
            dx = lowering.value(x.shape)
            lowering.emit("activation_backward", dy, x, lowering.NONE, dx, x.size, self.kind, self._alpha)
            return dx

        return y, backward


class ReLU(Activation):
    """y = max(x, 0), for x of any shape; the derivative at 0 is 0 and NaN passes through, as in PyTorch.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> layer = nn.ReLU()
    >>> layer(np.array([-1.0, 0.0, 2.0])).tolist()
    [0.0, 0.0, 2.0]
    >>> layer.backward(np.array([5.0, 5.0, 5.0])).tolist()
    [0.0, 0.0, 5.0]
    """

    kind = "relu"


class LeakyReLU(Activation):
    """y = x where x > 0, else negative_slope * x; the derivative at 0 is negative_slope, as in PyTorch.

    Parameters
    ----------
    negative_slope : at least 0 (PyTorch allows negative ones); 0.01, as in PyTorch (Keras: 0.3)

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.LeakyReLU(0.5)(np.array([-1.0, 0.0, 2.0])).tolist()
    [-0.5, 0.0, 2.0]
    """

    kind = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = self._alpha = check_number(negative_slope, "LeakyReLU: negative_slope", 0)

    def _arguments(self) -> str:
        return "" if self.negative_slope == 0.01 else f"negative_slope={self.negative_slope:g}"


class Sigmoid(Activation):
    """y = 1 / (1 + exp(-x)). The derivative is y (1 - y), as in PyTorch.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.Sigmoid()(np.array([-200.0, 0.0, 200.0])).tolist()
    [0.0, 0.5, 1.0]
    """

    kind = "sigmoid"


class Tanh(Activation):
    """y = tanh(x). The derivative is 1 - y^2, as in PyTorch.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.Tanh()(np.array([-20.0, 0.0, 20.0])).tolist()
    [-1.0, 0.0, 1.0]
    """

    kind = "tanh"


class GELU(Activation):
    """y = x Phi(x), Phi the distribution function of the normal distribution (Hendrycks and Gimpel 2016).

    Parameters
    ----------
    approximate : "none" for Phi(x) = (1 + erf(x / sqrt(2))) / 2, "tanh" for the paper's approximation
        (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2. As in PyTorch; JAX has "tanh" by default

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.GELU()(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1587,  0.    ,  0.8413], dtype=float32)
    """

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        if approximate not in ("none", "tanh"):
            error = ValueError if isinstance(approximate, str) else TypeError
            raise error(f"GELU: approximate must be 'none' or 'tanh', got {approximate!r}")
        self.approximate = approximate
        self.kind = "gelu" if approximate == "none" else "gelu_tanh"

    def _arguments(self) -> str:
        return "" if self.approximate == "none" else "approximate='tanh'"


class SiLU(Activation):
    """y = x sigmoid(x), also called swish.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.SiLU()(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.2689,  0.    ,  0.7311], dtype=float32)
    """

    kind = "silu"


class ELU(Activation):
    """y = x where x > 0, else alpha (exp(x) - 1) (Clevert et al. 2015); the derivative at 0 is alpha.

    Parameters
    ----------
    alpha : minus the limit at -infinity, at least 0 (PyTorch allows negative ones)

    The derivative for x <= 0 is y + alpha.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.ELU(0.5)(np.array([-100.0, 0.0, 2.0])).tolist()
    [-0.5, 0.0, 2.0]
    """

    kind = "elu"

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = self._alpha = check_number(alpha, "ELU: alpha", 0)

    def _arguments(self) -> str:
        return "" if self.alpha == 1.0 else f"alpha={self.alpha:g}"


class SELU(Activation):
    """y = 1.0507 x where x > 0, else 1.7581 (exp(x) - 1): keeps mean 0 and variance 1 (Klambauer 2017).

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.SELU()(np.array([-100.0, 0.0, 1.0])).round(4)
    array([-1.7581,  0.    ,  1.0507], dtype=float32)
    """

    kind = "selu"


class Softplus(Activation):
    """y = log(1 + exp(x)), to full precision at both ends (PyTorch returns x from x = 20 upwards).

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.Softplus()(np.array([-200.0, 0.0, 200.0])).round(4)
    array([  0.    ,   0.6931, 200.    ], dtype=float32)
    """

    kind = "softplus"


class Identity(Module):
    """y = x: a place that another layer may take.

    Returns x itself where it is a float32 array, else its values as float32.

    >>> import numpy as np
    >>> from fastnn import nn
    >>> nn.Identity()(np.array([-1.0, 2.0])).tolist()
    [-1.0, 2.0]
    """

    passes_on = True

    def forward(self, x: Array) -> FloatArray:
        x = as_floats(x, "Identity: x")
        self._saved = x.shape if self.training else None
        return x

    def backward(self, dy: Array, *, accumulate: bool = False, input_grad: bool = True) -> FloatArray | None:
        shape = self._take_saved()
        dy = as_floats(dy, "Identity.backward: dy")
        if dy.shape != shape:
            raise ValueError(f"Identity.backward: dy must have shape {shape}, got {dy.shape}")
        return dy if input_grad else None

    def _lower(self, lowering: Any, x: Any) -> Any:
        return x, lambda dy, wanted: dy if wanted else None
