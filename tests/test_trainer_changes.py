"""What may change between two steps of a trainer: it counts from the next step, as in the plain loop."""

import copy

import fastnn
import numpy as np
import pytest
from bounds import assert_bits
from device_places import few
from fastnn import data, losses, nn, optim, preprocessing, schedulers
from networks import Plain, assert_same_course, assert_same_loss

COLUMNS, CLASSES = 6, 4
pytestmark = pytest.mark.usefixtures("place", "restore_runtime")


def model():
    scaler = preprocessing.StandardScaler().fit(np.random.default_rng(9).normal(1, 2, (20, COLUMNS)))
    block = nn.Sequential(nn.Linear(12, 12), nn.BatchNorm1d(12, debias=True), nn.GELU())
    return nn.Sequential(
        *(nn.Standardize(scaler), nn.Linear(COLUMNS, 12, bias=False), nn.BatchNorm1d(12), nn.ELU(0.7)),
        *(nn.Dropout(0.3), nn.Residual(block), nn.LeakyReLU(0.1), nn.Linear(12, CLASSES)),
        seed=4,
    )


OPTIMIZERS = {
    "SGD": lambda ps: optim.SGD(ps, 0.05),
    "Momentum": lambda ps: optim.Momentum(ps, 0.02),
    "RMSProp": lambda ps: optim.RMSProp(ps),
    "AdaGrad": lambda ps: optim.AdaGrad(ps),
    "Adam": lambda ps: optim.Adam(ps, lr=0.01),
    "AdamW": lambda ps: optim.AdamW([{"params": ps[:2]}, {"params": ps[2:], "lr": 0.02}]),
    "Rprop": lambda ps: optim.Rprop(ps),
}


def pair(optimizer="Adam", loss=None):
    """A trainer and the plain loop, at the same point."""
    network = model()
    made = network, loss or losses.CrossEntropyLoss(), OPTIMIZERS[optimizer](network.parameters())
    return fastnn.Trainer(*copy.deepcopy(made)), Plain(*made)


def batch(rng, rows=20):
    return rng.standard_normal((rows, COLUMNS), np.float32), rng.integers(0, CLASSES, rows)


def check(change, optimizer="Adam", rows=lambda i: 20):
    """Two steps, the change, two steps, another change, two steps: all as in the plain loop."""
    rng = np.random.default_rng(3)
    one, other = pair(optimizer)
    unchanged, _ = pair(optimizer)
    for i in range(3):
        for run in (one, other) if i else ():
            change(run, i)
        for _ in range(2):
            x, y = batch(rng, rows(i))
            assert_same_loss(one.step(x, y), other.step(x, y))
            unchanged.step(x, y)
        assert_same_course(one, other, f"change {i}")
    return one, unchanged


def noticed(one, unchanged):
    """The change changes the result: otherwise the test would say nothing."""
    with pytest.raises(AssertionError):
        assert_same_course(one, unchanged)


# ---- arguments of the step


@pytest.mark.parametrize("sizes", few([[20, 7, 20], [16, 17, 16], [3, 200, 2], [1000, 2, 193]], 2))
def test_the_number_of_rows(isa, sizes):
    check(lambda run, i: None, rows=lambda i: sizes[i])


def test_weights_now_and_then(rng):
    one, other = pair()
    for i in range(6):
        x, y = batch(rng)
        weight = rng.random(20) if i % 2 else None
        assert_same_loss(one.step(x, y, weight), other.step(x, y, weight))
    assert_same_course(one, other)


def test_ids_and_probabilities_in_turn(rng):
    one, other = pair()
    for i in range(6):
        x, y = batch(rng)
        y = (np.eye(CLASSES)[y], y, y.astype(np.uint8))[i % 3]
        assert_same_loss(one.step(x, y), other.step(x, y))
    assert_same_course(one, other)


def test_x_of_two_and_three_axes_in_turn(rng):
    network = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1), seed=0)
    made = network, losses.MSELoss(), optim.Adam(network.parameters())
    one, other = fastnn.Trainer(*copy.deepcopy(made)), Plain(*made)
    for shape in ((6, 5), (6, 3, 5), (2, 9, 5), (18, 5), (2, 1, 2, 5)):
        x, y = rng.standard_normal(shape, np.float32), rng.standard_normal((*shape[:-1], 1))
        assert_same_loss(one.step(x, y), other.step(x, y))
    assert_same_course(one, other)


# ---- threads and instruction sets


@pytest.mark.host("threads and instruction sets")
def test_threads_and_instruction_sets(isas):
    def change(run, i):
        fastnn.set_num_threads(5 - 2 * i)
        fastnn.set_isa(isas[i % len(isas)])

    for first in isas:
        fastnn.set_isa(first)
        fastnn.set_num_threads(2)
        one, unchanged = check(change, rows=lambda i: 300)
        assert_same_course(one, unchanged)  # they change no bit


