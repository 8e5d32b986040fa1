"""Wrong edits of initializers and scalers: rows of mutant_table.py."""

SIMPLE, MATRICES = "python/fastnn/init/simple.py", "python/fastnn/init/matrices.py"
COLUMNS, WHITENING = "python/fastnn/preprocessing/columns.py", "python/fastnn/preprocessing/whitening.py"

ROWS = [
    (
        *(2, "a uniform distribution of one value", SIMPLE),
        *("return cls(-bound, bound)", "return cls(bound, bound)"),
        ("tests/test_init.py::test_scale_and_distribution",),
    ),
    (
        *(22, "inputs divided by the variance", COLUMNS),
        *("self._there = shift, 1 / self.scale_, zero", "self._there = shift, 1 / self.var_, zero"),
        ("tests/test_preprocessing.py::test_standard_scaler",),
    ),
    (
        *(22, "the variance of n - 1", COLUMNS),
        *(
            'self._learned["squares"] / self.n_samples_seen_',
            'self._learned["squares"] / (self.n_samples_seen_ - 1)',
        ),
        ("tests/test_preprocessing.py::test_standard_scaler",),
    ),
    (
        *(23, "whitening that leaves correlations", WHITENING),
        "products += ops.gemm(centred, centred, trans_a=True)",
        "products += np.diag(np.square(centred).sum(axis=0))",
        (
            "tests/test_preprocessing.py::test_whitening",
            "tests/test_preprocessing.py::test_whitening_decorrelates_and_the_z_score_does_not",
        ),
    ),
    (
        *(24, "sparse weights counted for each input", MATRICES),
        *("argsort(axis=1", "argsort(axis=0"),
        ("tests/test_init_matrices.py::test_sparse_has_k_weights_for_each_neuron",),
    ),
    (
        *(26, "a truncated normal left narrow", "python/fastnn/init/_initializer.py"),
        *("np.float32(std / STD_OF_CUT)", "np.float32(std)"),
        ("tests/test_init.py::test_truncated_draws_have_the_deviation_asked_for",),
    ),
]
