"""PyTorch tensors through DLPack: trained in place as torch.optim does, or refused."""

import numpy as np
import pytest
from bad_input import array
from bounds import EPS
from fastnn import ops

torch = pytest.importorskip("torch")


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))


def problem():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((64, 6), np.float32)
    return torch.from_numpy(x), torch.from_numpy(np.argmax(x[:, :3] + 0.1, axis=1))


def gradients(net):
    x, y = problem()
    net.zero_grad()
    loss = torch.nn.functional.cross_entropy(net(x), y)
    loss.backward()
    return loss.item(), [p.grad for p in net.parameters()]


def slots(net):
    return [torch.zeros_like(p) for p in net.parameters()]


def adam(net):
    state = [p.detach() for p in net.parameters()], slots(net), slots(net)
    return lambda grads, step: ops.adam_(state[0], grads, *state[1:], step=step, lr=0.01)


def momentum(net):
    params, velocity = [p.detach() for p in net.parameters()], slots(net)
    return lambda grads, step: ops.momentum_(params, grads, velocity, lr=0.05, momentum=0.8)


def rmsprop(net):
    params, square = [p.detach() for p in net.parameters()], slots(net)
    return lambda grads, step: ops.rmsprop_(params, grads, square, lr=0.01, rho=0.95)


PAIRS = {
    "adam_": (adam, lambda p: torch.optim.Adam(p, lr=0.01)),
    "momentum_": (momentum, lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.8)),
    "rmsprop_": (rmsprop, lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.95, eps=1e-8)),
}


@pytest.mark.parametrize("rule", PAIRS)
def test_trains_like_torch_optim(rule):
    """The same parameters and losses as PyTorch's own optimizer, step after step, in the same memory."""
    ours, theirs = network(), network()
    update, optimizer = PAIRS[rule][0](ours), PAIRS[rule][1](theirs.parameters())
    addresses = [p.data_ptr() for p in ours.parameters()]
    first = None
    for step in range(1, 51):
        value, grads = gradients(ours)
        update(grads, step)
        expected, _ = gradients(theirs)
        optimizer.step()
        assert abs(value - expected) < 1e-5
        first = first or value
    assert value < 0.5 * first  # it learns
    assert [p.data_ptr() for p in ours.parameters()] == addresses
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.max(torch.abs(p - q)).item() <= 1e-5


def test_requires_grad_is_refused():
    net = network()
    params = list(net.parameters())
    before = [p.detach().clone() for p in params]
    grads = [torch.ones_like(p) for p in params]
    with pytest.raises(TypeError, match=r"^sgd_\(\): 'param\[0\]'.*requires grad.*pass p\.detach\(\)"):
        ops.sgd_(params, grads, lr=0.1)
    with pytest.raises(TypeError, match=r"^gemm\(\): 'b'.*requires grad.*pass p\.detach\(\)"):
        ops.gemm(torch.ones(2, 6), params[0].T)
    assert all(torch.equal(p, b) for p, b in zip(params, before))
    ops.sgd_([p.detach() for p in params], grads, lr=0.5)
    assert all(torch.equal(p, b - 0.5) for p, b in zip(params, before))


def test_a_missing_gradient_is_named():
    net = network()
    grads = gradients(net)[1]
    grads[2] = None
    with pytest.raises(TypeError, match=r"'grad\[2\]' is None: every parameter needs a gradient"):
        ops.sgd_([p.detach() for p in net.parameters()], grads, lr=0.1)


def test_shared_storage_is_refused():
    storage = torch.arange(20.0)
    with pytest.raises(ValueError, match="shares memory"):
        ops.sgd_(storage[:12], storage[8:], lr=0.1)
    with pytest.raises(ValueError, match="shares memory"):
        ops.sgd_([storage, storage.view(4, 5)], [torch.ones(20), torch.ones(4, 5)], lr=0.1)
    with pytest.raises(ValueError, match="shares memory"):
        ops.sgd_(storage, storage.numpy(), lr=0.1)
    assert torch.equal(storage, torch.arange(20.0))
    ops.sgd_(storage[:10], storage[10:], lr=1.0)
    assert torch.equal(storage[:10], torch.full((10,), -10.0))


@pytest.mark.parametrize(
    ("make", "error", "pattern"),
    [
        (
            lambda: torch.ones(3).double(),
            TypeError,
            r"'x' must have dtype float32, got float64.*x\.float\(\)",
        ),
        (lambda: torch.ones(3).bfloat16(), TypeError, r"'x' has dtype bfloat16.*x\.float\(\)"),
        (lambda: torch.ones(3).half(), TypeError, r"float16"),
        (lambda: torch.eye(3).to_sparse(), BufferError, r"layout"),
        (lambda: torch.ones(3, device="meta"), Exception, r"meta"),
        (lambda: torch.ones(3, dtype=torch.complex64).conj().imag, ValueError, r"negative.*resolve_neg"),
        (lambda: torch.ones(3, dtype=torch.complex64), TypeError, r"complex64"),
        (lambda: torch.Tensor, TypeError, r"must be a float32 array"),
    ],
)
def test_other_tensors_are_refused(make, error, pattern):
    with pytest.raises(error, match=pattern):
        ops.activation(make(), "relu")


def test_layouts_of_tensors():
    a, b = torch.from_numpy(array(6, 4)), torch.from_numpy(array(5, 4))
    want = a.numpy() @ b.numpy().T
    assert np.allclose(ops.gemm(a, b.T), want, rtol=8 * EPS)
    assert np.allclose(ops.gemm(a.T, b.T, trans_a=True), want, rtol=8 * EPS)
    out = torch.zeros(6, 9)
    assert ops.gemm(a, b, trans_b=True, out=out[:, 2:7]).data_ptr() == out[:, 2:7].data_ptr()
    assert np.allclose(out[:, 2:7].numpy(), want, rtol=8 * EPS)
    assert not out[:, :2].any()
    with pytest.raises(ValueError, match=r"'out' must have contiguous columns"):
        ops.gemm(a, b, trans_b=True, out=torch.zeros(5, 6).T)
    with pytest.raises(ValueError, match=r"'param' must be C-contiguous"):
        ops.sgd_(torch.zeros(1).expand(4), torch.zeros(4), lr=0.1)


def test_labels_may_be_tensors():
    logits, ids = torch.from_numpy(array(5, 4)), torch.tensor([0, 3, 1, 2, 3])
    value, dlogits = ops.softmax_cross_entropy(logits, ids)
    expected = torch.nn.functional.cross_entropy(logits, ids).item()
    assert abs(value - expected) < 1e-6
    assert type(dlogits) is np.ndarray
    with pytest.raises(ValueError, match=r"labels\[1\] is 4"):
        ops.softmax_cross_entropy(logits, torch.tensor([0, 4, 1, 2, 3]))
    with pytest.raises(TypeError, match=r"'labels'.*float32"):
        ops.softmax_cross_entropy(logits, torch.zeros(5))