@pytest.mark.host("threads and instruction sets")
def test_threads_and_instruction_sets_in_the_middle_of_a_fit(isas, rng):
    class Change(fastnn.callbacks.Callback):
        def on_step_end(self, trainer, step, loss):
            fastnn.set_num_threads(1 + step % 3)
            fastnn.set_isa(isas[step % len(isas)])

    X, Y = batch(rng, 300)
    one, other = pair()[0], pair()[0]
    one.fit(X, Y, batch_size=64, epochs=2, callbacks=[Change()])
    other.fit(X, Y, batch_size=64, epochs=2)
    assert_same_course(one, other)


# ---- model


def add_one(run, i):
    run.model[7].bias.data[i : i + 1] += 1


def assign(run, i):
    run.model[1].weight.data = run.model[1].weight.data * 0.5


def through_an_array(run, i):
    held = run.model[5].block[0].weight.data
    held *= -1


def load(run, i):
    state = run.model.state_dict()
    run.model.load_state_dict({name: np.asarray(0.9 * array) for name, array in state.items()})


def statistics(run, i):
    run.model[2].running_mean[...] = 3
    run.model[5].block[1].updates[...] = 0


def freeze(run, i):
    run.model[1].weight.trainable = i == 2
    run.model[7].bias.trainable = i == 1


def freeze_all(run, i):
    for parameter in run.model.parameters():
        parameter.trainable = i == 2


def decay_flags(run, i):
    run.optimizer.param_groups[0]["weight_decay"] = 0.1
    run.model[1].weight.decay = i == 2
    run.model[7].bias.decay = i == 1


def reset(run, i):
    run.model.reset_parameters(i)


def modes(run, i):
    run.model.eval()  # a step trains in training mode, whatever was before


def layer_numbers(run, i):
    norm = run.model[2]
    norm.momentum, norm.eps, norm.unbiased = 0.1 * i, 10.0**-i, i == 2
    run.model[5].block[1].momentum = 0.5
    run.model[5].block[1].eps = 0.1


def dropout_numbers(run, i):
    run.model[4].p = (0.3, 0.8, 0.0)[i]


def dropout_again(run, i):
    run.model[4].seed, run.model[4].forwards = 5, 0


MODEL = (add_one, assign, through_an_array, load, statistics, freeze, freeze_all, decay_flags, reset)
MODEL += (layer_numbers, dropout_numbers, dropout_again)


@pytest.mark.parametrize("change", MODEL, ids=lambda change: change.__name__)
def test_the_model(isa, change):
    noticed(*check(change))


def test_the_mode():
    one, unchanged = check(modes)
    assert_same_course(one, unchanged)


@pytest.mark.slow_on_shim
def test_frozen_parameters_keep_their_slots_and_bits(rng):
    for optimizer in OPTIMIZERS:
        noticed(*check(freeze, optimizer))
    run = pair()[0]
    freeze(run, 1)
    before = run.model.state_dict(), run.optimizer.state_dict()["state"]
    run.step(*batch(rng))
    assert_bits(run.model[1].weight.data, before[0]["1.weight"])
    assert not run.optimizer.state_dict()["state"][0]["m"].any()
    assert run.optimizer.state_dict()["state"][1]["m"].any()


def test_a_layer_in_front_stays_in_evaluation_mode_alone(rng):
    """A step puts a model in evaluation mode into training mode, but no layer of a model that trains."""
    network = nn.Sequential(nn.Dropout(0.5), nn.Linear(COLUMNS, CLASSES), seed=0)
    made = network, losses.CrossEntropyLoss(), optim.SGD(network.parameters(), 0.1)
    one, other = fastnn.Trainer(*copy.deepcopy(made)), Plain(*made)
    for training in (True, False, True):
        for run in (one, other):
            run.model[0].train(training)
        x, y = batch(rng)
        assert_same_loss(one.step(x, y), other.step(x, y))
        assert_same_course(one, other)
    assert one.model[0].forwards == 2
    network = nn.Sequential(nn.Linear(COLUMNS, 8), nn.Dropout(0.5), nn.Linear(8, CLASSES), seed=0)
    run = fastnn.Trainer(network, losses.CrossEntropyLoss(), optim.SGD(network.parameters(), 0.1))
    network[1].eval()
    before = network.state_dict()
    with pytest.raises(RuntimeError, match=r"Dropout.*training mode"):
        run.step(*batch(rng))
    for name, array in network.state_dict().items():
        assert_bits(array, before[name], name)


def test_evaluation_between_steps_leaves_no_trace(place, rng):
    X, Y = batch(rng, 30)
    one, other = pair()
    for _ in range(3):
        assert_same_loss(one.step(X, Y), other.step(X, Y))
        one.evaluate(X, Y)
        one.predict(X[:3])
        one.model.eval()(place.put(X))
        one.model.train()
    assert_same_course(one, other)


def test_forward_and_backward_of_ones_own_between_steps(place, rng):
    """Dropout counts every training forward, batch-norm averages every batch."""
    one, other = pair()
    for _ in range(3):
        (x, y), (between, labels) = batch(rng), batch(rng, 9)
        assert_same_loss(one.step(x, y), other.step(x, y))
        for run, given in ((one, place.all((between, labels))), (other, (between, labels))):
            run.model.backward(run.loss(run.model(given[0]), given[1])[1])
        assert_same_course(one, other)


