"""softmax_cross_entropy against the float64 reference: loss, gradient, labels of every kind."""

import sys

import fastnn
import guard
import layouts
import numpy as np
import pytest
import reference as ref
import shapes
from bounds import assert_bits, assert_within, softmax_bounds
from fastnn import ops

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def draw(rng, rows, classes, scale=3.0):
    logits = (scale * rng.standard_normal((rows, classes))).astype(np.float32)
    return logits, rng.integers(0, classes, rows)


def probabilities(rng, rows, classes):
    t = rng.random((rows, classes))
    return (t / t.sum(1, keepdims=True)).astype(np.float32)


def check(logits, labels, sample_weight=None, **options):
    value, dlogits = got = ops.softmax_cross_entropy(logits, labels, sample_weight=sample_weight, **options)
    want_value, want = ref.softmax_cross_entropy(logits, labels, sample_weight, **options)
    value_bound, bound = softmax_bounds(logits, labels, sample_weight, **options)
    assert type(value) is float
    assert_within(dlogits, want, bound, f"dlogits {logits.shape}")
    assert_within(value, want_value, value_bound, f"value {logits.shape}")
    return got


def test_shapes(isa, rng):
    for rows, classes in shapes.CLASSES:
        check(*draw(rng, rows, classes))
        check(draw(rng, rows, classes)[0], probabilities(rng, rows, classes))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e4, 1e30])
def test_scales(isa, rng, scale):
    """Large logits neither overflow nor lose the loss of the true class."""
    for rows, classes in [(7, 10), (3, 33), (40, 2)]:
        logits, labels = draw(rng, rows, classes, scale)
        check(logits, labels)
        value, dlogits = check(logits + np.float32(0.0), labels)
        assert np.isfinite(value)
        assert np.isfinite(dlogits).all()


def test_constant_shift_of_a_row(isa, rng):
    """Adding 64 to integer logits is exact, and softmax does not see it: the same bits."""
    logits = rng.integers(-20, 20, (30, 17)).astype(np.float32)
    labels = rng.integers(0, 17, 30)
    value, dlogits = ops.softmax_cross_entropy(logits, labels)
    shifted = ops.softmax_cross_entropy(logits + np.float32(64.0), labels)
    assert value == shifted[0]
    assert_bits(dlogits, shifted[1])


def test_known_values(isa):
    value, dlogits = ops.softmax_cross_entropy(np.zeros((2, 4), np.float32), np.array([0, 3]))
    assert abs(value - np.log(4.0)) <= 1e-6
    assert_within(dlogits, [[-0.375, 0.125, 0.125, 0.125], [0.125, 0.125, 0.125, -0.375]], 1e-7)
    value, dlogits = ops.softmax_cross_entropy(np.zeros((3, 1), np.float32), np.zeros(3, int))
    assert value == 0.0
    assert not dlogits.any()


@pytest.mark.parametrize("kind", INTEGERS)
def test_label_types(isa, rng, kind):
    logits, labels = draw(rng, 50, 10)
    value, dlogits = ops.softmax_cross_entropy(logits, labels)
    typed = ops.softmax_cross_entropy(logits, labels.astype(kind))
    assert typed[0] == value
    assert_bits(typed[1], dlogits)


def test_label_layouts(isa, rng):
    logits, labels = draw(rng, 50, 10)
    value, dlogits = ops.softmax_cross_entropy(logits, labels)
    for make in (layouts.step2, layouts.reversed_rows, layouts.misaligned, layouts.read_only, layouts.memmap):
        labels_ = layouts.step2(labels.astype(float)).astype(int) if make is layouts.step2 else make(labels)
        got = ops.softmax_cross_entropy(logits, labels_)
        assert got[0] == value
        assert_bits(got[1], dlogits)
    strided = np.zeros(100, np.int32)
    strided[::2] = labels
    assert ops.softmax_cross_entropy(logits, strided[::2])[0] == value


