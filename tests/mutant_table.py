"""The traps of the formulas that fastnn offers, and a wrong edit for each: mutants.py plants them.

A trap is a place where a textbook has an error or two libraries differ, so that a slip is likely. `file` is a
path in the repository, `old` stands in it exactly once, `tests` are ids of pytest without the parameters of
the machine (the instruction set); each must fail when `old` becomes `new`.
"""

from typing import NamedTuple

import mutants_of_inputs


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
}

# Traps without a mutant, and why.
LEFT_OUT: dict[int, str] = {
    **dict.fromkeys((5, 6, 7, 10), "fastnn has no such schedule yet"),
    8: "fastnn has no such schedule yet",
    14: "every optimizer has its own default; rows come with the options of the peers",
    27: "fastnn does not clip gradients yet",
    28: "a law about networks, not a formula of fastnn: nothing computes it",
}

DRAWS, GAINS = "python/fastnn/init/_initializer.py", "python/fastnn/init/scaled.py"
SCHEDULERS = "python/fastnn/schedulers.py"
RULES, LOSSES = "csrc/core/rules.h", "csrc/core/losses.h"
BATCH_NORM_LAYER, BATCH_NORM = "python/fastnn/nn/batchnorm.py", "csrc/cpu/batchnorm.cpp"
STEPS, RECALIBRATE = "python/fastnn/_batch_norm_steps.py", "python/fastnn/nn/recalibrate.py"