# ---- optimizer


def lr(run, i):
    run.optimizer.lr = 0.1 / i


def schedule(run, i):
    run.optimizer.lr = schedulers.ExponentialDecay(0.1, 0.5) if i == 1 else 0.01


def clip(run, i):
    run.optimizer.clip = (None, 0.01, optim.ClipByValue(0.001))[i]


def other_clip(run, i):
    run.optimizer.clip = (None, optim.AdaptiveClip(0.01), optim.ClipByNorm(0.01))[i]


def group_option(name, *values):
    def change(run, i):
        for group in run.optimizer.param_groups:
            group[name] = values[i - 1]

    change.__name__ = name
    return change


def decay_to_the_start(run, i):
    run.optimizer.param_groups[0].update(weight_decay=0.1 * i, l1=0.01, decay_to="init")


def all_loaded(run, i):
    state = run.optimizer.state_dict()
    state["step_count"] = 10 * i
    for slots in state["state"].values():
        for slot in slots.values():
            slot += np.float32(0.01)
    run.optimizer.load_state_dict(state)


def steps_of_ones_own(run, i):
    run.model[7].weight.grad = np.full((12, CLASSES), 0.1 * i)
    for parameter in run.model.parameters()[:-2]:
        parameter.grad = np.zeros(parameter.data.shape)
    run.optimizer.step()


COMMON = (
    *(lr, schedule, clip, other_clip, decay_to_the_start, all_loaded, steps_of_ones_own),
    *(group_option("weight_decay", 0.1, 0.0), group_option("l1", 0.01, 0.1)),
    group_option("grad_noise", (0.1, 0.5, 3), None),
)
OWN = {
    "Momentum": [
        *(
            group_option("momentum", 0.5, schedulers.StepDecay(0.9, 3, 0.5)),
            group_option("nesterov", True, False),
        ),
        *(group_option("style", "velocity", "buffer"), group_option("dampening", 0.5, 0.1)),
    ],
    "RMSProp": [
        *(
            group_option("rho", 0.5, 0.99),
            group_option("centered", True, False),
            group_option("eps", 0.1, 0.0),
        ),
        *(group_option("momentum", 0.5, 0.0), group_option("eps_mode", "inside", "outside")),
    ],
    "AdaGrad": [group_option("eps", 0.1, 0.01), group_option("eps_mode", "inside", "outside")],
    "Adam": [
        *(group_option("betas", (0.5, 0.9), (0.0, 0.5)), group_option("amsgrad", True, False)),
        *(group_option("eps", 0.1, 0.01), group_option("eps_mode", "inside", "hat")),
    ],
    "Rprop": [
        group_option("etas", (0.1, 2.0), (0.5, 1.1)),
        group_option("step_sizes", (0.1, 0.2), (0.0, 0.001)),
    ],
}
CHANGES = [(name, change) for name in OPTIMIZERS for change in (*COMMON, *OWN.get(name, ()))]
CHANGES.sort(key=lambda case: case[0] != "Adam" and case[1] in COMMON)
ON_DEVICE = len(COMMON) + sum(map(len, OWN.values()))


@pytest.mark.parametrize(
    ("optimizer", "change"), few(CHANGES, ON_DEVICE), ids=lambda value: getattr(value, "__name__", value)
)
def test_the_optimizer(optimizer, change):
    one, unchanged = check(change, optimizer)
    if (optimizer, change) not in [("Rprop", lr), ("Rprop", schedule)]:  # its rate is that of the first step
        noticed(one, unchanged)


def test_the_options_of_the_loss(rng):
    one, other = pair()
    for smoothing, ignored in ((0.0, None), (0.2, None), (0.2, 1), (0.0, 1)):
        x, y = batch(rng)
        for run in (one, other):
            run.loss.label_smoothing, run.loss.ignore_index = smoothing, ignored
        assert_same_loss(one.step(x, y), other.step(x, y))
        assert_same_course(one, other)


def test_another_loss_and_another_optimizer(rng):
    one, other = pair()
    x, y = batch(rng)
    assert_same_loss(one.step(x, y), other.step(x, y))
    for run in (one, other):
        run.loss, run.optimizer = losses.BCEWithLogitsLoss(), optim.Momentum(run.model.parameters(), 0.1)
    for _ in range(2):
        assert_same_loss(one.step(x, np.eye(CLASSES)[y]), other.step(x, np.eye(CLASSES)[y]))
    assert_same_course(one, other)


def test_changes_between_fits(rng):
    X, Y = batch(rng, 50)
    one, other = pair()
    for epoch, change in enumerate((None, lr, layer_numbers, freeze, add_one, clip)):
        for run in (one, other) if change else ():
            change(run, 1)
        one.fit(X, Y, batch_size=10 + epoch, epochs=1)
        for x, y in data.batches(X, Y, 10 + epoch, epoch=epoch):
            other.step(x, y)
        assert_same_course(one, other, getattr(change, "__name__", ""))
