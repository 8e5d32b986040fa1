// The docstrings of bind_loss.cpp; the first line of each is the signature that is parsed.
#pragma once

namespace fastnn::bind {

inline constexpr const char* kSoftmaxDoc =
    R"(softmax_cross_entropy(logits, labels, *, sample_weight=None, label_smoothing=0.0, ignore_index=None)
--

Softmax and cross-entropy in one pass, with the gradient.

With ``p = softmax(logits)`` by rows, targets ``t`` and weights ``w`` (1 without ``sample_weight``):
``value = sum_i w_i l_i / sum(w)``, ``l_i = -sum_c t_ic log p_ic``, and
``dlogits_i = w_i / sum(w) * (p_i * sum_c t_ic - t_i)``. ``label_smoothing=s`` takes ``(1 - s) * t + s / C`` for
``t``. Rows whose class id is ``ignore_index`` count neither in the sum nor in ``sum(w)``; their gradient is 0.

Shapes: ``logits`` and ``dlogits`` (n, C); ``labels`` (n,) class ids of any integer dtype, or (n, C) float32
probabilities; ``sample_weight`` (n,), finite, not negative, not all zero. ``0 <= label_smoothing <= 1``.

As PyTorch's ``cross_entropy``, but nothing is ignored unless asked for, and a batch in which every row is ignored
raises (there: NaN).

Returns ``(value, dlogits)``: a float, and a new float32 array.

Raises TypeError for another dtype, ValueError for shapes that do not fit, no rows or no classes, a class id
outside ``0 .. C-1`` (naming its index and value), bad weights, nothing but ignored rows, and ``ignore_index``
beside probabilities.

>>> import numpy as np
>>> from fastnn import ops
>>> value, dlogits = ops.softmax_cross_entropy(np.zeros((2, 2), np.float32), np.array([1, -100]), ignore_index=-100)
>>> round(value, 4)
0.6931
>>> dlogits
array([[ 0.5, -0.5],
       [ 0. ,  0. ]], dtype=float32)
)";

inline constexpr const char* kSigmoidDoc = R"(sigmoid_cross_entropy(logits, targets, *, sample_weight=None)
--

Sigmoid and binary cross-entropy in one pass, with the gradient.

With ``p = sigmoid(logits)``, k outputs a row and weights ``w`` (1 without ``sample_weight``):
``value = sum_i w_i l_i / sum(w)``, ``l_i`` the mean over the outputs of ``-t * log(p) - (1 - t) * log(1 - p)``,
computed as ``max(x, 0) * (1 - t) + max(-x, 0) * t + log(1 + exp(-abs(x)))``, and ``dlogits_i = w_i / (k sum(w)) * (p_i - t_i)``.

``logits`` and ``targets`` have one shape: (n,), (n, k), or more axes, of which the first counts rows. Targets are
probabilities of 1; values outside 0 .. 1 are not looked for. ``sample_weight`` (n,): finite, not negative, not
all zero; without it the value is that of PyTorch's ``binary_cross_entropy_with_logits``.

Returns ``(value, dlogits)``: a float, and a new float32 array.

Raises TypeError for anything but float32 arrays, ValueError for shapes that differ (nothing broadcasts), no
elements, and bad weights.

>>> import numpy as np
>>> from fastnn import ops
>>> value, dlogits = ops.sigmoid_cross_entropy(np.zeros(2, np.float32), np.array([0, 1], np.float32))
>>> round(value, 4), dlogits.tolist()
(0.6931, [0.25, -0.25])
)";

inline constexpr const char* kMseDoc = R"(mse(pred, target, *, sample_weight=None)
--

Mean squared error with its gradient: ``value = sum_i w_i l_i / sum(w)``, ``l_i`` the mean of ``(pred - target)**2``
over the outputs of row i, and ``dpred_i = 2 w_i / (k sum(w)) * (pred_i - target_i)`` for k outputs.

``pred`` and ``target`` have one shape: (n,), (n, k), or more axes, of which the first counts rows.
``sample_weight`` (n,): finite, not negative, not all zero; without it the value is the mean over all elements, as
PyTorch's ``mse_loss``.

Returns ``(value, dpred)``: a float, and a new float32 array.

Raises TypeError for anything but float32 arrays, ValueError for shapes that differ (nothing broadcasts), no
elements, and bad weights.

>>> import numpy as np
>>> from fastnn import ops
>>> value, dpred = ops.mse(np.array([1, 4], np.float32), np.array([0, 2], np.float32))
>>> value, dpred.tolist()
(2.5, [1.0, 2.0])
)";

inline constexpr const char* kQuadraticDoc = R"(quadratic_cost(pred, target, *, sample_weight=None)
--

Quadratic cost with its gradient: ``value = sum_i w_i l_i / sum(w)``, ``l_i = sum_j (pred_ij - target_ij)**2 / 2``, so
``1 / (2n)`` times the sum over rows and outputs, and ``dpred_i = w_i / sum(w) * (pred_i - target_i)``.

For k outputs it is ``k / 2`` times ``mse``. Shapes, results and errors as in ``mse``.

>>> import numpy as np
>>> from fastnn import ops
>>> value, dpred = ops.quadratic_cost(np.array([1, 4], np.float32), np.array([0, 2], np.float32))
>>> value, dpred.tolist()
(1.25, [0.5, 1.0])
)";

inline constexpr const char* kHuberDoc = R"(huber(pred, target, *, delta=1.0, sample_weight=None)
--

Huber loss with its gradient: ``value = sum_i w_i l_i / sum(w)``, ``l_i`` the mean over the outputs of row i of
``d**2 / 2`` where ``|d| <= delta``, else ``delta * (|d| - delta / 2)``, with ``d = pred - target``;
``dpred_i = w_i / (k sum(w)) * clip(d_i, -delta, delta)`` for k outputs.

``delta`` is above 0 and finite. Shapes, results and errors as in ``mse``; as PyTorch's ``huber_loss``.

>>> import numpy as np
>>> from fastnn import ops
>>> value, dpred = ops.huber(np.array([0.5, 3], np.float32), np.zeros(2, np.float32))
>>> value, dpred.tolist()
(1.3125, [0.25, 0.5])
)";

}  // namespace fastnn::bind
