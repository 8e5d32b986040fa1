"""check_init: neurons that are equal, networks that are dead, gains that do not fit."""

import math

import numpy as np
import pytest
from diagnosed import network_of_4, rows, zeros
from fastnn import diagnostics, init, nn


def test_zeros_make_neurons_that_stay_equal():
    """3-3-1 from zeros, as in the textbook: the hidden neurons are one."""
    model = zeros(nn.Linear(3, 3), nn.Sigmoid(), nn.Linear(3, 1))
    report = diagnostics.check_init(model)
    assert (report.rows[0]["identical"], report.rows[0]["stuck"]) == (3, 3)
    assert report.rows[0]["grad_norm"] == 0 < report.rows[1]["grad_norm"]
    assert not report.ok
    text = "\n".join(report.warnings)
    assert "Linear 0: 3 of 3 neurons are equal" in text
    assert "dead network" not in text  # the sigmoid's outputs of 1/2 move the second layer


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
def test_a_dead_network(activation):
    report = diagnostics.check_init(zeros(nn.Linear(3, 3), activation(), nn.Linear(3, 1)))
    assert "dead network: no weight matrix gets a gradient" in report.warnings[0]


def equal(value=0.3):
    return lambda shape, **_: np.full(shape, value, np.float32)


@pytest.mark.parametrize(
    ("layers", "identical", "stuck"),
    [
        ((nn.Linear(4, 6, weight_init=equal()), nn.Tanh(), nn.Linear(6, 2, weight_init=equal())), 6, 6),
        ((nn.Linear(4, 6, weight_init=equal()), nn.Tanh(), nn.Linear(6, 2, rng=1)), 6, 0),
        (
            (
                nn.Linear(4, 6, weight_init=equal(), bias_init=init.Normal(0, 1), rng=2),
                nn.Tanh(),
                nn.Linear(6, 2),
            ),
            0,
            0,
        ),
        (
            (
                nn.Linear(4, 6, weight_init=equal(), bias=False),
                nn.Dropout(0.5, rng=0),
                nn.Linear(6, 2, weight_init=equal()),
            ),
            6,
            0,
        ),
        (
            (
                nn.Linear(4, 6, weight_init=equal(), bias=False),
                nn.BatchNorm1d(6),
                nn.ReLU(),
                nn.Linear(6, 2, weight_init=equal()),
            ),
            6,
            6,
        ),
    ],
    ids=["equal", "set apart behind", "set apart by bias", "set apart by dropout", "batch-norm"],
)
def test_equal_neurons(layers, identical, stuck):
    row = diagnostics.check_init(nn.Sequential(*layers)).rows[0]
    assert (row["identical"], row["stuck"]) == (identical, stuck)


def test_two_equal_neurons_among_others():
    model = network_of_4()
    for layer, axis in ((model[0], 1), (model[2], 0)):
        weight = layer.weight.data.copy()
        np.moveaxis(weight, axis, 0)[5] = np.moveaxis(weight, axis, 0)[2]
        layer.weight.data = weight
    row = diagnostics.check_init(model, rows()[0]).rows[0]
    assert (row["identical"], row["stuck"]) == (2, 2)


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Sigmoid, nn.Tanh, nn.GELU, nn.SELU, nn.LeakyReLU])
def test_defaults_are_fine(activation):
    hidden = nn.Linear(50, 64), activation(), nn.Linear(64, 64), nn.Dropout(0.2), activation()
    assert diagnostics.check_init(nn.Sequential(*hidden, nn.Linear(64, 10), seed=0)).warnings == []


def test_gain_of_the_activation_behind():
    """Xavier's weights in front of a ReLU are named, not in front of tanh nor of batch-norm."""
    xavier = init.XavierNormal()

    def found(*behind):
        model = nn.Sequential(nn.Linear(64, 64, weight_init=xavier), *behind, nn.Linear(64, 2), seed=0)
        return diagnostics.check_init(model)

    report = found(nn.ReLU())
    assert report.rows[0]["gain"] == pytest.approx(1.0, rel=0.05)
    assert report.rows[0]["wanted"] == pytest.approx(math.sqrt(2))
    assert "Linear 0: gain" in report.warnings[0]
    assert "KaimingNormal(nonlinearity='relu')" in report.warnings[0]
    assert "Linear 0: gain" in found(nn.Dropout(0.1), nn.ReLU()).warnings[0]
    assert found(nn.Tanh()).ok
    assert found(nn.BatchNorm1d(64), nn.ReLU()).ok
    assert found(nn.BatchNorm1d(64), nn.ReLU()).rows[0]["wanted"] is None


def test_a_block_that_adds_nothing_on_purpose_is_fine():
    block = nn.Sequential(nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU())
    block = nn.Sequential(block, nn.Linear(8, 8, bias=False), nn.BatchNorm1d(8))
    layers = nn.Linear(8, 8), nn.ReLU(), nn.Residual(block, zero_gamma=True), nn.Linear(8, 2)
    assert diagnostics.check_init(nn.Sequential(*layers, seed=0)).warnings == []
    block[2].gamma.data = np.ones(8)
    block[1].weight.data = np.zeros((8, 8))
    assert not diagnostics.check_init(nn.Sequential(*layers)).ok


def test_exploding_weights_are_named():
    layers = [nn.Linear(32, 32, weight_init=init.Normal(0, 1)) for _ in range(4)]
    report = diagnostics.check_init(nn.Sequential(*layers, seed=0))
    assert "signals and gradients explode" in report.warnings[0]
    small = [nn.Linear(32, 32, weight_init=init.Normal(0, 0.01)) for _ in range(4)]
    assert "signals and gradients vanish" in diagnostics.check_init(nn.Sequential(*small, seed=0)).warnings[0]


def test_inputs_are_drawn_as_wide_as_the_first_layer():
    assert diagnostics.check_init(nn.Sequential(nn.Flatten(), nn.Linear(5, 2), seed=0)).ok
    assert diagnostics.check_init(nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 2), seed=0)).ok
