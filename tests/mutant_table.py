"""The traps of the formulas that fastnn offers, and wrong edits of Python files: mutants.py plants them.

A trap is a place where a textbook has an error or two libraries differ, so that a slip is likely. `file` is a
path in the repository, `old` stands in it exactly once, `tests` are ids of pytest without the parameters of
the machine (the instruction set); each must fail when `old` becomes `new`. Wrong edits of C++ files stand in
mutant_table_native.py and mutant_table_program.py, those of diagnostics in mutant_table_diagnostics.py.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    trap: int
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


TRAPS = {
    1: "normal draws, not uniform ones on [0, 1)",
    2: "the lower bound of a uniform initializer is negative",
    3: "w' = w - rate * gradient; equal weights stay equal between neurons, not between inputs",
    4: "cosine decay in closed form; reflected or held after T_max",
    5: "polynomial decay with cycle at step 0",
    6: "Noam decay at step 0",
    7: "piecewise decay: t < boundary, not <=",
    8: "reduce on plateau: four machines, negative metrics, NaN, the best frozen while cooling",
    9: "warm-up: the schedule behind it sees t - warmup_steps; a jump; metrics passed on",
    10: "linear decay stays at its floor",
    11: "each step uses the rate of that step",
    12: "momentum moves the velocity first; velocity against buffer",
    13: "epsilon outside the root in AdaGrad, RMSProp, Adam, inside in batch-norm",
    14: "the default of epsilon",
    15: "t = 1 at Adam's first correction; powers in double",
    16: "N(0, x): x is a variance here, a standard deviation there",
    17: "quadratic cost: one half, and a mean over rows",
    18: "L2: lambda w, coupled or decoupled, and not for biases, gamma, beta",
    19: "binary cross-entropy from logits",
    20: "dropout: probability to drop against probability to keep",
    21: "batch-norm: what momentum weighs, biased or not, one row, one pass, order with the activation",
    22: "inputs are divided by the standard deviation, not by the variance",
    23: "whitening takes correlations away, standardizing does not",
    24: "sparse initialization: k weights for each output neuron, not for each input",
    25: "He's normal initializer: gain sqrt(2), not truncated",
    26: "a truncated normal has a smaller deviation",
    27: "clipping: exact, and an infinite gradient is found before it becomes NaN",
    28: "activations grow or fade as a power of the depth",
    29: "which axis of a weight is fan_in",
    30: "vectors, their last lanes and plain floats give the same bits",
    31: "gradient noise: of single rows, without bias, its share in the mean taken away",
    32: "steps to a loss go as 1 + noise scale / rows",
    33: "saturated by the slope, in shares of the steepest; dead in every row",
    34: "drift of batch statistics: in running deviations, of the variance that is averaged",
    35: "neurons are columns; equal for ever where gradients are equal too",
    36: "a range test: rates by a factor, the smoothed loss without bias",
    37: "stuck: a small gradient and a high loss",
    38: "an update is measured by the weights",
    39: "a range is largest minus smallest",
    40: "memory: what a kernel replaces is not kept",
    41: "a native step: operations in order, each with the rows of its block",
    42: "a native step: what needs all rows, or what others write, waits for a barrier",
    43: "a native step: memory is shared only by what never lives at the same time",
    44: "native steps: what is another in each step, and what counts",
    45: "bfloat16 is rounded to nearest, to even in the middle; all that is no product stays float32",
}

# Traps without a mutant, and why.
LEFT_OUT: dict[int, str] = {}

INIT, SCHEDULERS = "python/fastnn/init", "python/fastnn/schedulers"
SCALERS, OF_SCALERS = "python/fastnn/preprocessing", "tests/test_preprocessing.py"
OF_SCHEDULERS, OF_PLATEAU = "tests/test_schedulers.py", "tests/test_reduce_on_plateau.py"
BATCH_NORM_LAYER = "python/fastnn/nn/batchnorm.py"
UPDATE = "python/fastnn/_update.py"
OPTIMIZER, OF_CONVENTIONS = "python/fastnn/_optimizer.py", "tests/test_optim_conventions.py"
OF_OPTIM, OF_OPTIONS = "tests/test_optim.py", "tests/test_optim_options.py"
STEPS, RECALIBRATE = "python/fastnn/_batch_norm_steps.py", "python/fastnn/nn/recalibrate.py"

PYTHON = [
    Mutant(
        *(1, "uniform draws for a normal distribution", f"{INIT}/_initializer.py"),
        *(
            "rng.standard_normal(dtype=np.float32, out=values)\n    values *= np.float32(std)\n",
            "rng.random(dtype=np.float32, out=values)\n    values *= np.float32(std)\n",
        ),
        ("tests/test_init.py::test_scale_and_distribution", "tests/test_init.py::test_variance_of_a_layer"),
    ),
    Mutant(
        *(2, "uniform draws from 0 to 2r, or beyond", f"{INIT}/_initializer.py"),
        *("values -= np.float32(bound)", "values += np.float32(bound)"),
        ("tests/test_init.py::test_scale_and_distribution",),
    ),
    Mutant(
        *(4, "a cosine that rises", f"{SCHEDULERS}/_cycles.py"),
        *("(1 + math.cos(math.pi * t / length)) / 2", "(1 - math.cos(math.pi * t / length)) / 2"),
        (f"{OF_SCHEDULERS}::test_golden_values[cosine-reflect]",),
    ),
    Mutant(
        *(4, "reflect and hold exchanged", f"{SCHEDULERS}/_cycles.py"),
        *('if self.after == "hold" else t %', 'if self.after == "reflect" else t %'),
        (
            f"{OF_SCHEDULERS}::test_golden_values[cosine-reflect]",
            f"{OF_SCHEDULERS}::test_golden_values[cosine-hold]",
        ),
    ),
    Mutant(
        *(5, "a bare ceil: 0 / 0 at step 0", f"{SCHEDULERS}/_decays.py"),
        *("steps *= max(1, -(-t // steps))", "steps *= -(-t // steps)"),
        (f"{OF_SCHEDULERS}::test_golden_values[polynomial-cycle]",),
    ),
    Mutant(
        *(5, "a cycle that begins one step early", f"{SCHEDULERS}/_decays.py"),
        *("steps *= max(1, -(-t // steps))", "steps *= 1 + t // steps"),
        (f"{OF_SCHEDULERS}::test_golden_values[polynomial-cycle]",),
    ),
    Mutant(
        *(6, "0 to the power of -1/2", f"{SCHEDULERS}/_decays.py"),
        *("math.pow(t, -0.5) if t else 1.0", "math.pow(t, -0.5)"),
        (f"{OF_SCHEDULERS}::test_golden_values[noam]",),
    ),
    Mutant(
        *(6, "counted from 1", f"{SCHEDULERS}/_decays.py"),
        *("rising = t * math.pow", "rising = (t + 1) * math.pow"),
        (f"{OF_SCHEDULERS}::test_golden_values[noam]",),
    ),
    Mutant(
        *(7, "the old value at the boundary itself", f"{SCHEDULERS}/_decays.py"),
        *(
            "self.values[bisect_right(self.boundaries, t)]",
            "self.values[bisect_right(self.boundaries, t - 1)]",
        ),
        (f"{OF_SCHEDULERS}::test_golden_values[piecewise]",),
    ),
    Mutant(
        *(8, "PyTorch's count is Keras's", f"{SCHEDULERS}/_plateau.py"),
        *('strict = self.semantics in ("paddle", "torch")', 'strict = self.semantics in ("paddle",)'),
        (f"{OF_PLATEAU}::test_golden_epochs_of_the_cuts[torch]",),
    ),
    Mutant(
        *(8, "a cool-down of Keras that is as long as the others'", f"{SCHEDULERS}/_plateau.py"),
        *('self.semantics == "keras" and self._cooling', 'self.semantics == "optax" and self._cooling'),
        (f"{OF_PLATEAU}::test_golden_epochs_of_the_cuts[keras]",),
    ),
    Mutant(
        *(8, "a margin that turns with the sign of the metric", f"{SCHEDULERS}/_plateau.py"),
        *("self.threshold * (abs(self._best) if", "self.threshold * (self._best if"),
        (f"{OF_PLATEAU}::test_a_negative_metric_counts_like_a_positive_one",),
    ),
    Mutant(
        *(8, "NaN as the best", f"{SCHEDULERS}/_plateau.py"),
        *("if not math.isfinite(metric):", "if math.isinf(metric):"),
        (f"{OF_PLATEAU}::test_a_first_metric_that_is_not_finite_is_worse_than_any_other",),
    ),
    Mutant(
        *(8, "the best moves while cooling", f"{SCHEDULERS}/_plateau.py"),
        *('            if self.semantics == "paddle":\n', '            if self.semantics == "torch":\n'),
        (f"{OF_PLATEAU}::test_golden_epochs_of_the_cuts[paddle]",),
    ),
    Mutant(
        *(9, "the schedule behind a warm-up sees t", f"{SCHEDULERS}/_compose.py"),
        *("return self.after(t - self.warmup_steps)", "return self.after(t)"),
        (f"{OF_SCHEDULERS}::test_golden_values[warmup-cosine]",),
    ),
    Mutant(
        *(9, "a warm-up warns where there is no jump", f"{SCHEDULERS}/_compose.py"),
        *("not math.isclose(self.end_lr, first", "math.isclose(self.end_lr, first"),
        (f"{OF_SCHEDULERS}::test_warmup_warns_of_a_jump_only",),
    ),
    Mutant(
        *(9, "metrics stay with the warm-up", f"{SCHEDULERS}/_compose.py"),
        *('return {"after": self.after}', "return {}"),
        (f"{OF_PLATEAU}::test_warmup_then_plateau", f"{OF_PLATEAU}::test_wrappers_pass_each_metric_on_once"),
    ),
    Mutant(
        *(10, "a linear decay that goes on below its floor", f"{SCHEDULERS}/_decays.py"),
        *("done = min(t, self.steps) / self.steps", "done = t / self.steps"),
        (f"{OF_SCHEDULERS}::test_golden_values[linear]",),
    ),
    Mutant(
        *(11, "every step uses the first rate", OPTIMIZER),
        *("return rate_at(rate, self.step_count, what, high)", "return rate_at(rate, 0, what, high)"),
        (
            f"{OF_OPTIM}::test_a_schedule_is_seen_as_a_function_of_the_updates_done",
            f"{OF_OPTIONS}::test_momentum_may_be_a_schedule",
        ),
    ),
    Mutant(
        *(13, "epsilon outside the root in the steps of batch-norm", STEPS),
        *("sqrtvar = np.sqrt(var + epsilon)", "sqrtvar = np.sqrt(var) + epsilon"),
        ("tests/test_batch_norm_steps.py::test_the_chain_is_the_closed_form",),
    ),
    Mutant(
        *(14, "AdaGrad with Adam's epsilon", "python/fastnn/optim/squares.py"),
        *("eps: float = 1e-10", "eps: float = 1e-8"),
        (f"{OF_CONVENTIONS}::test_signatures",),
    ),
    Mutant(
        *(14, "the source's Adam with PyTorch's epsilon", "python/fastnn/_options.py"),
        *('"Adam": {"betas": (0.9, 0.999), "eps": 1e-7', '"Adam": {"betas": (0.9, 0.999), "eps": 1e-8'),
        (f"{OF_CONVENTIONS}::test_default_epsilon_of_every_convention",),
    ),
    Mutant(
        *(14, "Keras's Adam with PyTorch's epsilon", "python/fastnn/_options.py"),
        *('"eps": 1e-7, "eps_mode": "hat", **_ALL', '"eps": 1e-8, "eps_mode": "hat", **_ALL'),
        (f"{OF_CONVENTIONS}::test_default_epsilon_of_every_convention",),
    ),
    Mutant(
        *(14, "PaddlePaddle's RMSProp with PyTorch's epsilon", "python/fastnn/_options.py"),
        *('"rho": 0.95, "eps": 1e-6', '"rho": 0.95, "eps": 1e-8'),
        (f"{OF_CONVENTIONS}::test_default_epsilon_of_every_convention",),
    ),
    Mutant(
        *(15, "Adam corrected as if it were a step further", UPDATE),
        *("optimizer.step_count + 1, place", "optimizer.step_count + 2, place"),
        (
            f"{OF_OPTIM}::test_golden_values_of_pytorch",
            f"{OF_OPTIM}::test_adam_follows_the_float64_formula_for_many_steps",
        ),
    ),
    Mutant(
        *(16, "the variance for the standard deviation", f"{INIT}/_initializer.py"),
        *("values *= np.float32(std)\n", "values *= np.float32(std**2)\n"),
        ("tests/test_init.py::test_scale_and_distribution", "tests/test_init.py::test_variance_of_a_layer"),
    ),
    Mutant(
        *(18, "weight decay of biases", OPTIMIZER),
        *('splits = decays and group["decay"] == "weights"', "splits = False"),
        (
            f"{OF_OPTIM}::test_weight_decay_leaves_out_what_does_not_decay",
            f"{OF_OPTIONS}::test_what_decay_adds_is_the_gradient_of_the_penalty",
        ),
    ),
    Mutant(
        *(18, "gamma decays", BATCH_NORM_LAYER),
        *('name="gamma", decay=False', 'name="gamma", decay=True'),
        ("tests/test_nn.py::test_layer_flags_and_names",),
    ),
    Mutant(
        *(18, "AdamW coupled", "python/fastnn/optim/adam.py"),
        *("    _decoupled = True\n", "    _decoupled = False\n"),
        (
            f"{OF_OPTIM}::test_adamw_decays_the_parameter_and_adam_the_gradient",
            f"{OF_OPTIONS}::test_adamw_decays_the_parameter_towards_its_start",
        ),
    ),
    Mutant(
        *(20, "keep taken for drop", "python/fastnn/nn/dropout.py"),
        *("p = 1.0 - check_number(keep", "p = check_number(keep"),
        ("tests/test_layers.py::test_dropout_by_keep_probability",),
    ),
    Mutant(
        *(21, "momentum as the weight of the old value", BATCH_NORM_LAYER),
        *("momentum=weight,", "momentum=1 - weight,"),
        (
            "tests/test_nn.py::test_batch_norm_training_and_evaluation",
            "tests/test_batch_norm_layer.py::test_running_variance_of_both_kinds",
        ),
    ),
    Mutant(
        *(21, "biased and unbiased exchanged", BATCH_NORM_LAYER),
        *('self.unbiased = running_var == "unbiased"', 'self.unbiased = running_var == "biased"'),
        (
            "tests/test_batch_norm_layer.py::test_running_variance_of_both_kinds",
            "tests/test_nn.py::test_batch_norm_training_and_evaluation",
        ),
    ),
    Mutant(
        *(21, "debiased with one batch too few", BATCH_NORM_LAYER),
        *("(weight, number(self.updates))", "(weight, number(self.updates) + 1)"),
        (
            "tests/test_batch_norm_layer.py::test_debiased_statistics_are_exact_after_one_batch",
            "tests/test_batch_norm_layer.py::test_debiased_statistics_are_weighted_means_of_the_batches",
        ),
    ),
    Mutant(
        *(21, "a last batch of one row left alone", "python/fastnn/data/_batches.py"),
        *("bounds[-2] == n - 1:", "bounds[-2] == n:"),
        (
            "tests/test_trainer.py::test_a_one_row_last_batch_joins_the_one_before_only_with_batch_norm",
            "tests/test_batch_norm_layer.py::test_trainer_with_one_row",
        ),
    ),
    Mutant(
        *(21, "the mean of the variances of batches as that of all rows", RECALIBRATE),
        *("gap * gap * (self.n * len(rows) / total)", "0 * gap"),
        (
            "tests/test_batch_norm_layer.py::test_recalibrated_statistics_are_those_of_all_rows",
            "tests/test_batch_norm_layer.py::test_the_mean_of_batch_variances_is_something_else",
        ),
    ),
    Mutant(
        *(21, "all statistics from the old ones, not layer after layer", RECALIBRATE),
        *(
            'for name in _order(model, layers, as_float32(X[:size], f"{where}: X")):',
            'for name in _order(model, layers, as_float32(X[:size], f"{where}: X"))[::-1]:',
        ),
        ("tests/test_batch_norm_layer.py::test_recalibrated_statistics_are_those_of_all_rows",),
    ),
    Mutant(
        *(22, "inputs divided by their variance", f"{SCALERS}/columns.py"),
        *("_divisor(np.sqrt(self.var_))", "_divisor(self.var_)"),
        (f"{OF_SCALERS}::test_standard_scaler",),
    ),
    Mutant(
        *(22, "a constant column divided by 0", f"{SCALERS}/columns.py"),
        *("np.where(spread > numerator / LARGEST, spread, 1.0)", "spread"),
        (f"{OF_SCALERS}::test_constant_columns_one_row_and_no_rows",),
    ),
    Mutant(
        *(22, "folded with the scale of the wrong axis", "python/fastnn/nn/standardize.py"),
        *("scale[:, None] * weight", "scale[0] * weight"),
        ("tests/test_standardize.py::test_folding_keeps_the_predictions",),
    ),
    Mutant(
        *(23, "every column by itself for whitening", f"{SCALERS}/whitening.py"),
        *("np.linalg.eigh(self.covariance_)", "np.linalg.eigh(np.diag(np.diag(self.covariance_)))"),
        (
            f"{OF_SCALERS}::test_whitening",
            f"{OF_SCALERS}::test_whitening_decorrelates_and_the_z_score_does_not",
        ),
    ),
    Mutant(
        *(23, "whitened by variances, not deviations", f"{SCALERS}/whitening.py"),
        *("scale = np.sqrt(variances + self.eps)", "scale = variances + self.eps"),
        (f"{OF_SCALERS}::test_whitening",),
    ),
    Mutant(
        *(24, "k weights for each input", f"{INIT}/matrices.py"),
        *('.argsort(axis=1, kind="stable")', '.argsort(axis=0, kind="stable")'),
        ("tests/test_init_matrices.py::test_sparse_has_k_weights_for_each_neuron",),
    ),
    Mutant(
        *(24, "fewer than k weights where two places agree", f"{INIT}/matrices.py"),
        *(
            'rng.random((neurons, inputs)).argsort(axis=1, kind="stable")[:, : self.k]',
            "rng.integers(0, inputs, (neurons, self.k))",
        ),
        ("tests/test_init_matrices.py::test_sparse_has_k_weights_for_each_neuron",),
    ),
    Mutant(
        *(25, "a gain of 1 for ReLU", f"{INIT}/scaled.py"),
        *('"relu": math.sqrt(2)', '"relu": 1.0'),
        ("tests/test_init.py::test_scale_and_distribution", "tests/test_init.py::test_gain"),
    ),
    Mutant(
        *(25, "He's normal initializer truncated", f"{INIT}/scaled.py"),
        *(
            "draw_normal(values, rng, self._std(fans))\n\n\nclass KaimingUniform",
            "draw_truncated(values, rng, self._std(fans))\n\n\nclass KaimingUniform",
        ),
        ("tests/test_init.py::test_scale_and_distribution[KaimingNormal]",),
    ),
    Mutant(
        *(26, "the deviation before the cut", f"{INIT}/_initializer.py"),
        *("np.float32(std / STD_OF_CUT)", "np.float32(std)"),
        ("tests/test_init.py::test_truncated_draws_have_the_deviation_asked_for",),
    ),
    Mutant(
        *(27, "a norm for each array in place of the global one", "python/fastnn/_clip.py"),
        *("return ClipByGlobalNorm(float(clip))", "return ClipByNorm(float(clip))"),
        (
            f"{OF_OPTIONS}::test_a_float_is_a_global_norm",
            f"{OF_OPTIONS}::test_the_global_norm_is_taken_over_all_groups_and_only_what_is_trained",
        ),
    ),
    Mutant(
        *(27, "gradients that are not finite go on unless they are skipped", UPDATE),
        *('"refuse": optimizer.nonfinite != "ignore"', '"refuse": optimizer.nonfinite == "skip"'),
        (f"{OF_OPTIONS}::test_a_non_finite_gradient_is_found_before_anything_changes",),
    ),
    Mutant(
        *(29, "fan_in of a weight is its number of columns", "python/fastnn/_parameter.py"),
        *("values.shape[0] if fan_in is None and matrix", "values.shape[1] if fan_in is None and matrix"),
        ("tests/test_models.py::test_a_seed_draws_all_weights_in_layer_order_from_one_generator",),
    ),
    Mutant(
        *(45, "a bias summed from rounded gradients", "python/fastnn/nn/linear.py"),
        *('lowering.emit("linear_bias", dy,', 'lowering.emit("linear_bias", slope,'),
        ("tests/test_bfloat16_training.py::test_steps_against_float64",),
    ),
]
