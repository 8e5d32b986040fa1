"""A step on the device as a graph: branches run side by side, in whatever order its dependencies leave open.

The shim replays a graph's launches one after another: each as early as it was recorded, as late as it can
be, or in an order drawn for each replay. What waits for too little, or shares memory with what runs beside
it, has other bits in one of them.
"""

import fastnn
import numpy as np
import pytest
import shimmed
from cuda_checks import moments
from cuda_shim import shim
from cuda_step_checks import clipped_update
from fastnn import losses, nn, optim
from networks import assert_same_course, seeded, state
from runs import assert_equal_tree

pytestmark = pytest.mark.ci

ORDERS = {"early": shim.EARLY, "late": shim.LATE, "drawn": shim.DRAWN}
SEEDS = [2, 23, 41, 103, 131, 182, 319, 771]


@pytest.fixture(params=ORDERS)
def order(request, device):
    device.library.shim_order(ORDERS[request.param])


def trainer(device="cuda", *, norm=False, loss=losses.CrossEntropyLoss, clip=None, **options):
    """Deep enough that memory is used again."""
    layers, width = [], 6
    for columns in (12, 9, 17, 8, 11):
        layers += [nn.Linear(width, columns), *([nn.BatchNorm1d(columns)] if norm else []), nn.Tanh()]
        width = columns
    model = nn.Sequential(*layers, nn.Linear(width, 3), seed=3)
    made = optim.Adam(model.parameters(), lr=0.01, clip=clip)
    return fastnn.Trainer(model, loss(), made, device=device, **options)


def rows(count, values=False):
    rng = np.random.default_rng(count)
    X = rng.standard_normal((count, 6), np.float32)
    return X, rng.standard_normal((count, 3), np.float32) if values else rng.integers(0, 3, count)


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("seed", SEEDS)
def test_any_order_gives_the_cpus_bits(seed):
    problem = seeded(seed)
    one, other = problem.trainer(), problem.trainer(device="cuda")
    for batch in problem.batches(0)[:2]:
        one.step(*batch)
        float(other.step(*batch))
    assert_same_course(other, one)


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("count", [7, 400], ids=["one block of rows", "three"])
@pytest.mark.parametrize("norm", [False, True], ids=["", "batch-norm"])
@pytest.mark.parametrize("loss", [losses.CrossEntropyLoss, losses.MSELoss])
def test_deep_networks_in_any_order(loss, norm, count):
    runs = [
        trainer(device, norm=norm, loss=loss, clip=optim.ClipByGlobalNorm(0.5)) for device in ("cpu", "cuda")
    ]
    for _ in range(3):
        for run in runs:
            float(run.step(*rows(count, values=loss is losses.MSELoss)))
    assert_same_course(*runs)


def test_rounded_weights_in_any_order(device):
    """bfloat16 has bits of its own, which are the same in each order."""
    states = []
    for number in ORDERS.values():
        device.library.shim_order(number)
        run = trainer(precision="bfloat16")
        for _ in range(3):
            float(run.step(*rows(300)))
        states.append(state(run))
    for other in states[:-1]:
        assert_equal_tree(other, states[-1])


@pytest.mark.usefixtures("order")
def test_a_halted_run_changes_nothing_in_any_order():
    """A bad label, then good batches that are queued behind it."""
    one, other = trainer("cpu"), trainer()
    X, Y = rows(40)
    bad = Y.copy()
    bad[17] = 3
    for run in (one, other):
        float(run.step(X, Y))
        with pytest.raises(ValueError, match="is 3"):
            run.fit(X, bad, batch_size=8, epochs=1, shuffle=False)
        float(run.step(X, Y))
    assert_same_course(other, one)


# 784-256-128-10: options, rows, launches of a step and of its longest path.
SIZES = {
    "float32": ({}, 64, 14, 11),
    "193 rows": ({}, 193, 14, 11),
    "bfloat16": ({"precision": "bfloat16"}, 64, 19, 13),
    "batch-norm": ({"norm": True}, 64, 18, 15),
    "nonfinite='ignore'": ({"nonfinite": "ignore"}, 64, 13, 10),
}


@pytest.mark.parametrize("name", SIZES)
def test_launches_and_the_longest_path(device, name):
    given, count, launches, path = SIZES[name]
    given = {"norm": False, "nonfinite": "raise", **given}
    norm, nonfinite = given.pop("norm"), given.pop("nonfinite")
    layers = []
    for size in ((784, 256), (256, 128)):
        between = [nn.BatchNorm1d(size[1])] if norm else []
        layers += [nn.Linear(*size, bias=not norm), *between, nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(128, 10), seed=0)
    made = optim.Adam(model.parameters(), nonfinite=nonfinite)
    run = fastnn.Trainer(model, losses.CrossEntropyLoss(), made, device="cuda", **given)
    run.step(np.zeros((count, 784), np.float32), np.zeros(count, np.int64))
    assert (device.library.shim_nodes(), device.library.shim_path()) == (launches, path)


WAITS = [
    "if (turn == Turn::joined) join();",
    "wait(branch.event, chain_, branch.stream);",
    "wait(branches_[joined_].event, branches_[joined_].stream, chain_);",
]


def changed(kernels, folder, name, old, new):
    """The shim's kernels with a copy of the file in which `old` is another text."""
    text = shim.text_of(name)
    assert text.count(old) == 1
    broken = folder / name
    broken.write_text(text.replace(old, new))
    ready = [f for f in kernels.folder.glob("*.o") if f.stem != broken.stem]
    return shim.Kernels(folder / "build", [broken], ready)


@pytest.mark.parametrize("wait", WAITS)
def test_each_removed_wait_is_caught(tmp_path, monkeypatch, cuda_kernels, wait):
    library = changed(cuda_kernels, tmp_path, "graph.cu", wait, ";").library
    shimmed.install(monkeypatch, library)
    caught = 0
    for number in ORDERS.values():
        library.shim_order(number)
        one, other = trainer("cpu"), trainer()
        try:
            for run in (one, other):
                float(run.step(*rows(7)))
            assert_same_course(other, one)
        except (AssertionError, fastnn.CudaError):
            caught += 1
    assert caught


def test_a_block_that_decides_too_early_is_caught(tmp_path, cuda_kernels):
    """The first one in place of the last: the sums of the others are not there yet."""
    last = "is_last_block(a.verdict->arrived, static_cast<unsigned>(a.chunks))"
    broken = changed(
        cuda_kernels, tmp_path, "update_norm.cu", last, "atomicAdd(&a.verdict->arrived, 1u) == 0"
    )
    for schedule in (shim.FORWARD, shim.BACKWARD):
        with pytest.raises(AssertionError):
            clipped_update(broken, schedule, "global_norm", [(16384,), (70, 3), (5,)])


def test_statistics_of_rows_that_are_not_there_are_caught(tmp_path, cuda_kernels):
    """Each tile's block takes itself for the last of its columns."""
    broken = changed(
        cuda_kernels,
        tmp_path,
        "gemm_small.cu",
        "(stop - 1) / kSide - begin / kSide + 1",
        "1 + 0 * (stop - begin)",
    )
    for schedule in (shim.FORWARD, shim.BACKWARD):
        with pytest.raises(AssertionError):
            moments(broken, schedule, "float32", (70, 20, 3))
