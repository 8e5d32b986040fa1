"""The edge shapes, once: sizes at which a register, a tile, a block or a chunk begins or ends."""

from itertools import product

VECTORS = (8, 16)  # floats of an AVX2 and of an AVX-512 register
TILES = ((6, 64), (8, 48), (12, 32), (14, 16), (6, 16), (12, 8))  # rows x columns: AVX-512, then AVX2
K_BLOCK = 512  # terms of one chain of fused multiply-adds
STATISTICS_ROWS = 192  # rows of one chunk of column sums and batch-norm statistics
ELEMENTWISE = 16384  # elements of one chunk of activations, and of updates of long arrays
UPDATES = 4096  # of one chunk of the others

EDGES = (
    *(0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65),
    *(127, 128, 129, 1000, 1023, 1024, 1025),
)


def around(*sizes):
    """Each size, the one before it and the one after it."""
    return sorted({n + d for n in sizes for d in (-1, 0, 1) if n + d >= 0})


def gemm_small():
    """Every (m, n, k) of the smallest sizes, empty ones included."""
    return list(product((0, 1, 2, 3, 5), repeat=3))


def gemm_edges():
    """Each dimension in turn over EDGES, the other two odd and small."""
    shapes = [(e, 17, 9) for e in EDGES] + [(7, e, 13) for e in EDGES] + [(5, 19, e) for e in EDGES]
    return sorted(set(shapes))


def gemm_tiles():
    """Around one and two tiles of every instruction set, so that every edge tile is met."""
    shapes = set()
    for rows, columns in TILES:
        for m, n in product((*around(rows), 2 * rows + 1), (*around(columns), 2 * columns + 1)):
            shapes.add((m, n, 5))
    return sorted(shapes)


def gemm_blocks():
    """Around one, two and three blocks of K."""
    depths = (*around(K_BLOCK, 2 * K_BLOCK), 3 * K_BLOCK + 1)
    return [(m, n, k) for k in depths for m, n in ((1, 1), (7, 17), (27, 65))]


def gemm_few_rows():
    """Rows, squares and strips of a product whose transposed b is not packed; one block of K and two."""
    shapes = [(m, n, k) for m in (1, 3, 4) for n in (1, 15, 16, 33, 70) for k in (1, 15, 16, 17, 32, 45)]
    return shapes + [
        (m, n, k) for m in (1, 2, 4, 5, 8, 12, 13) for n, k in ((150, 112), (40, 528), (33, 517))
    ]


def gemm_large():
    """Shapes of real networks: packing, several slabs and several threads."""
    return [
        (128, 10, 512),
        (128, 784, 100),
        (200, 64, 100),
        (64, 1100, 70),
        (150, 257, 515),
        (784, 512, 1),
        (500, 700, 4),
    ]


GEMM = gemm_small() + gemm_edges() + gemm_tiles() + gemm_blocks() + gemm_few_rows() + gemm_large()

# Lengths of elementwise kernels.
LENGTHS = tuple(sorted({*EDGES, *around(UPDATES, ELEMENTWISE), 3 * ELEMENTWISE + 5}))

# (rows, channels) of batch-norm in training, and of column sums (which also take a single row).
BATCHES = tuple(
    sorted(
        {(r, 5) for r in (2, 3, 7, 8, 9, *around(STATISTICS_ROWS, 2 * STATISTICS_ROWS), 1000)}
        | {(50, c) for c in EDGES}
        | {(2, c) for c in (1, 16, 17)}
        | {(512, 33), (129, 200), (200, 513), (385, 2049)}
        | {(521, 64), (1031, 16), (2051, 8), (16411, 1)}  # rows side by side, as one run
    )
)

# (rows, classes) of softmax cross-entropy.
CLASSES = tuple(sorted({(3, c) for c in EDGES if c > 0} | {(r, 10) for r in EDGES if r > 0}))
