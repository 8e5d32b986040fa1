"""fit_many: several trainers at once, one on each thread."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Iterator, Sequence

from fastnn import _core, _device
from fastnn._arrays import Array, as_rows
from fastnn._fitting import check_callbacks, names_of
from fastnn._interrupts import on_thread, taking_ctrl_c, whole_steps
from fastnn._runtime import get_num_threads
from fastnn.callbacks import Callback, Checkpoint, Watcher
from fastnn.history import History
from fastnn.schedulers import plateaus
from fastnn.trainer import Trainer


def _changed_by(trainer: Trainer, callbacks: Sequence[Callback]) -> Iterator[tuple[Hashable, str, str]]:
    """What a fit changes, which no other may change beside it: its key, its name, what to give each."""
    yield id(trainer.optimizer), f"the optimizer {type(trainer.optimizer).__name__}", "an optimizer"
    for parameter in trainer.model.parameters():
        yield id(parameter), f"parameter {parameter.name!r}", "a model"
    # A layer that is called, as for a loss of one's own, keeps what its backward needs.
    called = not trainer._steps.is_native or any(isinstance(callback, Watcher) for callback in callbacks)
    for place, module in trainer.model.named_modules():
        if module.buffers or module.counters or called:
            yield id(module), f"layer {place!r} ({type(module).__name__})", "a layer"
    for group in trainer.optimizer.param_groups:
        for option in (group["lr"], group.get("momentum"), *group.get("betas", ())):
            for schedule in (option, *plateaus([option])):
                if getattr(schedule, "state_dict", dict)():
                    name = f"the schedule {type(schedule).__name__}, which has a state"
                    yield id(schedule), name, "a schedule"
    for callback in callbacks:
        yield id(callback), f"the callback {type(callback).__name__}", "a callback"
        if isinstance(callback, Checkpoint):
            yield callback.path.resolve(), f"the folder {callback.path}", "a folder"


def fit_many(
    trainers: Iterable[Trainer],
    X: Array,
    Y: Array,
    *,
    batch_size: int,
    epochs: int,
    validation: tuple[Array, Array] | None = None,
    callbacks: Sequence[Sequence[Callback]] | None = None,
) -> list[History]:
    """Fit every trainer on the same rows, as `trainer.fit(X, Y, ...)` would, and return their histories.

    Each trainer runs on one thread, `get_num_threads()` of them at a time: small networks train faster side
    by side than each on all threads. Seeds, rates, schedules, losses and `metrics` are each trainer's own;
    every network ends with the bits of a fit of its own. `callbacks` has one list for each trainer, in their
    order, so that each has its own stop; they are called on the thread of their fit, beside those of others.

    Ctrl-C ends all fits after their running steps. An error of one trainer, or of one of its callbacks,
    is raised when the others have ended their fits. Both leave parameters of whole steps.

    On a GPU the fits share the caller's device and stream, where their steps run one after another; each
    copies the rows that are on the host for itself (docs/cuda.md).

    Raises TypeError for anything but trainers and lists of callbacks, ValueError for a trainer that occurs
    twice, for what two of them share and a fit changes (parameters, a Dropout or another layer with a state,
    with a loss of one's own any layer, a `ReduceOnPlateau` or another schedule with a state, a callback, the
    folder of a `Checkpoint`), and as `Trainer.fit`.

    >>> import numpy as np, fastnn
    >>> from fastnn import callbacks, losses, nn, optim
    >>> X = np.random.default_rng(0).normal(size=(64, 2))
    >>> Y = (X[:, 0] > X[:, 1]).astype(int)
    >>> def trainer(lr):
    ...     model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2), seed=0)
    ...     return fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=lr))
    >>> histories = fastnn.fit_many([trainer(lr) for lr in (1e-5, 0.05)], X, Y, batch_size=16, epochs=10)
    >>> [h["loss"][-1] < 0.2 for h in histories]
    [False, True]

    With a stop for each:

    >>> runs = [trainer(lr) for lr in (1e-5, 0.05)]
    >>> stops = [[callbacks.EarlyStopping(patience=2, min_delta=1e-3)] for _ in runs]
    >>> options = {"batch_size": 16, "epochs": 99, "validation": (X[48:], Y[48:])}
    >>> histories = fastnn.fit_many(runs, X[:48], Y[:48], callbacks=stops, **options)
    >>> [h.epochs for h in histories]
    [3, 9]
    """
    several = isinstance(trainers, Iterable)
    trainers = list(trainers) if several else []
    if not several or not all(isinstance(trainer, Trainer) for trainer in trainers):
        raise TypeError("fit_many: trainers must be a list of fastnn.Trainer objects")
    if len({id(trainer) for trainer in trainers}) < len(trainers):
        raise ValueError("fit_many: a trainer occurs twice")
    if callbacks is None:
        callbacks = [()] * len(trainers)
    if not isinstance(callbacks, (list, tuple)):
        raise TypeError(f"fit_many: callbacks must be a list with a list for each trainer, got {callbacks!r}")
    if len(callbacks) != len(trainers):
        raise ValueError(
            f"fit_many: callbacks must have one list for each of the {len(trainers)} trainers, "
            f"got {len(callbacks)}"
        )
    owners: dict[Hashable, int] = {}
    validated = validation is not None
    for number, (trainer, own) in enumerate(zip(trainers, callbacks, strict=True)):
        check_callbacks(f"fit_many: trainer {number}", own, names_of(trainer, validated), validated)
        for key, name, cure in _changed_by(trainer, own):
            if owners.setdefault(key, number) != number:
                both = f"trainers {owners[key]} and {number}"
                raise ValueError(f"fit_many: {both} share {name}; give each {cure} of its own")
    if not trainers:
        return []
    from concurrent.futures import ThreadPoolExecutor, wait  # not for every `import fastnn`

    X, Y = as_rows(X, "fit_many: X"), as_rows(Y, "fit_many: Y")
    stop = threading.Event()
    on_device = any(trainer.device == "cuda" for trainer in trainers)
    use_device = _device.for_threads() if on_device else None

    def fit(trainer: Trainer, own: Sequence[Callback]) -> History:
        if on_thread.stop():
            return History()
        return trainer.fit(
            X,
            Y,
            batch_size=batch_size,
            epochs=epochs,
            validation=validation,
            progress=False,
            callbacks=own,
        )

    # A Ctrl-C that raised while a thread starts would leave it behind.
    with taking_ctrl_c(), whole_steps() as interrupted:

        def begin() -> None:
            _core.stay_on_this_thread()
            if use_device is not None:
                use_device()
            on_thread.stop = lambda: stop.is_set() or interrupted()

        with ThreadPoolExecutor(min(get_num_threads(), len(trainers)), initializer=begin) as pool:
            try:
                fits = [pool.submit(fit, *each) for each in zip(trainers, callbacks, strict=True)]
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
