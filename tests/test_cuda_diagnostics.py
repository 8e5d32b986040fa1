"""Reports on a trainer whose model is on the device: those of the CPU, and what a step moves."""

import fake_cupy
import numpy as np
import pytest
from bounds import assert_bits
from fastnn import callbacks, cuda, diagnostics
from fastnn._device import is_on_device
from runs import assert_equal_tree
from small import labelled_rows
from test_cuda_rows import trainer
from test_diagnostics import EVERY, call, everything

pytestmark = pytest.mark.usefixtures("device")
OWN = ("profile", "suggest_batch_size", "memory_plan")  # what they say depends on the device


def own_loss(pred, target):
    """A value for every row, whatever its class."""
    return 0.5, pred * (target.reshape(-1, 1) + 1.0).astype(np.float32)


def on_device_and_host(loss=None):
    """Two runs that are equal but for their place, with a step behind them."""
    X, Y = labelled_rows()
    runs = trainer("cuda", loss), trainer("cpu", loss)
    for run in runs:
        run.step(X[:16], Y[:16])
    return runs


@pytest.mark.parametrize("loss", [None, own_loss])
@pytest.mark.parametrize("name", [name for name in EVERY if name not in OWN])
def test_a_report_is_that_of_the_host(name, loss):
    X, Y = labelled_rows()
    one, other = on_device_and_host(loss)
    assert str(call(name, one, X, Y)) == str(call(name, other, X, Y))


@pytest.mark.parametrize("loss", [None, own_loss])
@pytest.mark.parametrize("name", EVERY)
def test_nothing_changes_and_all_stays_where_it_is(name, loss):
    X, Y = labelled_rows()
    run, twin = on_device_and_host(loss)
    before = {key: value for key, value in everything(run).items() if key != "grads"}
    call(name, run, X, Y)
    assert all(is_on_device(p.data) and is_on_device(p.grad) for p in run.model.parameters())
    after = {key: value for key, value in everything(run).items() if key != "grads"}
    assert_equal_tree(after, before)
    assert run.step(X, Y) == twin.step(X, Y)
    for path, array in twin.model.state_dict().items():
        assert_bits(run.model.state_dict()[path], array, path)


def test_a_fit_on_the_device_is_not_watched():
    X, Y = labelled_rows()
    run, _ = on_device_and_host()
    reports = diagnostics.StepReports()
    with pytest.raises(
        cuda.CudaError, match=r"^StepReports: .* on the device; call step_report from on_step"
    ):
        run.fit(X, Y, batch_size=16, epochs=1, callbacks=[reports])
    assert run.optimizer.step_count == 1

    class Asks(callbacks.Callback):
        def on_step_end(self, trainer, step, loss):
            self.report = diagnostics.step_report(trainer, X[:16], Y[:16])

    asks = Asks()
    run.fit(X, Y, batch_size=16, epochs=1, callbacks=[asks])
    assert asks.report.step == run.optimizer.step_count + 1


def test_a_profile_has_the_bytes_that_a_step_moves():
    X, Y = labelled_rows()
    run, host = on_device_and_host()
    report = diagnostics.profile(run, X, Y, batch_size=16)
    float(run.step(X[:16], Y[:16]))  # which makes its program again: arrays were moved
    before = cuda.transfer_bytes()
    float(run.step(X[:16], Y[:16]))
    after = cuda.transfer_bytes()
    assert report.transfer_bytes == (after.to_host - before.to_host, after.to_device - before.to_device)
    assert report.transfer_bytes.to_device >= X[:16].nbytes
    assert "moved" in report.summary[0]
    # Layers run on the device together, so they have no times of their own; their work is known.
    ways = ("forward", "backward", "update", "gflops", "gbytes_per_s", "of_limit")
    assert {row[key] for row in report.rows for key in ways} == {None}
    on_host = diagnostics.profile(host, X, Y, batch_size=16)
    assert [(r["layer"], r["kind"], r["bytes"], r["flops"]) for r in report.rows] == [
        (r["layer"], r["kind"], r["bytes"], r["flops"]) for r in on_host.rows
    ]
    assert report.limits is None
    assert on_host.transfer_bytes is None


def test_a_plot_of_such_a_profile(tmp_path):
    pytest.importorskip("matplotlib.figure")
    X, Y = labelled_rows()
    run, _ = on_device_and_host()
    diagnostics.profile(run, X, Y, batch_size=16).plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_sizes_fit_into_the_memory_of_the_device(monkeypatch):
    X, Y = labelled_rows()
    run, _ = on_device_and_host()
    limit = int(diagnostics.memory_plan(run, 8))
    monkeypatch.setattr(fake_cupy.cuda.runtime, "memGetInfo", lambda: (limit, 10 * limit))
    report = diagnostics.suggest_batch_size(run, X, Y)
    assert [row["batch_size"] for row in report.rows] == [8]
