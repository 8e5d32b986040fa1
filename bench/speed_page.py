"""The figures of docs/speed.md, taken on this machine: python bench/speed_page.py (under half a minute).

Times are medians of turns, taken in alternation with what they are compared with. Rates of products are the
best seen, as the limit beside them is, since other work only slows both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import perf_counter

import fastnn
import numpy as np
from fastnn import _core, callbacks, data, diagnostics, losses, nn, ops, optim, preprocessing

(X, Y), _ = data.digits()
BYTES = np.rint(255 * X).astype(np.uint8)
THREADS = sorted({1, fastnn.get_num_threads()})


def alternate(
    calls: Mapping[str, Callable[[], object]], seconds: float, figure: Callable[..., float] = np.median
) -> dict[str, float]:
    """Seconds of each call, the `figure` of all rounds but the first."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    end = perf_counter() + seconds
    while perf_counter() < end or len(found[next(iter(calls))]) < 6:
        for name, call in calls.items():
            start = perf_counter()
            call()
            found[name].append(perf_counter() - start)
    return {name: float(figure(times[1:])) for name, times in found.items()}


def digits_net(*hidden: int) -> fastnn.Trainer:
    """784 bytes in, standardized; batch-norm and ReLU behind each hidden layer."""
    layers: list[nn.Module] = [nn.Standardize(preprocessing.StandardScaler().fit(BYTES))]
    widths = 784, *hidden
    for wide, width in zip(widths, hidden):
        layers += [nn.Linear(wide, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(widths[-1], 10), seed=0)
    return fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()))


def step_by_step() -> None:
    print(diagnostics.profile(digits_net(256, 128), BYTES, Y), "\n")


def small_net() -> fastnn.Trainer:
    layers = nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)
    model = nn.Sequential(*layers, seed=0)
    return fastnn.Trainer(model, losses.CrossEntropyLoss(), optim.Adam(model.parameters()))


def scores_inside() -> None:
    """Epochs of 250 steps of a small network: where its loss and accuracy are taken."""
    small, labels = np.random.default_rng(0).standard_normal((8000, 64), np.float32), Y
    fitted, stepped, plain = small_net(), small_net(), small_net()
    outputs = plain.predict(small[:32])

    def steps() -> None:
        for x, y in data.batches(small, labels, 32):
            stepped.step(x, y)

    def layers() -> None:
        hits = 0
        for x, y in data.batches(small, labels, 32):
            pred = plain.model(x)
            _, gradient = plain.loss(pred, y)
            hits += np.count_nonzero(np.argmax(pred, axis=1) == y)
            plain.model.backward(gradient, input_grad=False)
            plain.optimizer.step()

    def argmax() -> None:
        for _ in range(250):
            np.count_nonzero(np.argmax(outputs, axis=1) == labels[:32])

    calls = {
        "fit: loss, accuracy, update inside": lambda: fitted.fit(
            small, labels, batch_size=32, epochs=1, progress=False
        ),
        "loop over Trainer.step: no accuracy": steps,
        "loop over layers, loss, np.argmax": layers,
        "of that: np.argmax and the comparison": argmax,
    }
    found = {}
    for n in THREADS:
        fastnn.set_num_threads(n)
        found[n] = alternate(calls, 3)
    print("us a step, 64-64-64-10 at batch 32, threads:", *THREADS)
    for name in calls:
        print(f"  {name:<40}", *(f"{1e6 * found[n][name] / 250:8.1f}" for n in THREADS))


def anonymous_memory() -> int:
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


class Memory(callbacks.Callback):
    def on_epoch_end(self, trainer: fastnn.Trainer, logs: dict[str, float]) -> bool:
        self.bytes = anonymous_memory()
        return False


def bytes_not_floats() -> None:
    """An epoch of 48,000 rows of bytes, as they are and as float32."""
    rows, labels = np.tile(BYTES, (6, 1)), np.tile(Y, 6)
    floats = rows.astype(np.float32)
    one, other, watch = digits_net(64), digits_net(64), Memory()

    def fit(run: fastnn.Trainer, X: np.ndarray, *watches: Memory) -> None:
        run.fit(X, labels, batch_size=128, epochs=1, progress=False, callbacks=watches)

    fit(one, rows[:1000].repeat(48, axis=0))  # the program's own memory is there
    before = anonymous_memory()
    fit(one, rows, watch)
    more = watch.bytes - before
    times = alternate({"uint8": lambda: fit(one, rows), "float32": lambda: fit(other, floats)}, 4)
    convert = alternate({"": lambda: rows.astype(np.float32)}, 0.5)[""]
    print("\nan epoch of 48,000 rows, 784-64-10 at batch 128")
    for name, array in (("uint8", rows), ("float32", floats)):
        print(f"  {name:<8} {array.nbytes / 1e6:6.1f} MB {1e3 * times[name]:7.0f} ms")
    print(f"  converting all of it before: {1e3 * convert:.0f} ms; more memory in fit: {more / 1e6:.1f} MB")


def halved(images: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels."""
    n, rows, columns = images.shape
    return images.reshape(n, rows // 2, 2, columns // 2, 2).mean((2, 4), dtype=np.float32)


def crop_first() -> None:
    images = BYTES.reshape(-1, 28, 28)
    calls = {
        "resize 28x28 to 14x14, crop to 10x10": lambda: halved(images)[:, 2:12, 2:12],
        "crop to 20x20, resize to 10x10": lambda: halved(images[:, 4:24, 4:24]),
    }
    first, second = (call() for call in calls.values())
    assert np.array_equal(first, second)
    print("\n8,000 digits, equal results")
    for name, seconds in alternate(calls, 2).items():
        print(f"  {name:<40}{1e3 * seconds:8.1f} ms")
    other = np.abs(second - images[:, 4:24:2, 4:24:2]).mean()
    print(f"  every second pixel instead of means: {other:.1f} of 255 away in the mean")


def products() -> None:
    """GFLOP/s of products with `out`, and how many operations there are for a byte."""
    shapes = [(n, n, n) for n in (8, 64, 512)] + [(n, 784, 512) for n in (1, 8, 64, 512)]
    rng = np.random.default_rng(0)
    rates: dict[int, list[float]] = {}
    for threads in THREADS:
        fastnn.set_num_threads(threads)
        rates[threads] = [max(_core.limit_fma() for _ in range(5)) / 1e9]
        for m, k, n in shapes:
            a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
            out, repeats = np.empty((m, n), np.float32), max(1, 10_000_000 // (m * k * n))

            def call(a=a, b=b, out=out, repeats=repeats) -> None:
                for _ in range(repeats):
                    ops.gemm(a, b, out=out)

            rates[threads].append(2e-9 * m * k * n * repeats / alternate({"": call}, 0.5, min)[""])
    print("\nGFLOP/s, threads:", *THREADS, " operations a byte")
    print("  limit, FMA    ", *(f"{rates[threads][0]:8.1f}" for threads in THREADS))
    for i, (m, k, n) in enumerate(shapes, 1):
        intensity = 2 * m * k * n / (4 * (m * k + k * n + m * n))
        print(
            f"  {f'{m}x{k}x{n}':<14}",
            *(f"{rates[threads][i]:8.1f}" for threads in THREADS),
            f"{intensity:8.1f}",
        )


if __name__ == "__main__":
    print(fastnn.get_isa(), THREADS[-1], "threads")
    step_by_step()
    scores_inside()
    bytes_not_floats()
    crop_first()
    products()
