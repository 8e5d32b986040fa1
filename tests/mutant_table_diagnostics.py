"""Wrong edits of fastnn.diagnostics, for the traps of mutant_table.py."""

from mutant_table import Mutant

ROOM = "python/fastnn/diagnostics"
RUNS, SIGNALS = "tests/test_diagnostics_runs.py", "tests/test_diagnostics_signals.py"
STEPS, DATA = "tests/test_diagnostics_steps.py", "tests/test_diagnostics_data.py"
REPORTS = "tests/test_step_reports.py"
OF_INIT = "tests/test_diagnostics_init.py"

DIAGNOSTICS = [
    Mutant(
        *(28, "one power too many", f"{ROOM}/_depth.py"),
        *("growth ** (1 / (layers - 1))", "growth ** (1 / layers)"),
        (
            f"{SIGNALS}::test_the_law_of_depth_of_a_linear_network",
            f"{SIGNALS}::test_depth_law_finds_the_factor",
        ),
    ),
    Mutant(
        *(28, "the end of float32 a layer early", f"{ROOM}/_depth.py"),
        *("/ math.log2(factor)) + 2", "/ math.log2(factor)) + 1"),
        (f"{SIGNALS}::test_the_law_of_depth_of_a_linear_network",),
    ),
    Mutant(
        *(28, "gradients counted from the first layer", f"{ROOM}/signals.py"),
        *("for row in reversed(matrices) if", "for row in matrices if"),
        (f"{SIGNALS}::test_the_law_of_depth_of_a_linear_network",),
    ),
    Mutant(
        *(31, "the variance of batches for that of rows", f"{ROOM}/batch_size.py"),
        *("noise = batch_size * float(square)", "noise = float(square)"),
        (f"{RUNS}::test_the_noise_scale_does_not_depend_on_the_batch_it_is_measured_with",),
    ),
    Mutant(
        *(31, "a biased variance", f"{ROOM}/batch_size.py"),
        *("float(square) / (count - 1)", "float(square) / count"),
        (f"{RUNS}::test_noise_scale_of_single_rows_is_the_textbooks",),
    ),
    Mutant(
        *(31, "noise counted as gradient", f"{ROOM}/batch_size.py"),
        *("float(np.vdot(mean, mean)) - noise / (batch_size * count)", "float(np.vdot(mean, mean))"),
        (
            f"{RUNS}::test_noise_scale_of_single_rows_is_the_textbooks",
            f"{RUNS}::test_a_gradient_lost_in_noise",
        ),
    ),
    Mutant(
        *(32, "the quotient upside down", f"{ROOM}/batch_size.py"),
        *('(1 + scale / row["batch_size"])', '(1 + row["batch_size"] / scale if scale else 1)'),
        (f"{RUNS}::test_time_to_the_same_loss_is_step_times_one_plus_noise_over_rows",),
    ),
    Mutant(
        *(33, "a sigmoid measured by a slope of 1", f"{ROOM}/_watch.py"),
        *("slope <= SATURATED * _STEEPEST.get(watched.layer.kind, 1.0)", "slope <= SATURATED"),
        (f"{SIGNALS}::test_saturated_values",),
    ),
    Mutant(
        *(33, "dead in a single row", f"{ROOM}/_watch.py"),
        *("slope.max(axis=0) == 0", "slope.min(axis=0) == 0"),
        (f"{SIGNALS}::test_dead_units_are_dead_in_every_row",),
    ),
    Mutant(
        *(34, "biased and unbiased exchanged", f"{ROOM}/steps.py"),
        *("(found.rows - layer.unbiased)", "(found.rows - (not layer.unbiased))"),
        (f"{STEPS}::test_drift_is_in_running_deviations",),
    ),
    Mutant(
        *(34, "epsilon left out", f"{ROOM}/steps.py"),
        *("running.var.astype(np.float64) + layer.eps", "running.var.astype(np.float64)"),
        (f"{STEPS}::test_drift_is_in_running_deviations",),
    ),
    Mutant(
        *(34, "running statistics behind the batch", f"{ROOM}/steps.py"),
        *("layer.running_mean.copy(), layer.running_var.copy()", "layer.running_mean, layer.running_var"),
        (f"{STEPS}::test_drift_is_in_running_deviations",),
    ),
    Mutant(
        *(35, "inputs compared, not neurons", f"{ROOM}/initialization.py"),
        *("np.unique(columns, axis=1,", "np.unique(columns, axis=0,"),
        (f"{OF_INIT}::test_zeros_make_neurons_that_stay_equal", f"{OF_INIT}::test_equal_neurons"),
    ),
    Mutant(
        *(35, "weights alone", f"{ROOM}/initialization.py"),
        *("np.vstack([values, *(p.grad for p in arrays)])", "np.vstack([values])"),
        (f"{OF_INIT}::test_equal_neurons",),
    ),
    Mutant(
        *(36, "a smoothed loss that begins at 0", f"{ROOM}/rates.py"),
        *("smoothed = mean / (1 - _KEPT ** (i + 1))", "smoothed = mean"),
        (f"{DATA}::test_rates_grow_by_one_factor_and_losses_are_those_of_the_steps",),
    ),
    Mutant(
        *(36, "rates that grow by a difference", f"{ROOM}/rates.py"),
        *("low * (high / low) ** (i / (steps - 1))", "low + (high - low) * (i / (steps - 1))"),
        (f"{DATA}::test_rates_grow_by_one_factor_and_losses_are_those_of_the_steps",),
    ),
    Mutant(
        *(37, "a small gradient is enough", f"{ROOM}/steps.py"),
        *("SMALL * wanted and loss >= HIGH", "SMALL * wanted or loss >= HIGH"),
        (f"{STEPS}::test_small_gradient_and_high_loss",),
    ),
    Mutant(
        *(38, "the update over itself", f"{ROOM}/steps.py"),
        *('watched.row["update_ratio"] = change / size', 'watched.row["update_ratio"] = change / change'),
        (f"{STEPS}::test_the_step_is_the_one_that_the_trainer_does",),
    ),
    Mutant(
        *(38, "weights behind the update", f"{ROOM}/steps.py"),
        *("[array.copy() for array in moved]", "moved"),
        (f"{REPORTS}::test_a_report_is_that_of_step_report_before_the_step",),
    ),
    Mutant(
        *(39, "the largest value for the range", f"{ROOM}/features.py"),
        *('_ratio([row["max"] - row["min"] for', '_ratio([row["max"] for'),
        (f"{DATA}::test_columns_are_those_of_numpy",),
    ),
    Mutant(
        *(40, "an activated result counted twice", f"{ROOM}/memory.py"),
        *("if not (replaced or watched.layer.passes_on):", "if not watched.layer.passes_on:"),
        (f"{RUNS}::test_parts_of_the_plan", f"{RUNS}::test_the_plan_is_what_a_step_takes"),
    ),
]