def test_one_hot_probabilities_equal_ids(isa, rng):
    logits, labels = draw(rng, 50, 10)
    ids, one_hot = (
        ops.softmax_cross_entropy(logits, t) for t in (labels, np.eye(10, dtype=np.float32)[labels])
    )
    _, bound = softmax_bounds(logits, labels)
    assert abs(ids[0] - one_hot[0]) <= 1e-6 * abs(ids[0])
    assert_within(ids[1], one_hot[1], bound)


def test_probabilities_need_not_sum_to_one(isa, rng):
    """Label smoothing and masks: the gradient is p * sum(t) - t."""
    logits, _ = draw(rng, 20, 11)
    check(logits, rng.random((20, 11), np.float32))
    value, dlogits = check(logits, np.zeros((20, 11), np.float32))
    assert value == 0.0
    assert not dlogits.any()


def test_sample_weight(isa, rng):
    logits, labels = draw(rng, 60, 10)
    weight = rng.random(60, np.float32)
    weight[::7] = 0.0
    check(logits, labels, weight)
    check(logits, probabilities(rng, 60, 10), weight)
    ones = ops.softmax_cross_entropy(logits, labels, sample_weight=np.ones(60, np.float32))
    none = ops.softmax_cross_entropy(logits, labels)
    assert ones[0] == none[0]
    assert_bits(ones[1], none[1])
    # A weight of 0 leaves a row out, as if it were not there.
    kept = weight > 0
    part = ops.softmax_cross_entropy(logits[kept], labels[kept], sample_weight=weight[kept])
    full = ops.softmax_cross_entropy(logits, labels, sample_weight=weight)
    assert part[0] == full[0]
    assert_bits(full[1][kept], part[1])
    assert not full[1][~kept].any()


@pytest.mark.parametrize("smoothing", [1e-3, 0.1, 1.0])
def test_label_smoothing(isa, rng, smoothing):
    for rows, classes in shapes.CLASSES:
        logits, labels = draw(rng, rows, classes)
        check(logits, labels, label_smoothing=smoothing)
        check(logits, probabilities(rng, rows, classes), label_smoothing=smoothing)
    logits, labels = draw(rng, 50, 10)
    check(logits, labels, rng.random(50, np.float32), label_smoothing=smoothing)
    none = ops.softmax_cross_entropy(logits, labels)
    zero = ops.softmax_cross_entropy(logits, labels, label_smoothing=0)
    assert zero[0] == none[0]
    assert_bits(zero[1], none[1])


@pytest.mark.parametrize("ignored", [-100, -1, 3, 255])
def test_ignored_rows_are_as_if_they_were_not_there(isa, rng, ignored):
    for rows, classes in [(60, 10), (17, 5), (40, 33), (9, 1025)]:
        logits, labels = draw(rng, rows, classes)
        labels[::3] = ignored
        labels[1] = 1
        logits[0] = np.nan
        weight = rng.random(rows, np.float32)
        kept = labels != ignored
        for given in (None, weight):
            part = None if given is None else given[kept]
            want = ops.softmax_cross_entropy(logits[kept], labels[kept], sample_weight=part)
            got = check(logits, labels, given, ignore_index=ignored)
            assert got[0] == want[0]
            assert_bits(got[1][kept], want[1])
            assert_bits(got[1][~kept], np.zeros_like(got[1][~kept]))
        check(logits, labels, weight, ignore_index=ignored, label_smoothing=0.2)


@pytest.mark.parametrize("kind", INTEGERS)
def test_ignored_label_of_every_type(isa, rng, kind):
    logits, labels = draw(rng, 20, 10)
    ignored = 200 if kind.startswith("u") else -100
    labels[4:7] = ignored
    value, dlogits = check(logits, labels, ignore_index=ignored)
    typed = ops.softmax_cross_entropy(logits, labels.astype(kind), ignore_index=np.int64(ignored))
    assert typed[0] == value
    assert_bits(typed[1], dlogits)
    with pytest.raises(ValueError, match=r"labels\[4\]"):
        ops.softmax_cross_entropy(logits, labels.astype(kind), ignore_index=ignored - 256)


