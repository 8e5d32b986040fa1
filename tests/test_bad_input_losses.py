"""Bad input to losses: the exception, and a text that names argument and cure."""

import numpy as np
import pytest
from fastnn import losses


def x(*shape, dtype=np.float32):
    return np.ones(shape, dtype)


def entropy(*arguments):
    return losses.CrossEntropyLoss()(*arguments)


ids = np.zeros(4, int)
nan = float("nan")

CROSS_ENTROPY = [
    (lambda: entropy([[1.0]], ids), TypeError, r"CrossEntropyLoss: pred must be a NumPy array, got list"),
    (
        lambda: entropy(x(4), ids),
        ValueError,
        r"CrossEntropyLoss: pred must have shape \(n, classes\), got \(4,\)",
    ),
    (lambda: entropy(x(4, 3, dtype=complex), ids), TypeError, r"pred must hold real numbers"),
    (
        lambda: entropy(x(4, 3), [0, 1, 2, 0]),
        TypeError,
        r"CrossEntropyLoss: target must be a NumPy array, got list",
    ),
    (
        lambda: entropy(x(4, 3), ids[:3]),
        ValueError,
        r"class ids of shape \(4,\) .* got int64 of shape \(3,\)",
    ),
    (lambda: entropy(x(4, 3), ids[:, None]), ValueError, r"pass target\.ravel\(\)"),
    (
        lambda: entropy(x(4, 3), x(4, 3, dtype=int)),
        ValueError,
        r"for one-hot rows target\.astype\(np\.float32\)",
    ),
    (lambda: entropy(x(4, 3), x(4)), TypeError, r"for class ids pass target\.astype\(np\.int64\)"),
    (
        lambda: entropy(x(4, 3), x(4, 2)),
        ValueError,
        r"float probabilities of shape \(4, 3\), got float32 of shape \(4, 2\)",
    ),
    (lambda: entropy(x(4, 3), x(4, dtype=bool)), TypeError, r"target must hold integer class ids"),
    (lambda: entropy(x(4, 3), np.full(4, "a")), TypeError, r"target must hold integer class ids"),
    (lambda: entropy(x(4, 3), ids + 3), ValueError, r"labels\[0\] is 3"),
    (lambda: entropy(x(4, 3), ids - 1), ValueError, r"labels\[0\] is -1"),
    (lambda: entropy(x(0, 3), ids[:0]), ValueError, r"softmax_cross_entropy\(\)"),
    (lambda: entropy(x(4, 3), ids, x(3)), ValueError, r"sample_weight"),
    (
        lambda: entropy(x(4, 3), ids, [1, 1, 1, 1]),
        TypeError,
        r"CrossEntropyLoss: sample_weight must be a NumPy array",
    ),
    (lambda: entropy(x(4, 3), ids, -x(4)), ValueError, r"sample_weight"),
    (lambda: entropy(x(4, 3), ids, 0 * x(4)), ValueError, r"sample_weight"),
    (lambda: entropy(x(4, 3), ids, nan * x(4)), ValueError, r"sample_weight"),
    (
        lambda: losses.CrossEntropyLoss(label_smoothing=1.5),
        ValueError,
        r"CrossEntropyLoss: label_smoothing must be in \[0, 1\], got 1\.5",
    ),
    (lambda: losses.CrossEntropyLoss(label_smoothing="0"), TypeError, r"label_smoothing must be a number"),
    (lambda: losses.CrossEntropyLoss(ignore_index=1.0), TypeError, r"ignore_index must be a whole number"),
    (lambda: losses.CrossEntropyLoss(0.1), TypeError, r"positional"),
    (lambda: losses.CrossEntropyLoss(ignore_index=0)(x(4, 3), ids), ValueError, r"all 0.*skip"),
    (
        lambda: losses.CrossEntropyLoss(ignore_index=0)(x(4, 3), x(4, 3)),
        ValueError,
        "^CrossEntropyLoss: ignore_index needs class ids, got probabilities$",
    ),
    (lambda: losses.CrossEntropyLoss(ignore_index=9)(x(4, 3), ids + 8), ValueError, r"labels\[0\] is 8"),
    (lambda: losses.HuberLoss(0), ValueError, r"HuberLoss: delta must be above 0"),
    (lambda: losses.HuberLoss(-1.0), ValueError, r"HuberLoss: delta must be at least 0"),
    (lambda: losses.HuberLoss(nan), ValueError, r"HuberLoss: delta must be"),
    (lambda: losses.HuberLoss(None), TypeError, r"HuberLoss: delta must be a number"),
]

ELEMENTWISE = [
    (lambda loss: loss([[1.0]], x(1, 1)), TypeError, r": pred must be a NumPy array, got list"),
    (lambda loss: loss(x(4, 2), [1.0]), TypeError, r": target must be a NumPy array, got list"),
    (lambda loss: loss(x(4, dtype=complex), x(4)), TypeError, r": pred must hold real numbers"),
    (lambda loss: loss(x(4), np.full(4, "a")), TypeError, r": target must hold real numbers"),
    (lambda loss: loss(x(), x()), ValueError, r": pred must have rows, got a single value"),
    (
        lambda loss: loss(x(4, 3), x(4)),
        ValueError,
        r": target must have the shape of pred, \(4, 3\), got \(4,\); nothing broadcasts",
    ),
    (lambda loss: loss(x(4, 1), x(3)), ValueError, r"\(4, 1\) or \(4,\), got \(3,\)"),
    (lambda loss: loss(x(4, 1), x(1, 4)), ValueError, r"\(4, 1\) or \(4,\), got \(1, 4\)"),
    (lambda loss: loss(x(4), x(4, 1)), ValueError, r"the shape of pred, \(4,\), got \(4, 1\)"),
    (lambda loss: loss(x(4, 3), x(1, 3)), ValueError, r"nothing broadcasts"),
    (lambda loss: loss(x(4, 3), x(4, 1)), ValueError, r"nothing broadcasts"),
    (lambda loss: loss(x(0, 3), x(0, 3)), ValueError, r"at least one row"),
    (lambda loss: loss(x(4, 0), x(4, 0)), ValueError, r"one output"),
    (lambda loss: loss(x(4, 3), x(4, 3), x(3)), ValueError, r"sample_weight"),
    (lambda loss: loss(x(4, 3), x(4, 3), x(4, 3)), ValueError, r"sample_weight"),
    (lambda loss: loss(x(4, 3), x(4, 3), -x(4)), ValueError, r"sample_weight"),
    (lambda loss: loss(x(4, 3), x(4, 3), 0 * x(4)), ValueError, r"sample_weight"),
    (lambda loss: loss(x(4), x(4), [1.0] * 4), TypeError, r": sample_weight must be a NumPy"),
]

# Every elementwise loss refuses the same; what the Python layer says begins with the name of the loss.
ROWS = CROSS_ENTROPY + [
    (
        lambda call=call, loss=loss: call(loss()),
        error,
        f"^{loss.__name__}{text}" if text.startswith(":") else text,
    )
    for loss in (losses.MSELoss, losses.QuadraticCost, losses.HuberLoss, losses.BCEWithLogitsLoss)
    for call, error, text in ELEMENTWISE
]


@pytest.mark.parametrize(
    ("call", "error", "message"), ROWS, ids=[f"{i}-{row[2][:40]}" for i, row in enumerate(ROWS)]
)
def test_bad_input(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error
