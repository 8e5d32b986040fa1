"""One hash of a training of 200 steps, for all threads and instruction sets, steps and fits, and files."""

import fastnn
import guard
import numpy as np
import pytest
from conftest import ISAS
from device_places import few
from fastnn import data, losses, nn, optim, schedulers
from networks import state
from runs import StopAt
from test_determinism import THREADS, digest, everywhere

ROWS, BATCH, EPOCHS = 700, 70, 20
STEPS = EPOCHS * ROWS // BATCH
pytestmark = pytest.mark.usefixtures("place", "restore_runtime")


def rows():
    rng = np.random.default_rng(5)
    return rng.standard_normal((ROWS, 40), np.float32), rng.integers(0, 10, ROWS)


def trainer():
    block = nn.Sequential(nn.Linear(48, 48), nn.BatchNorm1d(48), nn.SiLU())
    model = nn.Sequential(
        *(nn.Linear(40, 48, bias=False), nn.BatchNorm1d(48), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Residual(block), nn.Linear(48, 10)),
        seed=3,
    )
    rate = schedulers.LinearWarmup(schedulers.CosineAnnealingDecay(0.01, STEPS), 20)
    optimizer = optim.Adam(model.parameters(), lr=rate, weight_decay=1e-3, clip=1.0)
    return fastnn.Trainer(model, losses.CrossEntropyLoss(label_smoothing=0.1), optimizer, seed=2)


def hashed(run):
    """Digest of all weights, statistics, slots and masks to come."""
    assert run.optimizer.step_count == STEPS
    found = state(run)
    slots = [array for slots in found["optimizer"]["state"].values() for array in slots.values()]
    counts = [list(counters.values()) for counters in found["counts"].values()]
    return digest(*found["model"].values(), *slots, *counts)


def fit(run, epochs, **options):
    return run.fit(*rows(), batch_size=BATCH, epochs=epochs, **options)


def fitted():
    run = trainer()
    history = fit(run, EPOCHS)
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    return hashed(run)


def stepped():
    run = trainer()
    for epoch in range(EPOCHS):
        for x, y in data.batches(*rows(), BATCH, seed=2, epoch=epoch):
            run.step(x, y)
    return hashed(run)


@pytest.fixture(scope="module")
def want():
    """Of the CPU: the fixture is made before a test says where."""
    return fitted()


@pytest.mark.host("threads and instruction sets")
def test_fits_and_steps_everywhere(isas):
    found = {**everywhere(isas, fitted), **{(*k, "steps"): v for k, v in everywhere(isas, stepped).items()}}
    assert len(found) == 2 * len(isas) * len(THREADS)
    assert len(set(found.values())) == 1, found


@pytest.mark.host("threads and instruction sets")
def test_every_step_on_other_threads_and_another_instruction_set(isas, want):
    class Change(fastnn.callbacks.Callback):
        def on_step_end(self, trainer, step, loss):
            fastnn.set_num_threads(THREADS[step % 4])
            fastnn.set_isa(isas[step // 3 % len(isas)])

    run = trainer()
    fit(run, EPOCHS, callbacks=[Change()])
    assert hashed(run) == want


def saved(path, stop):
    """A training that was stopped after so many steps, and saved there."""
    run = trainer()
    fit(run, EPOCHS, callbacks=[StopAt(stop, path)])
    return run


def resumed(path):
    run = trainer()
    run.load(path)
    fit(run, EPOCHS - run.epoch)
    return hashed(run)


def resumed_case(path):
    print(resumed(path), fastnn.get_isa(), fastnn.get_num_threads())


@pytest.mark.slow_on_shim
@pytest.mark.parametrize("stop", few([93, 1, 100, STEPS - 1], 1))
def test_saved_and_loaded_in_the_middle(tmp_path, isas, want, stop):
    path = tmp_path / "run.safetensors"
    fastnn.set_isa(isas[-1])
    fastnn.set_num_threads(3)
    assert saved(path, stop).optimizer.step_count == stop
    fastnn.set_isa(isas[0])
    fastnn.set_num_threads(2)
    assert resumed(path) == want


def test_saved_by_steps_and_loaded_for_a_fit(tmp_path):
    """An epoch of single steps is none of the trainer's epochs, so whole ones go on from a file."""
    one, other = trainer(), trainer()
    fit(one, 3)
    one.save(tmp_path / "a")
    for x, y in data.batches(*rows(), BATCH, seed=2, epoch=3):
        one.step(x, y)
    one.save(tmp_path / "b")
    other.load(tmp_path / "a")
    fit(other, 1)
    again = trainer()
    again.load(tmp_path / "b")
    assert digest(*again.model.state_dict().values()) == digest(*other.model.state_dict().values())
    assert (again.epoch, other.epoch, again.optimizer.step_count) == (3, 4, other.optimizer.step_count)


@pytest.mark.host("in a process of its own")
@pytest.mark.parametrize(("isa", "threads"), [(ISAS[i % len(ISAS)], n) for i, n in enumerate((1, 3, 8, 2))])
def test_a_new_process_goes_on(tmp_path, want, isa, threads):
    path = str(tmp_path / "run.safetensors")
    saved(path, 117)
    env = {"FASTNN_ISA": isa, "FASTNN_NUM_THREADS": str(threads)}
    printed = guard.run_isolated("test_trainer_determinism", "resumed_case", path, env=env)
    assert printed.split() == [want, isa, str(threads)]
