"""Wrong edits of C++ files, for the traps of mutant_table.py."""

from mutant_table import OF_CONVENTIONS, OF_OPTIONS, Mutant

RULES, LOSSES, BATCH_NORM = "csrc/core/rules.h", "csrc/core/losses.h", "csrc/cpu/batchnorm.cpp"
OF_BFLOAT16 = "tests/test_bfloat16"
UPDATES, NORMS = "csrc/core/update_options.cpp", "csrc/core/norms.h"
SUMS = "csrc/core/sums.h"

NATIVE = [
    Mutant(
        *(3, "gradient ascent", RULES),
        *("s.param = s.param - c.lr * s.grad;", "s.param = s.param + c.lr * s.grad;"),
        (
            "tests/test_updates.py::test_many_steps",
            "tests/test_optim.py::test_every_rule_finds_the_lowest_point_of_a_parabola",
        ),
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
        *(12, "the styles of momentum exchanged", UPDATES),
        *(
            "velocity ? MomentumStyle::velocity : MomentumStyle::buffer",
            "velocity ? MomentumStyle::buffer : MomentumStyle::velocity",
        ),
        (
            "tests/test_optim.py::test_golden_values_of_both_momentum_styles",
            f"{OF_CONVENTIONS}::test_golden_values_of_momentum",
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
        *("c.root(square + c.eps_inside) + c.eps;", "c.root(square + c.eps_inside + c.eps);"),
        (
            "tests/test_optim.py::test_golden_values_of_pytorch",
            f"{OF_CONVENTIONS}::test_golden_values_of_every_convention",
            "tests/test_updates.py::test_many_steps",
        ),
    ),
    Mutant(
        *(13, "AdaGrad's epsilon inside the root", RULES),
        *("(c.root(s.slot0 + c.eps_inside) + c.eps);", "c.root(s.slot0 + c.eps_inside + c.eps);"),
        (
            "tests/test_optim.py::test_golden_values_of_pytorch",
            f"{OF_CONVENTIONS}::test_golden_values_of_every_convention",
            "tests/test_updates.py::test_many_steps",
        ),
    ),
    Mutant(
        *(13, "Adam's epsilon before the correction of the root", RULES),
        *("fma(c.root(square), c.root_scale, c.eps)", "((c.root(square) + c.eps) * c.root_scale)"),
        (
            "tests/test_optim.py::test_golden_values_of_pytorch",
            f"{OF_CONVENTIONS}::test_golden_values_of_every_convention",
            "tests/test_updates.py::test_many_steps",
        ),
    ),
    Mutant(
        *(13, "an epsilon for inside the root outside, and the reverse", UPDATES),
        *("(mode == EpsMode::inside ? o.eps_inside", "(mode != EpsMode::inside ? o.eps_inside"),
        (
            f"{OF_CONVENTIONS}::test_golden_values_of_every_convention",
            "tests/test_optim_steps.py::test_every_rule",
        ),
    ),
    Mutant(
        *(13, "batch-norm's epsilon outside the root", BATCH_NORM),
        "__builtin_sqrt(variance.v[i] * inverse + static_cast<double>(a.eps))",
        "(__builtin_sqrt(variance.v[i] * inverse) + static_cast<double>(a.eps))",
        ("tests/test_batch_norm.py::test_eps", "tests/test_batch_norm.py::test_constant_columns"),
    ),
    Mutant(
        *(15, "powers of beta in float", UPDATES),
        *("1.0 - std::pow(beta2, step)", "1.0 - std::pow(static_cast<float>(beta2), step)"),
        ("tests/test_updates.py::test_many_steps",),
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
        *("return fma(decay, gap, grad);", "return fma(decay + decay, gap, grad);"),
        (
            "tests/test_updates.py::test_many_steps",
            "tests/test_optim.py::test_adam_follows_the_float64_formula_for_many_steps",
            f"{OF_OPTIONS}::test_what_decay_adds_is_the_gradient_of_the_penalty",
        ),
    ),
    Mutant(
        *(18, "decoupled decay without the rate", UPDATES),
        *("static_cast<float>(1.0 - lr * weight_decay)", "static_cast<float>(1.0 - weight_decay)"),
        (
            "tests/test_updates.py::test_many_steps",
            "tests/test_optim.py::test_adamw_decays_the_parameter_and_adam_the_gradient",
        ),
    ),
    Mutant(
        *(19, "the sigmoid of -x", LOSSES),
        *("select_positive(x, one, u) / (one + u)", "select_positive(x, u, one) / (one + u)"),
        ("tests/test_losses.py::test_a_sure_wrong_logit_costs_its_size",),
    ),
    Mutant(
        *(19, "exp of a large logit", LOSSES),
        *("exp_minus(magnitude(x))", "exp_minus(x)"),
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
        *("exp_minus(top - vload(x + j, n))", "exp_minus(zero - vload(x + j, n))"),
        (
            "tests/test_losses.py::test_cross_entropies_at_ten_thousand",
            "tests/test_losses.py::test_large_logits_stay_finite",
        ),
    ),
    Mutant(
        *(20, "elements dropped with probability 1 - p", "csrc/core/dropout.h"),
        *("std::llround(std::ldexp(p, 32))", "std::llround(std::ldexp(1.0 - p, 32))"),
        ("tests/test_dropout.py::test_lengths", "tests/test_dropout.py::test_mean_and_variance"),
    ),
    Mutant(
        *(21, "momentum as the weight of the old value, in the kernel", SUMS),
        *("return (1.0 - w) * old + w * batch;", "return w * old + (1.0 - w) * batch;"),
        ("tests/test_batch_norm.py::test_running_statistics",),
    ),
    Mutant(
        *(21, "the biased variance in the kernel's running one", BATCH_NORM),
        *("variance.v[i] * averaged, w)", "variance.v[i] * inverse, w)"),
        ("tests/test_batch_norm.py::test_running_statistics",),
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
        *(21, "variance as E[x^2] - E[x]^2", BATCH_NORM),
        *("vstore(shift + j, sum * inverse, lanes);", "vstore(shift + j, sum - sum, lanes);"),
        ("tests/test_batch_norm.py::test_offset_of_a_million_keeps_the_variance",),
    ),
    Mutant(
        *(21, "the activation before batch-norm's scaling", BATCH_NORM),
        *("finish(fma(d, f.of[kScale], f.of[kBeta]))", "fma(finish(d), f.of[kScale], f.of[kBeta])"),
        (
            "tests/test_batch_norm.py::test_fused_equals_unfused_bit_for_bit",
            "tests/test_gradients.py::test_layers",
        ),
    ),
    Mutant(
        *(27, "PyTorch's small number beside the norm", NORMS),
        *("static_cast<float>(largest / norm)", "static_cast<float>(largest / (norm + 1e-6))"),
        (f"{OF_OPTIONS}::test_the_factor_is_exact",),
    ),
    Mutant(
        *(27, "the global norm as a sum of norms", NORMS),
        *("        total += own;\n", "        total += __builtin_sqrt(own);\n"),
        (
            f"{OF_OPTIONS}::test_the_global_norm_is_taken_over_all_groups_and_only_what_is_trained",
            "tests/test_optim_steps.py::test_clips",
        ),
    ),
    Mutant(
        *(27, "an infinite gradient taken for a finite one", NORMS),
        *("verdict.non_finite < 0 && !is_finite(own)", "verdict.non_finite < 0 && own != own"),
        (f"{OF_OPTIONS}::test_a_non_finite_gradient_is_found_before_anything_changes",),
    ),
    Mutant(
        *(27, "a sum of squares that overflows", NORMS),
        *(
            "return is_finite(wide) ? wide :",
            "return wide == wide ? wide :",
        ),
        (
            f"{OF_OPTIONS}::test_huge_finite_gradients_are_no_error",
            "tests/test_optim_steps.py::test_norms_beyond_float32_and_below",
        ),
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
    Mutant(
        *(45, "the lower half cut off", "csrc/cpu/bf16.h"),
        *("bits + iset1(0x7fff) + ((bits >> 16) & iset1(1))", "bits"),
        (
            f"{OF_BFLOAT16}_training.py::test_steps_against_float64",
            f"{OF_BFLOAT16}_products.py::test_each_number_is_rounded_to_nearest_even",
            f"{OF_BFLOAT16}_products.py::test_forward",
            f"{OF_BFLOAT16}_products.py::test_backward",
        ),
    ),
    Mutant(
        *(45, "up in the middle", "csrc/cpu/bf16.h"),
        *("bits + iset1(0x7fff) + ((bits >> 16) & iset1(1))", "bits + iset1(0x8000)"),
        (f"{OF_BFLOAT16}_products.py::test_each_number_is_rounded_to_nearest_even",),
    ),
]
