"""Every kernel of csrc/cuda but those of tensor cores over twenty shapes or more, run by the shim: the bits
of the CPU's kernels.

FASTNN_SHIM_SHAPES=200 draws further shapes, to so many for each kernel (tests/tiers/cuda_shim.sh).
"""

import os
import zlib

import cuda_checks as checks
import cuda_step_checks as steps
import cuda_tensor_checks as tensor
import numpy as np
import pytest
from cuda_places import in_packs
from cuda_shim import shim

pytestmark = pytest.mark.ci

SHAPES = int(os.environ.get("FASTNN_SHIM_SHAPES", "20"))
LENGTHS = [0, 1, 2, 3, 4, 5, 7, 8, 31, 64, 127, 1000, 1023, 1024, 1025, 4097, 16383, 16384, 16385, 40000]
BATCHES = [
    *((2, 1), (3, 5), (2, 16), (7, 4), (15, 8), (16, 3), (17, 12), (18, 129), (50, 1), (64, 10)),
    *(
        (100, 33),
        (191, 4),
        (192, 5),
        (193, 8),
        (200, 20),
        (384, 6),
        (385, 4),
        (400, 130),
        (600, 3),
        (64, 520),
    ),
]
CLASSES = [(1, 1), (1, 2), (2, 3), (3, 10), (5, 15), (7, 16), (8, 17), (9, 31), (10, 32), (11, 33), (20, 10)]
CLASSES += [(33, 5), (64, 2), (4, 100), (2, 127), (3, 128), (5, 129), (1, 1000), (40, 12), (65, 7)]
OUTPUTS = [(1, 1), (2, 3), (5, 16), (7, 17), (64, 1), (65, 1), (100, 10), (1023, 1), (1024, 1), (1025, 1)]
OUTPUTS += [
    (3, 1000),
    (129, 8),
    (600, 5),
    (4097, 1),
    (16384, 1),
    (16385, 1),
    (1, 20000),
    (300, 60),
    (63, 2),
    (40, 500),
]
GEMM = [
    (1, 1, 0),
    (1, 1, 1),
    (3, 2, 5),
    (4, 4, 15),
    (5, 7, 16),
    (7, 5, 17),
    (63, 3, 4),
    (64, 64, 8),
    (65, 66, 9),
]
GEMM += [
    (17, 128, 31),
    (128, 5, 32),
    (2, 130, 33),
    (33, 1, 64),
    (1, 33, 100),
    (8, 9, 511),
    (5, 6, 512),
    (6, 5, 513),
]
GEMM += [(3, 70, 20), (70, 3, 21), (16, 16, 48)]
# Of a product, and the rows of a matrix whose columns are summed beside it.
BESIDE = [(1, 1, 1, 0), (17, 33, 9, 1), (2, 130, 64, 3), (65, 66, 31, 191), (5, 100, 700, 192)]
BESIDE += [(33, 66 * 32 + 3, 8, 193), (0, 5, 4, 500), (5, 0, 4, 1600), (3, 4, 0, 4000)]
# Each tile of each kernel, strips that end within one, blocks of rows that a tile of 128 straddles; few tiles
# where all threads run at once.
STATISTICS = [(193, 33, 700), (17, 33, 9), (192, 20, 3), (400, 64 * 22 - 3, 5), (70, 19 * 32 + 5, 3)]
STATISTICS += [(2, 1, 1), (197, 66 * 128 - 7, 2), (5, 100, 1100), (390, 20, 1), (500, 16, 2)]
# The lengths of the arrays of an update; the shapes of those of a clipped one.
UPDATES = [(1,), (5, 4, 0, 1023), (1024, 3), (16384, 7), (16385, 1), (2, 33000, 9)]
CLIPPED = [((1,),), ((5,), (4, 3), (1023,)), ((70, 100), (3,)), ((4096,),), ((4097,), (129, 5)), ((5000,),)]
ROUNDED = [(0, 3), (1, 1), (2, 4), (3, 5), (8, 32), (17, 129), (64, 100), (1, 4097)]


def drawn(shapes, *highest):
    """`shapes`, and others, drawn, to as many as are asked for."""
    rng = np.random.default_rng(zlib.crc32(repr(shapes).encode()))
    found = dict.fromkeys(shapes)
    while len(found) < SHAPES:
        found[tuple(int(rng.integers(1, high)) for high in highest)] = None
    return [*found]


def lengths():
    return [n for (n,) in drawn([(n,) for n in LENGTHS], 40000)]


RAN = set()


@pytest.fixture(autouse=True)
def note(request):
    RAN.add(request.node.name)


@pytest.fixture(params=["forward", "backward", "mixed"])
def schedule(request):
    return ["forward", "backward", "mixed"].index(request.param)


