"""Large products of bfloat16 and TF32 by cuBLASLt: the shim with a stand-in (cuda_shim/cublaslt.cpp)."""

import re

import cuda_checks
import cuda_tensor_checks as checks
import fastnn
import numpy as np
import pytest
import shimmed
from fastnn import losses, nn, optim

pytestmark = pytest.mark.ci

# 132 tiles of 128 by 128 are the fewest of a large product.
LONG = 131 * 128


@pytest.fixture
def kernels(kernels_with_cublaslt):
    return kernels_with_cublaslt


@pytest.fixture
def library(kernels):
    """The library of the kernels: three kernels to propose, and nothing fails."""
    yield kernels.library
    kernels.library.cublaslt_proposals(3)
    kernels.library.cublaslt_fails(0)
    kernels.library.cublaslt_knows_nothing(0)


def products(library, check, *given, **options):
    """How many products the library formed while something was checked."""
    before = library.cublaslt_multiplied()
    check(*given, **options)
    return library.cublaslt_multiplied() - before


def shapes(precision):
    few = checks.EACH[precision]
    return [(120, LONG + few, 2 * few), (LONG + few, 120, few)]


@pytest.mark.parametrize("precision", checks.PRECISIONS)
def test_products(kernels, library, precision):
    few = checks.EACH[precision]
    for i in range(8):
        options = {"trans_a": i % 2 == 1, "trans_b": i // 2 % 2 == 1, "gaps": (few, 2 * few, i % 3)}
        options |= {"alpha": (1.0, -0.5)[i // 2 % 2], "beta": (0.0, 2.0)[i % 2], "bias": i % 3 == 1}
        if precision == "bfloat16" and i % 3 == 0:
            options["narrow"] = True
        shape = shapes(precision)[i // 4]
        assert products(library, checks.gemm, kernels, 0, precision, *shape, **options) == 1, options


@pytest.mark.parametrize("precision", checks.PRECISIONS)
def test_integers_are_exact(kernels, library, precision):
    for shape in shapes(precision):
        assert products(library, checks.gemm, kernels, 0, precision, *shape, whole=True) == 1


@pytest.mark.parametrize("precision", checks.PRECISIONS)
def test_what_stays_with_the_own_kernels(kernels, library, precision):
    """Small products, odd rows, an activation, a bias behind which the result is rounded."""
    m, n, k = shapes(precision)[0]
    given = [((64, 64, 32), {}), ((m, n, k), {"gaps": (1, 0, 0)}), ((m, n, k), {"kind": "relu"})]
    given += [((m, n, 0), {})]
    if precision == "bfloat16":
        given.append(((m, n, k), {"bias": True, "narrow": True}))
    for shape, options in given:
        assert products(library, checks.gemm, kernels, 0, precision, *shape, **options) == 0, options


@pytest.mark.parametrize("precision", checks.PRECISIONS)
def test_sums_beside(kernels, library, precision):
    """The product is formed by itself and with the sums, whose bits are the same."""
    given = kernels, 0, precision, shapes(precision)[0]
    assert products(library, cuda_checks.beside, *given, None, False, (500, 40)) == 2
    assert products(library, cuda_checks.beside, *given, None, False, None) == 2
    assert products(library, cuda_checks.moments, *given) == 2
    assert products(library, cuda_checks.gradient_sums, *given, "relu") == 2


def test_a_product_is_looked_up_once(kernels, library):
    m, n, k = shapes("tf32")[0]
    checks.gemm(kernels, 0, "tf32", m, n, 5 * k, bias=True)
    asked, made = library.cublaslt_asked(), library.cublaslt_made()
    checks.gemm(kernels, 0, "tf32", m, n, 5 * k, bias=True)
    assert library.cublaslt_asked() == asked
    checks.gemm(kernels, 0, "tf32", m, n, 5 * k)
    assert library.cublaslt_asked() == asked + 1
    assert library.cublaslt_made() == made + 4  # three matrices and what is done with them


def tf32_product(run, gap=0, k=8):
    """The status of a product of ones whose rows lie so many numbers apart, and the product."""
    m, n, _ = shapes("tf32")[0]
    c = np.ones(m * (n + gap), np.float32)
    made, fields, _kept = cuda_checks.product_of(
        (np.ones((m, k), np.float32), np.ones((k, n), np.float32)), "tf32", c
    )
    fields["g"].c_row += gap
    return run(made, **fields), c


def test_plans_are_not_kept_without_end(kernels, library):
    library.cublaslt_fails(1)  # no need to form them
    for gap in range(300):
        tf32_product(kernels.run, gap)
    assert 0 < library.cublaslt_made() <= 4 * 256


def test_without_a_proposal_the_own_kernel_runs(kernels, library):
    m, n, k = shapes("bfloat16")[0]
    library.cublaslt_proposals(0)
    assert products(library, checks.gemm, kernels, 0, "bfloat16", m, n, 2 * k) == 0


def test_what_the_library_says_is_an_error(kernels, library):
    library.cublaslt_fails(1)
    status, _ = tf32_product(kernels.run)
    assert kernels.message(status) == "cuBLASLt: invalid value"


def test_what_it_says_of_a_question_is_an_error_in_calls_and_programs(monkeypatch, kernels, library):
    library.cublaslt_knows_nothing(1)
    status, _ = tf32_product(kernels.run, k=16)
    assert kernels.message(status) == "cuBLASLt: internal error"
    shimmed.install(monkeypatch, kernels.library)
    model = nn.Sequential(nn.Linear(20, LONG + 16), seed=1)
    run = fastnn.Trainer(
        model, losses.MSELoss(), optim.SGD(model.parameters(), lr=0.1), precision="tf32", device="cuda"
    )
    before = model.state_dict()
    with pytest.raises(fastnn.CudaError, match="CUDA says: cuBLASLt: internal error"):
        float(run.step(np.ones((4, 20), np.float32), np.ones((4, LONG + 16), np.float32)))
    for name, array in model.state_dict().items():
        assert np.array_equal(array, before[name]), name


def test_in_a_graph_of_ones_own_the_own_kernel_forms_what_is_new(kernels, library):
    """The library cannot be asked while a stream is captured; a program asks it before (test_steps)."""

    def captured():
        status, c = tf32_product(kernels.capture, k=12)
        assert status == 0
        assert (c == 12).all()

    assert products(library, captured) == 0
    assert products(library, tf32_product, kernels.run, k=12) == 1
    assert products(library, captured) == 1


def test_who_forms_large_products_is_named(kernels, cuda_kernels):
    assert kernels.product_library() == "cuBLASLt 13.0.2"
    assert re.fullmatch(r"fastnn \(.*no-such-library: .*\)", cuda_kernels.product_library())


@pytest.mark.parametrize("precision", checks.PRECISIONS)
@pytest.mark.parametrize("normed", [False, True])
def test_steps(monkeypatch, kernels, precision, normed):
    """The course of the CPU but for rounding; the products are in the graph."""
    shimmed.install(monkeypatch, kernels.library)
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(24, 16)).astype(np.float32), rng.integers(0, 8, 24)
    taken, ends = [], []
    for device, rounding in (("cuda", precision), ("cpu", precision.replace("tf32", "float32"))):
        middle = [nn.BatchNorm1d(LONG + 16), nn.ReLU()] if normed else []
        first, last = nn.Linear(16, LONG + 16, bias=not normed), nn.Linear(LONG + 16, 8)
        model = nn.Sequential(first, *middle, last, seed=1)
        start = model.state_dict()
        rule = optim.SGD(model.parameters(), lr=0.01)
        run = fastnn.Trainer(model, losses.CrossEntropyLoss(), rule, precision=rounding, device=device)
        before = kernels.library.cublaslt_multiplied()
        found = [float(run.step(x, y)) for _ in range(2)]
        taken.append(kernels.library.cublaslt_multiplied() - before)
        moved = {name: array - start[name] for name, array in run.model.state_dict().items()}
        ends.append((found, moved))
    # In each step the forward of the first layer, the dX of the last, both dW. In bfloat16 the first two are
    # rounded too where nothing lies between.
    assert taken == [2 * (2 if precision == "bfloat16" and not normed else 4), 0]
    (got, moved), (want, others) = ends
    assert got == pytest.approx(want, rel=1e-3)
    assert want[1] < want[0]
    for name, array in moved.items():
        assert np.linalg.norm(array - others[name]) <= 0.02 * np.linalg.norm(others[name]), name
