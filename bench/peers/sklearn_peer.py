"""scikit-learn's MLPClassifier: the network of its own size, digits of 8x8 and 100 hidden units, without
batch-norm, which it has not.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import sklearn
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

import small_digits as small_digits_job
from cases.case import Arrays
from cases.networks import CHECK_STEPS, weights_of
from peers.peer import Prepared

NETWORK = (64, 100, 10)
STEPS = 40  # a call: checking the arguments of `partial_fit` then costs little


def describe(threads: int) -> dict[str, Any]:
    """The version."""
    return {"version": sklearn.__version__, "detail": f"MLPClassifier.partial_fit, {STEPS} steps a call"}


def train_step(v: Arrays, sizes: Mapping[str, Any], lr: float) -> Prepared | None:
    if sizes["widths"] != NETWORK or sizes["batch_norm"] or sizes["mse"]:
        return None
    X, Y, order, batch = v["X"], v["Y"], v["order"], sizes["batch"]
    # `partial_fit` takes batch after batch from the front of what it is given.
    rows = [order[i : i + STEPS].reshape(-1) for i in range(0, len(order) - STEPS + 1, STEPS)]
    model, calls = classifier(v, batch, lr), 0

    def call() -> None:
        nonlocal calls
        at = rows[calls % len(rows)]
        calls += 1
        model.partial_fit(X[at], Y[at])

    def results() -> Arrays:
        """A second model, a step a call: many steps in one tell only the mean of their losses."""
        checked = classifier(v, batch, lr)
        return {"losses": np.array([checked.partial_fit(X[at], Y[at]).loss_ for at in order[:CHECK_STEPS]])}

    return Prepared(call, results, steps=STEPS)


def share_small_digits(folder: str) -> dict[str, Any]:
    """Writes scikit-learn's digits for both processes."""
    small_digits_job.share(folder, *load_digits(return_X_y=True))
    return {}


def small_digits(folder: str, seed: int) -> dict[str, Any]:
    """One timed fit on these digits, and its accuracy."""
    X, Y, X_test, Y_test = small_digits_job.parts(folder)
    begin = time.perf_counter()
    model = MLPClassifier(
        (small_digits_job.HIDDEN,),
        alpha=0,
        batch_size=small_digits_job.BATCH,
        learning_rate_init=small_digits_job.RATE,
        max_iter=small_digits_job.EPOCHS,
        n_iter_no_change=small_digits_job.EPOCHS,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # all epochs, as asked
        model.fit(X, Y)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "accuracy": float(model.score(X_test, Y_test))}


COMMANDS = {"share_small_digits": share_small_digits, "small_digits": small_digits}


def classifier(v: Arrays, batch: int, lr: float) -> MLPClassifier:
    """The network with the case's initial weights and a new Adam."""
    model = MLPClassifier(
        NETWORK[1:-1], alpha=0, batch_size=batch, learning_rate_init=lr, shuffle=False, random_state=0
    )
    model.partial_fit(v["X"][:batch], v["Y"][:batch], classes=np.arange(NETWORK[-1]))
    model.coefs_ = [weight.copy() for weight in weights_of(v)]
    model.intercepts_ = [np.zeros_like(bias) for bias in model.intercepts_]
    del model._optimizer  # made anew for these weights
    return model
