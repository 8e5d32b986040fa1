"""Metrics, classes and probabilities of losses on arrays of a device: the numbers of the same call on the
host.

Without a GPU the arrays are stand-ins. Where there is one, CuPy's and PyTorch's are tested too;
`pytest --noconftest -k "not stand-in" tests/test_cuda_metrics.py` needs nothing but them.
"""

import sys

import numpy as np
import pytest
from bounds import assert_bits
from cuda_checks import draw
from device_places import STAND_INS
from fastnn import losses
from test_cuda_ops import where as where

LABELS = np.array([0, 3, 1, 2, 3, 3, -1])
WEIGHT = np.array([1, 0.5, 2, 0, 1, 3, 1])
IGNORING = losses.CrossEntropyLoss(ignore_index=-1)
CASES = {
    "labels": (IGNORING, draw(7, 4), LABELS, None),
    "weighted labels": (IGNORING, draw(7, 4), LABELS.astype("i1"), WEIGHT.astype("f4")),
    "probabilities": (losses.CrossEntropyLoss(), draw(7, 4), np.abs(draw(7, 4, seed=1)), WEIGHT),
    "logits of float64": (IGNORING, draw(7, 4).astype("f8"), LABELS, WEIGHT.astype("f2")),
    "sides": (losses.BCEWithLogitsLoss(), draw(7, 2), draw(7, 2, seed=1) > 0, WEIGHT),
    "a column": (losses.BCEWithLogitsLoss(), draw(7, 1), (draw(7, seed=1) > 0).astype("u1"), None),
    "values": (losses.MSELoss(), draw(7, 2), draw(7, 2, seed=1), WEIGHT.astype("f4")),
    "values of float64": (losses.HuberLoss(), draw(7, 3, 2), draw(7, 3, 2, seed=1).astype("f8"), None),
    "whole numbers": (losses.QuadraticCost(), draw(7), np.round(draw(7, seed=1)).astype("i4"), WEIGHT),
}


@pytest.mark.parametrize("case", CASES)
def test_metrics(where, case):
    """Of a batch and of two, and what the mean over their rows divides by."""
    loss, *batch = CASES[case]
    on_device = where.all(tuple(batch))
    assert loss.metrics(*on_device) == loss.metrics(*batch)
    one, other = loss.scores(), loss.scores()
    for rows in (slice(4), slice(4, 7)):
        one.add(*(None if array is None else array[rows] for array in on_device))
        other.add(*(None if array is None else array[rows] for array in batch))
    assert one.result() == other.result()
    assert loss.total_weight(*on_device[1:]) == loss.total_weight(*batch[1:])


def test_any_layout(where):
    """They are copied anyhow."""
    pred, on_device = draw(7, 9)[:, ::2], where.put(draw(7, 9))[:, ::2]
    loss = losses.CrossEntropyLoss()
    assert loss.metrics(on_device, where.put(LABELS % 5)) == loss.metrics(pred, LABELS % 5)
    assert_bits(loss.classes(on_device).get(), loss.classes(pred), "classes")
    loss = losses.MSELoss()
    assert loss.metrics(on_device[:, 1:], on_device[:, :-1]) == loss.metrics(pred[:, 1:], pred[:, :-1])


def cupy():
    """The module, or its stand-in."""
    return sys.modules["cupy"]


LOGITS = {
    "two axes": draw(5, 4, scale=9.0),
    "a column": draw(5, 1),
    "float64": draw(5, 4).astype("f8"),
    "no rows": draw(0, 4),
    "ties, infinities and NaN": np.array([[1, 1, 0], [np.nan, 1, np.nan], [-np.inf, np.inf, 0]], "f4"),
}


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("case", LOGITS)
@pytest.mark.parametrize("kind", [losses.CrossEntropyLoss, losses.BCEWithLogitsLoss])
def test_classes_and_probabilities(where, kind, case):
    """They are CuPy's, whoever made the logits."""
    for method in (kind().classes, kind().probabilities):
        got, want = method(where.put(LOGITS[case])), method(LOGITS[case])
        assert isinstance(got, cupy().ndarray)
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        assert_bits(got.get(), want, case)


def said(call, *arguments, error=TypeError):
    with pytest.raises(error) as raised:
        call(*arguments)
    return str(raised.value)


@pytest.mark.parametrize("case", ["weighted labels", "sides", "values"])
def test_arrays_of_two_places(where, case):
    loss, *batch = CASES[case]
    names = ["pred", "target", "sample_weight"]
    for at, name in enumerate(names):
        host, device = list(batch), [where.put(array) for array in batch]
        host[at], device[at] = device[at], host[at]
        first = names[at == 0]
        for call in (loss.metrics, loss.scores().add):
            cure = "pass arrays of one place, such as cupy.asarray"
            words = f"metrics: {name} lies in host memory and {first} on a CUDA device; {cure}({name})"
            assert said(call, *device) == words
            words = f"metrics: {first} lies in host memory and {name} on a CUDA device; {cure}({first})"
            assert said(call, *host) == words


def test_another_stream(where, monkeypatch):
    if where.name != STAND_INS[1]:
        pytest.skip("of CuPy's arrays it is the current one")
    import fake_torch

    monkeypatch.setattr(fake_torch.stream, "cuda_stream", 96)
    loss, pred, target, _ = CASES["labels"]
    words = "is ordered on another stream than CuPy's current one"
    assert f"metrics: pred {words}" in said(loss.metrics, *where.all((pred, target)), error=ValueError)
    assert f"CrossEntropyLoss.classes: pred {words}" in said(loss.classes, where.put(pred), error=ValueError)


def test_bad_rows_are_named_as_on_the_host(where):
    for case, change in (
        ("labels", {1: LABELS + 1}),
        ("labels", {1: LABELS.astype("f4")}),
        ("sides", {1: draw(7)}),
        ("weighted labels", {2: WEIGHT[:3]}),
    ):
        loss, *batch = CASES[case]
        for at, array in change.items():
            batch[at] = array
        error = TypeError if batch[1].dtype.kind == "f" and case == "labels" else ValueError
        want = said(loss.metrics, *batch, error=error)
        assert said(loss.metrics, *where.all(tuple(batch)), error=error) == want
