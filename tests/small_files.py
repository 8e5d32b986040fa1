"""Small files for the command line, and how it is called here: in this process."""

import contextlib
import io

import fastnn
import numpy as np
import pytest
from fastnn.__main__ import main


def leave_out_plots(monkeypatch):
    """Half a second less for each training, and nothing is said where matplotlib is not installed."""
    monkeypatch.setattr(fastnn.History, "plot", lambda self, path: path.write_bytes(b""))


@pytest.fixture
def no_plot(monkeypatch):
    leave_out_plots(monkeypatch)


def call(*arguments):
    """(exit status, standard output, standard error)."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as exit:  # argparse's
            status = exit.code
    return status, out.getvalue(), err.getvalue()


def done(*arguments):
    """Standard output of a call that succeeds and says nothing on standard error."""
    status, out, err = call(*arguments)
    assert (status, err) == (0, "")
    return out


def flowers(n=60):
    """Features of three kinds that can be told apart, far from 0 and of different size, and the kinds."""
    rng = np.random.default_rng(0)
    kind = np.arange(n) % 3
    X = rng.normal([0, 500, 0.5], [1, 50, 0.1], (n, 3))
    X[:, 0] += 4 * kind
    X[:, 1] += 100 * (kind == 1)
    return X.round(4).astype(np.float32), np.array(["iris", "rose", "thyme"])[kind]


def prices(n=80):
    """Features and a number to predict, around 10,000."""
    rng = np.random.default_rng(1)
    X = rng.normal([0, 50], [1, 10], (n, 2)).round(4).astype(np.float32)
    return X, (10_000 + 300 * X[:, 0] - 20 * X[:, 1] + 0.5).round(3)


def csv_text(names, X, Y=None):
    lines = [",".join(names)] if names else []
    for i, row in enumerate(X.tolist()):
        lines.append(",".join([*(f"{value:.9g}" for value in row), *([] if Y is None else [str(Y[i])])]))
    return "\n".join(lines) + "\n"
