"""Bad input to the losses of ops beyond what bad_input.py asks of every function: labels, weights, shapes."""

import numpy as np
from bad_input import F32, array, t, v

NAN_WEIGHT, NO_WEIGHT, MINUS_WEIGHT = array(6), np.zeros(6, F32), array(6)
NAN_WEIGHT[3], MINUS_WEIGHT[2] = np.nan, -1.0
LOSS = "softmax_cross_entropy"

ROWS = [
    v(LOSS, "a label below 0", r"labels\[2\] is -1.*0\.\.3", labels=np.array([0, 1, -1, 0, 1, 4])),
    v(LOSS, "a label of C", r"labels\[5\] is 4.*0\.\.3", labels=np.array([0, 1, 3, 0, 1, 4])),
    v(LOSS, "int8 -128", r"labels\[0\] is -128", labels=np.full(6, -128, np.int8)),
    v(LOSS, "uint64 2**64-1", r"labels\[0\]", labels=np.full(6, 2**64 - 1, np.uint64)),
    v(LOSS, "uint32 2**32-1", r"labels\[0\]", labels=np.full(6, 2**32 - 1, np.uint32)),
    v(LOSS, "too few labels", r"'labels'.*\(6,\).*\(5,\)", labels=np.zeros(5, int)),
    v(LOSS, "labels (n, 1)", r"'labels'", labels=np.zeros((6, 1), int)),
    v(LOSS, "probabilities of other classes", r"'labels'.*shape", labels=array(6, 5)),
    t(LOSS, "float labels (n,)", r"'labels'", labels=np.zeros(6, F32)),
    t(LOSS, "float64 labels (n,)", r"'labels'.*float64", labels=np.zeros(6)),
    t(LOSS, "float64 probabilities", r"'labels'.*float64", labels=np.ones((6, 4))),
    t(LOSS, "bool labels", r"'labels'.*bool", labels=np.zeros(6, bool)),
    t(LOSS, "labels as words", r"'labels'", labels=np.array(list("abcdef"))),
    t(LOSS, "labels as objects", r"'labels'.*object", labels=np.zeros(6, object)),
    t(LOSS, "labels as times", r"'labels'.*m", labels=np.zeros(6, "m8[s]")),
    t(LOSS, "labels as a list", r"'labels'.*list", labels=[0, 1, 2, 3, 0, 1]),
    t(LOSS, "labels is None", r"'labels'.*None", labels=None),
    t(LOSS, "masked labels", r"'labels'.*masked", labels=np.ma.masked_array(np.zeros(6, int))),
    v(LOSS, "no rows", "row", logits=array(0, 4), labels=np.zeros(0, int), sample_weight=None),
    v(LOSS, "no classes", "class", logits=array(6, 0), sample_weight=None),
    v(LOSS, "a NaN weight", r"sample_weight", sample_weight=NAN_WEIGHT),
    v(LOSS, "an infinite weight", r"sample_weight", sample_weight=np.full(6, np.inf, F32)),
    v(LOSS, "a negative weight", r"sample_weight", sample_weight=MINUS_WEIGHT),
    v(LOSS, "no weight", r"sample_weight", sample_weight=NO_WEIGHT),
    *(
        v(loss, case, r"'sample_weight", sample_weight=weight)
        for loss in ("sigmoid_cross_entropy", "mse", "quadratic_cost", "huber")
        for case, weight in (("a NaN weight", NAN_WEIGHT), ("a negative weight", MINUS_WEIGHT))
    ),
    *(
        v(loss, case, pattern, **dict(zip(names, arrays, strict=True)))
        for loss, *names in (
            ("sigmoid_cross_entropy", "logits", "targets", "sample_weight"),
            *((f, "pred", "target", "sample_weight") for f in ("mse", "quadratic_cost", "huber")),
        )
        for case, pattern, *arrays in (
            ("no weight", "'sample_weight'.*zero", array(6, 4), array(6, 4), NO_WEIGHT),
            ("an infinite weight", r"sample_weight\[0\]'", array(6), array(6), np.full(6, np.inf, F32)),
            ("weights of elements", "'sample_weight'.*1-D", array(6, 4), array(6, 4), array(6, 4)),
            ("a target (n,) for (n, 1)", "shape", array(6, 1), array(6), None),
            ("a target (n, 1) for (n,)", "shape", array(6), array(6, 1), None),
            ("a target of one row", "shape", array(6, 4), array(1, 4), None),
            ("no rows", "row", array(0, 4), array(0, 4), None),
            ("no outputs", "output", array(6, 0), array(6, 0), None),
            ("a single value", "row", np.array(1.0, F32), np.array(1.0, F32), None),
        )
    ),
    v(LOSS, "ignored probabilities", r"'ignore_index'.*class ids", labels=array(6, 4), ignore_index=0),
    v(LOSS, "all rows ignored", r"'labels'.*all 2.*skip", labels=np.full(6, 2), ignore_index=2),
    v(
        *(LOSS, "no weight on what is not ignored", r"'sample_weight'.*zero"),
        labels=np.array([0, 0, 0, 0, 0, 1]),
        sample_weight=np.array([1, 1, 1, 1, 1, 0], F32),
        ignore_index=0,
    ),
    v(LOSS, "another label outside", r"labels\[1\] is -2", labels=np.array([-1, -2] * 3), ignore_index=-1),
    *(t(LOSS, f"ignore_index={i!r}", r"'ignore_index'", ignore_index=i) for i in (1.0, "1", [1])),
]
