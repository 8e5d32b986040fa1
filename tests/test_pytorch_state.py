"""Weights and running statistics of PyTorch models, loaded by name: the same outputs."""

import numpy as np
import pytest
from bounds import assert_bits, assert_within
from fastnn import nn
from small import assert_state, labelled_rows

torch = pytest.importorskip("torch", reason="PyTorch is not installed (pip install '.[peers]')")


def trained():
    """A PyTorch network after some steps, with square weights and running statistics away from 0 and 1."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Linear(6, 16, bias=False),
        torch.nn.BatchNorm1d(16),
        torch.nn.ReLU(),
        torch.nn.Linear(16, 16),
        torch.nn.ReLU(),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(16, 3),
    )
    X, Y = (torch.from_numpy(a) for a in labelled_rows())
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(X), Y).backward()
        optimizer.step()
    return net.eval()


def same_layers():
    return nn.Sequential(
        nn.Linear(6, 16, bias=False),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Linear(16, 16),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.Linear(16, 3),
        seed=1,
    ).eval()


def test_a_trained_network_gives_the_same_outputs(isa):
    net, model = trained(), same_layers()
    arrays = [p.data for p in model.parameters()]
    model.load_state_dict(net.state_dict(), layout="pytorch")
    X, _ = labelled_rows()
    with torch.no_grad():
        want = net(torch.from_numpy(X)).numpy()
    assert np.abs(want).max() > 1
    assert_within(model(X), want, 1e-5 * np.abs(want).max(), "outputs")
    for parameter, array in zip(model.parameters(), arrays, strict=True):
        assert parameter.data is array
    assert_bits(model[1].running_mean, net[1].running_mean.numpy())
    assert_bits(model[1].running_var, net[1].running_var.numpy())


def test_a_square_weight_is_transposed():
    net, model = trained(), same_layers()
    model.load_state_dict(net.state_dict(), layout="pytorch")
    weight = net[3].weight.detach().numpy()
    assert np.any(weight != weight.T)
    assert_bits(model[3].weight.data, np.ascontiguousarray(weight.T))


def test_arrays_and_tensors_of_every_kind():
    net = trained()
    want = same_layers()
    want.load_state_dict(net.state_dict(), layout="pytorch")
    for state in (
        {name: tensor.numpy() for name, tensor in net.state_dict().items()},
        {name: tensor.double() for name, tensor in net.state_dict().items()},
        dict(net.named_parameters()) | dict(net.named_buffers()),  # parameters require grad
    ):
        model = same_layers()
        model.load_state_dict(state, layout="pytorch")
        assert_state(model, want.state_dict())


def test_mismatches_are_listed_in_pytorchs_layout():
    model = same_layers()
    before = model.state_dict()
    state = trained().state_dict()
    state["0.weight"] = state["0.weight"].T
    state["1.gamma"] = state.pop("1.weight")
    state["3.bias"] = state["3.bias"].bfloat16()
    state["6.bias"] = torch.empty(3, device="meta")
    state["5.num_batches"] = torch.zeros(())
    with pytest.raises(ValueError) as error:
        model.load_state_dict(state, layout="pytorch")
    for text in (
        "'0.weight' has shape (6, 16), must be (16, 6)",
        "missing '1.weight'",
        "unexpected '1.gamma'",
        "'3.bias': Got unsupported ScalarType BFloat16",
        "'6.bias': ",
        "unexpected '5.num_batches'",
    ):
        assert text in str(error.value)
    assert_state(model, before)


def test_tensors_need_a_layout():
    """A square weight fits both ways, so nothing is guessed."""
    model, net = nn.Linear(4, 4, rng=0), torch.nn.Linear(4, 4)
    before = model.state_dict()
    with pytest.raises(TypeError, match=r"'weight' is a Tensor; pass layout=\"pytorch\""):
        model.load_state_dict(net.state_dict())
    with pytest.raises(TypeError, match=r"got Linear; pass its state_dict\(\)"):
        model.load_state_dict(net, layout="pytorch")
    assert_state(model, before)


def test_residual_and_nested_custom_modules_by_name():
    class TorchBlock(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.block = torch.nn.Sequential(torch.nn.Linear(5, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
            self.shortcut = torch.nn.Linear(5, 3)

        def forward(self, x):
            return self.block(x) + self.shortcut(x)

    torch.manual_seed(1)
    net = TorchBlock()
    model = nn.Residual(nn.Sequential(nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3)), nn.Linear(5, 3))
    model.load_state_dict(net.state_dict(), layout="pytorch")
    x = np.random.default_rng(0).standard_normal((2, 7, 5), np.float32)
    with torch.no_grad():
        assert_within(model(x), net(torch.from_numpy(x)).numpy(), 1e-5, "outputs")