MUTANTS = [
    Mutant(
        *(1, "uniform draws for a normal distribution", DRAWS),
        "rng.standard_normal(dtype=np.float32, out=values)\n    values *=",
        "rng.random(dtype=np.float32, out=values)\n    values *=",
        ("tests/test_init.py::test_scale_and_distribution", "tests/test_init.py::test_variance_of_a_layer"),
    ),
    Mutant(
        *(2, "uniform draws from 0 to 2r, or beyond", DRAWS),
        *("values -= np.float32(bound)", "values += np.float32(bound)"),
        ("tests/test_init.py::test_scale_and_distribution",),
    ),
    Mutant(
        *(3, "gradient ascent", RULES),
        *("s.param = s.param - c.lr * s.grad;", "s.param = s.param + c.lr * s.grad;"),
        (
            "tests/test_updates.py::test_many_steps",
            "tests/test_optim.py::test_every_rule_finds_the_lowest_point_of_a_parabola",
        ),
    ),
    Mutant(
        *(4, "a cosine that rises", SCHEDULERS),
        *("(1 + math.cos(math.pi * t / self.T_max)) / 2", "(1 - math.cos(math.pi * t / self.T_max)) / 2"),
        ("tests/test_schedulers.py::test_golden_values[cosine-reflect]",),
    ),
    Mutant(
        *(4, "reflect and hold exchanged", SCHEDULERS),
        *('if self.after == "hold" else t %', 'if self.after == "reflect" else t %'),
        (
            "tests/test_schedulers.py::test_golden_values[cosine-reflect]",
            "tests/test_schedulers.py::test_golden_values[cosine-hold]",
        ),
    ),
    Mutant(
        *(9, "the schedule behind a warm-up sees t", SCHEDULERS),
        *("return self.after(t - self.warmup_steps)", "return self.after(t)"),
        ("tests/test_schedulers.py::test_golden_values[warmup-cosine]",),
    ),
    Mutant(
        *(9, "a warm-up warns where there is no jump", SCHEDULERS),
        *("not math.isclose(self.end_lr, first", "math.isclose(self.end_lr, first"),
        ("tests/test_schedulers.py::test_warmup_warns_of_a_jump_only",),
    ),
    Mutant(
        *(11, "every step uses the first rate", "python/fastnn/_optimizer.py"),
        *('_rate(group["lr"], self.step_count, where)', '_rate(group["lr"], 0, where)'),
        ("tests/test_optim.py::test_a_schedule_is_seen_as_a_function_of_the_updates_done",),
    ),
    Mutant(
        *(12, "the parameter moves before the velocity", RULES),
        """        s.slot0 = c.decay0 * s.slot0 - step;
        s.param = s.param + (kNesterov ? c.decay0 * s.slot0 - step : s.slot0);
""",
        """        s.param = s.param + (kNesterov ? c.decay0 * s.slot0 - step : s.slot0);
        s.slot0 = c.decay0 * s.slot0 - step;
""",
        (
            "tests/test_optim.py::test_golden_values_of_both_momentum_styles",
            "tests/test_updates.py::test_many_steps",
        ),
    ),
    Mutant(
        *(12, "Nesterov's step without the gradient", RULES),
        *(
            "(kNesterov ? fma(c.decay0, s.slot0, step) : s.slot0)",
            "(kNesterov ? c.decay0 * s.slot0 : s.slot0)",
        ),
        (
            "tests/test_optim.py::test_golden_values_of_both_momentum_styles",
            "tests/test_updates.py::test_many_steps",
        ),
    ),
    Mutant(
        *(13, "RMSProp's epsilon inside the root", RULES),
        """one_minus0 * (s.grad * s.grad));
    s.param = s.param - c.lr * s.grad / (sqrt(s.slot0) + c.eps);""",
        """one_minus0 * (s.grad * s.grad));
    s.param = s.param - c.lr * s.grad / sqrt(s.slot0 + c.eps);""",
        ("tests/test_optim.py::test_golden_values_of_pytorch",),
    ),
    Mutant(
        *(13, "AdaGrad's epsilon inside the root", RULES),
        """fma(s.grad, s.grad, s.slot0);
    s.param = s.param - c.lr * s.grad / (sqrt(s.slot0) + c.eps);""",
        """fma(s.grad, s.grad, s.slot0);
    s.param = s.param - c.lr * s.grad / sqrt(s.slot0 + c.eps);""",
        ("tests/test_optim.py::test_golden_values_of_pytorch",),
    ),
    Mutant(
        *(13, "Adam's epsilon before the correction of the root", RULES),
        *("fma(sqrt(s.slot1), c.root_scale, c.eps)", "((sqrt(s.slot1) + c.eps) * c.root_scale)"),
        ("tests/test_optim.py::test_golden_values_of_pytorch",),
    ),
    Mutant(
        *(13, "batch-norm's epsilon outside the root", BATCH_NORM),
        "__builtin_sqrt(variance.v[i] * inverse + static_cast<double>(a.eps))",
        "(__builtin_sqrt(variance.v[i] * inverse) + static_cast<double>(a.eps))",
        ("tests/test_batch_norm.py::test_eps", "tests/test_batch_norm.py::test_constant_columns"),
    ),
    Mutant(
        *(13, "epsilon outside the root in the steps of batch-norm", STEPS),
        *("sqrtvar = np.sqrt(var + epsilon)", "sqrtvar = np.sqrt(var) + epsilon"),
        ("tests/test_batch_norm_steps.py::test_the_chain_is_the_closed_form",),
    ),
    Mutant(
        *(15, "powers of beta in float", "csrc/bind/bind_updates.cpp"),
        *(
            "std::sqrt(1.0 - std::pow(beta2, step))",
            "std::sqrt(1.0 - std::pow(static_cast<float>(beta2), step))",
        ),
        ("tests/test_updates.py::test_many_steps",),
    ),
    Mutant(
        *(15, "Adam corrected as if it were a step further", "python/fastnn/optim.py"),
        *("step=self.step_count + 1", "step=self.step_count + 2"),
        (
            "tests/test_optim.py::test_golden_values_of_pytorch",
            "tests/test_optim.py::test_adam_follows_the_float64_formula_for_many_steps",
        ),
    ),
    Mutant(
        *(16, "the variance for the standard deviation", DRAWS),
        *("values *= np.float32(std)", "values *= np.float32(std**2)"),
        ("tests/test_init.py::test_scale_and_distribution", "tests/test_init.py::test_variance_of_a_layer"),
    ),
    Mutant(
        *(17, "no half in the squares", LOSSES),
        *("return slope * (slope * constant<F>(0.5f));", "return slope * slope;"),
        ("tests/test_elementwise_losses.py::test_known_values",),
    ),
    Mutant(
        *(17, "a quadratic cost averaged over outputs as well", "csrc/bind/bind_loss.cpp"),
        *("kSampleWeight, 1.0, false);", "kSampleWeight, 1.0, true);"),
        (
            "tests/test_losses.py::test_the_quadratic_cost_is_half_of_k_mean_squares",
            "tests/test_elementwise_losses.py::test_known_values",
        ),
    ),
    Mutant(
        *(18, "twice the decay", RULES),
        *("fma(c.weight_decay, s.param, s.grad)", "fma(c.weight_decay + c.weight_decay, s.param, s.grad)"),
        (
            "tests/test_updates.py::test_many_steps",
            "tests/test_optim.py::test_adam_follows_the_float64_formula_for_many_steps",
        ),
    ),
    Mutant(
        *(18, "weight decay of biases", "python/fastnn/_optimizer.py"),
        *("not splits or part[0][1].decay,", "True,"),
        ("tests/test_optim.py::test_weight_decay_leaves_out_what_does_not_decay",),
    ),
    Mutant(
        *(18, "gamma decays", BATCH_NORM_LAYER),
        *('name="gamma", decay=False', 'name="gamma", decay=True'),
        ("tests/test_nn.py::test_layer_flags_and_names",),
    ),
    Mutant(
        *(18, "AdamW coupled", "python/fastnn/optim.py"),
        *("    _decoupled = True\n", "    _decoupled = False\n"),
        ("tests/test_optim.py::test_adamw_decays_the_parameter_and_adam_the_gradient",),
    ),
    Mutant(
        *(19, "the sigmoid of -x", LOSSES),
        *("select_positive(x, one, u) / (one + u)", "select_positive(x, u, one) / (one + u)"),
        ("tests/test_losses.py::test_a_sure_wrong_logit_costs_its_size",),
    ),
    Mutant(
        *(19, "exp of a large logit", LOSSES),
        *("exp(min_(x, minus_x))", "exp(max_(x, minus_x))"),
        ("tests/test_losses.py::test_cross_entropies_at_ten_thousand",),
    ),
    Mutant(
        *(19, "the costs of both classes exchanged", LOSSES),
        *(
            "max_(zero, x), one - t, fma(max_(zero, minus_x), t,",
            "max_(zero, x), t, fma(max_(zero, minus_x), one - t,",
        ),
        ("tests/test_losses.py::test_cross_entropies_at_ten_thousand",),
    ),
    Mutant(
        *(19, "softmax without its largest logit taken off", "csrc/cpu/softmax.cpp"),
        *("exp(vload(x + j, n) - top)", "exp(vload(x + j, n))"),
        (
            "tests/test_losses.py::test_cross_entropies_at_ten_thousand",
            "tests/test_losses.py::test_large_logits_stay_finite",
        ),
    ),
    Mutant(
        *(20, "keep taken for drop", "python/fastnn/nn/dropout.py"),
        *("p = 1.0 - check_number(keep", "p = check_number(keep"),
        ("tests/test_layers.py::test_dropout_by_keep_probability",),
    ),
    Mutant(
        *(20, "elements dropped with probability 1 - p", "csrc/bind/bind_dropout.cpp"),
        *("std::llround(std::ldexp(p, 32))", "std::llround(std::ldexp(1.0 - p, 32))"),
        ("tests/test_dropout.py::test_lengths", "tests/test_dropout.py::test_mean_and_variance"),
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
        *(21, "momentum as the weight of the old value, in the kernel", BATCH_NORM),
        *("(1.0 - w) * moved_mean.v[i] + w * mean.v[i]", "w * moved_mean.v[i] + (1.0 - w) * mean.v[i]"),
        ("tests/test_batch_norm.py::test_running_statistics",),
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
        *(21, "the biased variance in the kernel's running one", BATCH_NORM),
        *("w * (variance.v[i] * unbiased)", "w * (variance.v[i] * inverse)"),
        ("tests/test_batch_norm.py::test_running_statistics",),
    ),
    Mutant(
        *(21, "debiased with one batch too few", BATCH_NORM_LAYER),
        *("batches = float(self.updates) + 1", "batches = float(self.updates) + 2"),
        (
            "tests/test_batch_norm_layer.py::test_debiased_statistics_are_exact_after_one_batch",
            "tests/test_batch_norm_layer.py::test_debiased_statistics_are_weighted_means_of_the_batches",
        ),
    ),
    Mutant(
        *(21, "one row taken in training", "csrc/bind/bind_batchnorm.cpp"),
        *("if (training && x.rows < 2) {", "if (training && x.rows < 1) {"),
        (
            "tests/test_batch_norm.py::test_one_row_raises_before_anything_changes",
            "tests/test_batch_norm_layer.py::test_one_row_raises_before_anything_changes",
        ),
    ),
    Mutant(
        *(21, "a last batch of one row left alone", "python/fastnn/data.py"),
        *("starts[-1] == n - 1:", "starts[-1] == n:"),
        (
            "tests/test_trainer.py::test_a_one_row_last_batch_joins_the_one_before_only_with_batch_norm",
            "tests/test_batch_norm_layer.py::test_trainer_with_one_row",
        ),
    ),
    Mutant(
        *(21, "variance as E[x^2] - E[x]^2", BATCH_NORM),
        *("vstore(shift + j, sum * inverse);", "vstore(shift + j, sum - sum);"),
        ("tests/test_batch_norm.py::test_offset_of_a_million_keeps_the_variance",),
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
        *(21, "the activation before batch-norm's scaling", BATCH_NORM),
        *("finish(fma(x[i], scale, beta))", "fma(finish(x[i]), scale, beta)"),
        (
            "tests/test_batch_norm.py::test_fused_equals_unfused_bit_for_bit",
            "tests/test_gradients.py::test_layers",
        ),
    ),
    Mutant(
        *(25, "a gain of 1 for ReLU", GAINS),
        *('"relu": math.sqrt(2)', '"relu": 1.0'),
        ("tests/test_init.py::test_scale_and_distribution", "tests/test_init.py::test_gain"),
    ),
    Mutant(
        *(29, "fan_in of a weight is its number of columns", "python/fastnn/_parameter.py"),
        *("values.shape[0] if fan_in is None and matrix", "values.shape[1] if fan_in is None and matrix"),
        ("tests/test_models.py::test_a_seed_draws_all_weights_in_layer_order_from_one_generator",),
    ),
    Mutant(
        *(30, "a product and a sum for a fused one, without vectors", "csrc/cpu/simd_scalar.h"),
        *("return fastnn::fma(a.v[i], b.v[i], c.v[i]);", "return a.v[i] * b.v[i] + c.v[i];"),
        ("tests/test_determinism.py::test_kernel[gemm]", "tests/test_determinism.py::test_training"),
    ),
    Mutant(
        *(30, "the last lanes of a vector counted in a sum", "csrc/cpu/loss.cpp"),
        *("first_of(kWeighted ? loss * w : loss, splat(0.0f), n)", "(kWeighted ? loss * w : loss)"),
        ("tests/test_elementwise_losses.py::test_shapes",),
    ),
    *(Mutant(*row) for row in mutants_of_inputs.ROWS),
]
