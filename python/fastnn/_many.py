"""fit_many: several trainers at once, one on each thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from fastnn import _core
from fastnn._arrays import Array, as_rows
from fastnn._interrupts import on_thread, taking_ctrl_c, whole_steps
from fastnn._runtime import get_num_threads
from fastnn.history import History
from fastnn.schedulers import plateaus
from fastnn.trainer import Trainer


def _changed_by(trainer: Trainer) -> Iterator[tuple[object, str, str]]:
    """What a fit changes, which no other may change beside it: the thing, its name, what to give each."""
    yield trainer.optimizer, f"the optimizer {type(trainer.optimizer).__name__}", "an optimizer"
    for parameter in trainer.model.parameters():
        yield parameter, f"parameter {parameter.name!r}", "a model"
    for place, module in trainer.model.named_modules():
        # A layer that is called, as for a loss of one's own, keeps what its backward needs.
        if module.buffers or module.counters or not trainer._steps.is_native:
            yield module, f"layer {place!r} ({type(module).__name__})", "a layer"
    for group in trainer.optimizer.param_groups:
        for option in (group["lr"], group.get("momentum"), *group.get("betas", ())):
            for schedule in (option, *plateaus([option])):
                if getattr(schedule, "state_dict", dict)():
                    yield schedule, f"the schedule {type(schedule).__name__}, which has a state", "a schedule"


def fit_many(
    trainers: Iterable[Trainer],
    X: Array,
    Y: Array,
    *,
    batch_size: int,
    epochs: int,
    validation: tuple[Array, Array] | None = None,
) -> list[History]:
    """Fit every trainer on the same rows, as `trainer.fit(X, Y, ...)` would, and return their histories.

    Each trainer runs on one thread, `get_num_threads()` of them at a time: small networks train faster side
    by side than each on all threads. Seeds, rates, schedules, losses and `metrics` are each trainer's own;
    every network ends with the bits of a fit of its own.

    Ctrl-C ends all fits after their running steps. An error of one trainer is raised when the others have
    ended their fits. Both leave parameters of whole steps.

    Raises TypeError for anything but trainers, ValueError for a trainer that occurs twice, for what two of
    them share and a fit changes (parameters, a Dropout or another layer with a state, with a loss of one's
    own any layer, a `ReduceOnPlateau` or another schedule with a state), and as `Trainer.fit`.

    >>> import numpy as np, fastnn
    >>> from fastnn import losses, nn, optim
    >>> X = np.random.default_rng(0).normal(size=(64, 2))
    >>> Y = (X[:, 0] > X[:, 1]).astype(int)
    >>> def trainer(lr):
    ...     model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2), seed=0)
    ...     return fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=lr))
    >>> histories = fastnn.fit_many([trainer(lr) for lr in (1e-5, 0.05)], X, Y, batch_size=16, epochs=10)
    >>> [h["loss"][-1] < 0.2 for h in histories]
    [False, True]
    """
    several = isinstance(trainers, Iterable)
    trainers = list(trainers) if several else []
    if not several or not all(isinstance(trainer, Trainer) for trainer in trainers):
        raise TypeError("fit_many: trainers must be a list of fastnn.Trainer objects")
    if len({id(trainer) for trainer in trainers}) < len(trainers):
        raise ValueError("fit_many: a trainer occurs twice")
    owners: dict[int, int] = {}
    for number, trainer in enumerate(trainers):
        for thing, name, cure in _changed_by(trainer):
            if owners.setdefault(id(thing), number) != number:
                both = f"trainers {owners[id(thing)]} and {number}"
                raise ValueError(f"fit_many: {both} share {name}; give each {cure} of its own")
    if not trainers:
        return []
    from concurrent.futures import ThreadPoolExecutor, wait  # not for every `import fastnn`

    X, Y = as_rows(X, "fit_many: X"), as_rows(Y, "fit_many: Y")
    stop = threading.Event()

    def fit(trainer: Trainer) -> History:
        if on_thread.stop():
            return History()
        return trainer.fit(X, Y, batch_size=batch_size, epochs=epochs, validation=validation, progress=False)

    # A Ctrl-C that raised while a thread starts would leave it behind.
    with taking_ctrl_c(), whole_steps() as interrupted:

        def begin() -> None:
            _core.stay_on_this_thread()
            on_thread.stop = lambda: stop.is_set() or interrupted()

        with ThreadPoolExecutor(min(get_num_threads(), len(trainers)), initializer=begin) as pool:
            try:
                fits = [pool.submit(fit, trainer) for trainer in trainers]
                wait(fits)
            except BaseException:  # of a signal handler of the caller's own
                stop.set()
                _core.stop_steps(True)
                try:
                    pool.shutdown(cancel_futures=True)
                finally:  # a second one too
                    _core.stop_steps(False)
                raise
    return [one.result() for one in fits]