def each(schedule, shapes):
    """(shape, number) for a third of the shapes with each schedule."""
    return [(shape, i) for i, shape in enumerate(shapes) if i % 3 == schedule]


def test_activations(cuda_kernels, schedule):
    for n, i in each(schedule, lengths()):
        kinds = checks.KINDS[1:] if n in (1025, 1024, 1023) else [checks.KINDS[1 + i % 10]]
        for kind in kinds:
            checks.activation(cuda_kernels, schedule, n, kind, at_end=i % 2 == 0)


def test_dropout(cuda_kernels, schedule):
    for n, i in each(schedule, lengths()):
        checks.dropout(cuda_kernels, schedule, n, (0.5, 0.1, 0.0, 1.0)[i % 4], at_end=i % 2 == 0)
        checks.dropout(cuda_kernels, schedule, n, 0.5, first=16380 + i)


def test_column_sums(cuda_kernels, schedule):
    for (rows, cols), i in each(schedule, [(0, 3), (1, 4), *drawn(BATCHES, 600, 100)]):
        checks.column_sum(cuda_kernels, schedule, rows, cols, accumulate=i % 2 == 1)


def test_batch_norm(cuda_kernels, schedule):
    for (rows, cols), i in each(schedule, drawn(BATCHES, 600, 100)):
        if rows > 1:
            checks.batch_norm(cuda_kernels, schedule, rows, cols, checks.KINDS[i % 11])
            averaging = {"unbiased": i % 3 == 0, "updates": (None, 0, 7)[i % 3], "frozen": i % 4 == 3}
            checks.batch_norm(cuda_kernels, schedule, rows, cols, "none", **averaging)
        checks.batch_norm(cuda_kernels, schedule, rows, cols, "relu", training=False)