@pytest.mark.parametrize("layout", layouts.LAYOUTS)
def test_input_layouts(isa, rng, layout):
    make = layouts.LAYOUTS[layout]
    for rows, classes in [(7, 19), (60, 10), (1, 65)]:
        logits = make(draw(rng, rows, classes)[0])
        target, weight = (
            make(probabilities(rng, rows, classes)),
            make(rng.random(rows, np.float32) + np.float32(0.1)),
        )
        for labels in (rng.integers(0, classes, rows), target):
            got = check(logits, labels, weight)
            plain = ops.softmax_cross_entropy(
                np.array(logits), np.array(labels), sample_weight=np.array(weight)
            )
            assert got[0] == plain[0]
            assert_bits(got[1], plain[1])


def test_impossible_classes(isa):
    """A logit of -inf is a class of probability 0; only the loss of that very class is infinite."""
    logits = np.array([[-np.inf, 0.0, 1.0], [2.0, -np.inf, -np.inf]], np.float32)
    value, dlogits = ops.softmax_cross_entropy(logits, np.array([1, 0]))
    assert abs(value - 0.5 * np.log1p(np.e)) <= 1e-6
    assert dlogits[0, 0] == dlogits[1, 1] == dlogits[1, 2] == 0.0
    assert np.isposinf(ops.softmax_cross_entropy(logits, np.array([0, 0]))[0])


def test_nan_stays_in_its_row(isa, rng):
    logits, labels = draw(rng, 20, 10)
    logits[3, 4], logits[11] = np.nan, -np.inf
    logits[15, 2] = np.inf
    value, dlogits = ops.softmax_cross_entropy(logits, labels)
    assert np.isnan(value)
    assert np.array_equal(np.isnan(dlogits).any(1), np.isin(np.arange(20), (3, 11, 15)))


def test_every_number_of_threads(isa, threads, rng):
    check(*draw(rng, 700, 100))


def test_reference_gradient_by_central_differences(rng):
    logits, labels = draw(rng, 4, 5)[0], np.array([3, 1, 0, 1])
    weight = rng.random(4) + 0.1
    for target in (labels, rng.random((4, 5))):
        for options in ({}, {"label_smoothing": 0.2}, {"ignore_index": 1}):
            if "ignore_index" in options and target is not labels:
                continue

            def loss(z, target=target, options=options):
                return ref.softmax_cross_entropy(z, target, weight, **options)

            numerical = ref.numerical_gradient(lambda z, loss=loss: loss(z)[0], logits)
            assert np.abs(loss(logits)[1] - numerical).max() <= 1e-8


def guard_cases(isa):
    fastnn.set_isa(isa)
    rng = np.random.default_rng(0)
    for rows, classes in [(1, 1), (7, 9), (3, 17), (20, 10), (5, 1025)]:
        logits, labels = draw(rng, rows, classes)
        target, weight = probabilities(rng, rows, classes), rng.random(rows, np.float32)
        want = [ops.softmax_cross_entropy(logits, t, sample_weight=weight)[1] for t in (labels, target)]
        ends = zip(*map(guard.both_ends, (logits, labels, target, weight)), strict=True)
        for (where, z), (_, ids), (_, t), (_, w) in ends:
            print(f"softmax {rows}x{classes}, page at the {where}", file=sys.stderr, flush=True)
            assert_bits(ops.softmax_cross_entropy(z, ids, sample_weight=w)[1], want[0])
            assert_bits(ops.softmax_cross_entropy(z, t, sample_weight=w)[1], want[1])


def test_guard_pages(isa):
    guard.run_isolated("test_softmax_cross_entropy", "guard_cases", isa)