def test_softmax_cross_entropy(cuda_kernels, schedule):
    for (rows, classes), i in each(schedule, drawn(CLASSES, 100, 100)):
        checks.softmax(cuda_kernels, schedule, rows, classes, ("ids", "chances", "smooth")[i // 3 % 3])


@pytest.mark.parametrize("form", ["ids", "chances", "smooth"])
def test_softmax_in_packs(cuda_kernels, schedule, form):
    read = ["logits", "chances"] if form == "chances" else ["logits"]
    shapes = [(9, 64), (2, 60), (17, 68), (3, 66), (1, 72), (20, 76), (2, 1000)]
    for rows, classes, where in in_packs(shapes, [*read, "d"], read):
        checks.softmax(cuda_kernels, schedule, rows, classes, form, where)


@pytest.mark.parametrize("classes", [5, 64])
def test_a_label_beyond_the_classes_gives_nan_and_touches_nothing(cuda_kernels, classes):
    logits, labels = checks.place(checks.draw(2, classes)), np.array([classes, -7])
    d, losses = checks.empty(2, classes), checks.empty(2, dtype=np.float64)
    cuda_kernels.run(
        shim.SOFTMAX, logits=logits, logits_row=classes, labels=labels, dlogits=d, row_loss=losses, rows=2,
        cols=classes, scale=0.5, keep=1.0,
    )  # fmt: skip
    assert np.isnan(losses).all()


@pytest.mark.parametrize("classes", [5, 64])
def test_ignored_rows_have_no_gradient(cuda_kernels, classes):
    logits, labels = checks.place(checks.draw(3, classes)), np.array([1, -1, 2])
    d, losses = checks.empty(3, classes), checks.empty(3, dtype=np.float64)
    cuda_kernels.run(
        shim.SOFTMAX, logits=logits, logits_row=classes, labels=labels, dlogits=d, row_loss=losses, rows=3,
        cols=classes, scale=0.5, keep=1.0,
    )  # fmt: skip
    assert not d[1].any()
    assert losses[1] == 0.0
    assert losses[0] > 0.0


@pytest.mark.parametrize("name", ["mse", "huber", "sigmoid_cross_entropy"])
def test_elementwise_losses(cuda_kernels, schedule, name):
    for (rows, cols), i in each(schedule, drawn(OUTPUTS, 300, 100)):
        checks.point_loss(cuda_kernels, schedule, rows, cols, name, weighted=i // 3 % 2 == 1)


@pytest.mark.parametrize("name", ["mse", "huber", "sigmoid_cross_entropy"])
def test_elementwise_losses_in_packs(cuda_kernels, schedule, name):
    """Runs that end within four, and rows in fours or not."""
    arrays = ["pred", "target", "d"]
    for rows, cols, where in in_packs([(1, 1), (7, 3), (5, 205), (2, 8195)], arrays):
        checks.point_loss(cuda_kernels, schedule, rows, cols, name, where=where)
    for rows, cols, where in in_packs([(1030, 1), (1100, 4), (3, 1028), (9, 17)], [*arrays, "weight"]):
        checks.point_loss(cuda_kernels, schedule, rows, cols, name, weighted=True, where=where)


def test_gemm(cuda_kernels, schedule):
    for (m, n, k), i in each(schedule, drawn(GEMM, 100, 100, 100)):
        checks.gemm(
            cuda_kernels, schedule, m, n, k, trans_a=i % 2 == 1, trans_b=i // 2 % 2 == 1,
            alpha=(1.0, -0.5)[i // 3 % 2], beta=(0.0, 2.0, 0.0)[i // 2 % 3], bias=i // 4 % 2 == 1,
            kind=checks.KINDS[i % 11],
        )  # fmt: skip


# Products are cut into tiles of 128, 64, 32 or 16, the largest of which there are 132.
TILES = {
    128: [(1, 131 * 128 + 5, 3), (131 * 128 + 1, 5, 17)],
    64: [(1, 131 * 64 + 5, 3), (65, 66 * 64 + 3, 17), (131 * 64 + 2, 70, 33), (3, 131 * 64 + 1, 515)],
    32: [(1, 131 * 32 + 5, 3), (33, 66 * 32 + 3, 31), (66 * 32 + 2, 47, 33), (3, 131 * 32 + 1, 515)],
}


@pytest.mark.parametrize("tile", TILES)
def test_gemm_of_larger_tiles(cuda_kernels, schedule, tile):
    more = [(m, 131 * tile + n, k) for m, n, k in drawn([], 30, tile, 20)[len(TILES[tile]) :]]
    more[::2] = [(n, m, k) for m, n, k in more[::2]]
    for (m, n, k), i in each(schedule, TILES[tile] + more):
        assert -(-m // tile) * -(-n // tile) >= 132 > -(-m // (2 * tile)) * -(-n // (2 * tile)) or tile == 128
        checks.gemm(
            cuda_kernels, schedule, m, n, k, trans_a=i // 3 % 2 == 1, trans_b=i // 3 % 2 == 0,
            bias=i // 6 % 2 == 1, beta=(0.0, 2.0)[i % 2], kind=("none", "relu", "tanh")[i % 3],
        )  # fmt: skip


def test_gemm_of_long_sums(cuda_kernels, schedule):
    """Four blocks of 512 terms are formed at once."""
    shapes = [(1, 1, 513), (5, 7, 784), (17, 3, 1024), (3, 18, 1500), (16, 16, 2047), (2, 33, 2048)]
    shapes += [(4, 4, 2049), (1, 2, 5000), (20, 1, 4096)]
    for (m, n, k), i in each(schedule, drawn(shapes, 20, 20, 5000)):
        checks.gemm(
            cuda_kernels, schedule, m, n, k, trans_a=i % 2 == 0, alpha=-0.5, beta=(0.0, 2.0)[i % 2], bias=True
        )


def run_beside(kernels, schedule, precision, shapes):
    for (*shape, rows), i in each(schedule, shapes):
        of_x = checks.KINDS[1 + i % 10]
        of_result = of_x if of_x in checks.OF_RESULT else "relu"
        checks.beside(kernels, schedule, precision, shape, of_result, False, (rows, 1 + 20 * (i % 9)))
        checks.beside(kernels, schedule, precision, shape, of_x, True, (rows, 1 + 20 * (i % 9)))
        checks.beside(kernels, schedule, precision, shape, None, False, (rows, 33))
        checks.beside(kernels, schedule, precision, shape, "relu", False, None)


def test_what_a_product_does_beside(cuda_kernels, schedule):
    run_beside(cuda_kernels, schedule, "float32", drawn(BESIDE, 70, 70, 60, 600))


def run_statistics(kernels, schedule, precision, shapes):
    kinds = ("none", "relu", *checks.OF_RESULT)
    for shape, i in each(schedule, shapes):
        checks.moments(kernels, schedule, precision, shape)
        checks.gradient_sums(kernels, schedule, precision, shape, kinds[i // 3 % 8])


def test_sums_of_batch_norm_beside_a_product(cuda_kernels, schedule):
    run_statistics(cuda_kernels, schedule, "float32", drawn(STATISTICS, 400, 40, 30))


def test_nan_and_infinity_in_gemm_stay_in_their_row(cuda_kernels):
    a, b = checks.draw(5, 20), checks.draw(20, 6)
    a[2, 3] = np.nan
    c = checks.empty(5, 6)
    cuda_kernels.run(
        shim.GEMM,
        a=a,
        a_row=20,
        a_col=1,
        b=b,
        b_row=6,
        b_col=1,
        c=c,
        c_row=6,
        m=5,
        n=6,
        k=20,
        k_end=20,
        alpha=1.0,
    )
    assert np.isnan(c[2]).all()
    assert np.isfinite(np.delete(c, 2, 0)).all()


@pytest.mark.parametrize("name", checks.RULES)
def test_updates(cuda_kernels, schedule, name):
    for lengths, i in each(schedule, drawn(UPDATES, 3000, 3000)):
        checks.update(cuda_kernels, schedule, name, lengths, at_end=i % 2 == 0)


@pytest.mark.parametrize("clip", ["none", *steps.CLIPS])
def test_clipped_updates(cuda_kernels, schedule, clip):
    more = [((rows, cols), (n,)) for rows, cols, n in drawn([], 60, 60, 3000)[len(CLIPPED) :]]
    for shapes, i in each(schedule, [*CLIPPED, *more]):
        steps.clipped_update(cuda_kernels, schedule, clip, shapes, noise=0.1 * (i % 2))


def test_norms_beyond_float32(cuda_kernels):
    for clip in ("norm", "global_norm", "adaptive"):
        steps.clipped_update(cuda_kernels, 0, clip, [(70, 100), (5000,)], scale=1e25)


def test_gradients_that_are_not_finite_are_refused(cuda_kernels, schedule):
    steps.clipped_update(cuda_kernels, schedule, "none", [(5,), (4100,), (70, 3)], wrong=1)
    steps.clipped_update(cuda_kernels, schedule, "global_norm", [(5,), (7,)], wrong=0)


@pytest.mark.parametrize("dtype", steps.NUMBERS)
def test_gather(cuda_kernels, schedule, dtype):
    for (rows, cols), i in each(schedule, drawn(BATCHES, 100, 60)):
        steps.gather(cuda_kernels, schedule, rows, cols, dtype, ordered=i % 2 == 0)


@pytest.mark.parametrize("dtype", steps.NUMBERS)
def test_gather_in_packs(cuda_kernels, schedule, dtype):
    """Rows that begin where four of such numbers are read at once, or do not."""
    for rows, cols, where in in_packs([(5, 12), (3, 6), (70, 4)], ["data", "y"], ["data"]):
        steps.gather(cuda_kernels, schedule, rows, cols, dtype, ordered=rows < 70, where=where)


def test_add_and_widen(cuda_kernels, schedule):
    for n, i in each(schedule, lengths()):
        steps.add(cuda_kernels, schedule, n, at_end=i % 2 == 0)
        steps.widen(cuda_kernels, schedule, n, at_end=i % 2 == 0)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_scale_columns(cuda_kernels, schedule, dtype):
    for (rows, cols), _ in each(schedule, drawn(BATCHES, 100, 60)):
        steps.scale_columns(cuda_kernels, schedule, rows, cols, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_scale_columns_in_packs(cuda_kernels, schedule, dtype):
    arrays = ["x", "y", "shift", "scale", "offset"]
    for rows, cols, where in in_packs([(5, 12), (3, 6), (70, 4)], arrays, ["x", "y"]):
        steps.scale_columns(cuda_kernels, schedule, rows, cols, dtype, where)


def test_rounding(cuda_kernels, schedule):
    for (rows, cols), i in each(schedule, drawn(ROUNDED, 60, 200)):
        tensor.rounded(cuda_kernels, schedule, rows, cols, i % 2)
        tensor.rounded(cuda_kernels, schedule, rows, cols, 0)


def test_the_ends_of_a_step(cuda_kernels, schedule):
    rows = [(n,) for n in (1, 4, 254, 255, 256, 299, 511, 699)]  # that count, behind an ignored one
    for (n,), i in each(schedule, drawn(rows, 700)):
        steps.step_ends(cuda_kernels, schedule, 1 + n, cols=1 + i % 7)
    steps.step_ends(cuda_kernels, schedule, 300, wrong=299)
    steps.step_ends(cuda_kernels, schedule, 20, refused=True)


@pytest.mark.parametrize("score", ["sides", "squares"])
def test_the_metrics_of_a_step(cuda_kernels, schedule, score):
    for (rows, cols), i in each(schedule, drawn(OUTPUTS[:15], 300, 60)):
        steps.step_metrics(cuda_kernels, schedule, rows, cols, score, weighted=i // 3 % 2 == 1)


def test_every_kernel_ran_over_enough_shapes(request, cuda_kernels):
    """Judged in a process that ran this whole file: two of those that .ci/run starts (docs/cuda.md)."""
    missing = sorted({item.name for item in request.node.parent.collect()} - RAN)
    if missing:
        pytest.skip(f"{len(missing)} tests of this file did not run here: {missing[0]} ...")
    shapes = {
        made.__name__: len(cuda_kernels.shapes[made]) for made in shim.TABLE if made not in shim.TENSOR_CORES
    }
    assert len(shapes) == 19
    assert {name: count for name, count in shapes.items() if count < SHAPES} == {}
