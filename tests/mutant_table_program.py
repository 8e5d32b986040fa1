"""Wrong edits of csrc/program and of what runs its steps, for the traps of mutant_table.py."""

from mutant_table import Mutant

PROGRAM, OPS = "csrc/program/program.cpp", "csrc/program/ops.cpp"
GEMM = "csrc/cpu/gemm.cpp"
LOSSES, REGIONS, STEPS = "csrc/program/losses.cpp", "csrc/program/regions.h", "csrc/bind/bind_program.cpp"
BOUND, BATCHES = "csrc/bind/bound_program.cpp", "csrc/bind/batches.h"
PARITY, INPUTS = "tests/test_trainer_parity.py", "tests/test_trainer_inputs.py"
BAD, CHANGES = "tests/test_trainer_bad_batches.py", "tests/test_trainer_changes.py"
LARGE, PACKED = "tests/test_program_large.py", "tests/test_packed_weights.py"
STEPS_ARE, FIT_IS = f"{PARITY}::test_steps_are_the_plain_loop", f"{PARITY}::test_a_fit_is_the_steps"

PROGRAMS = [
    Mutant(
        *(41, "the operations of a block in reverse", PROGRAM),
        *(
            "list.insert(list.end(), own.begin(), own.end());",
            "list.insert(list.begin(), own.begin(), own.end());",
        ),
        (STEPS_ARE,),
    ),
    Mutant(
        *(41, "rows of another block gathered", OPS),
        *("            .first = place.begin,\n", "            .first = 0,\n"),
        (STEPS_ARE,),
    ),
    Mutant(
        *(41, "a block's dropout mask is that of the first rows", OPS),
        *("args.first = place.begin * size;", "args.first = 0;"),
        (STEPS_ARE,),
    ),
    Mutant(
        *(41, "every block's losses in the place of the first", LOSSES),
        *("args.row_loss = row_loss_ + place.begin;", "args.row_loss = row_loss_;"),
        (STEPS_ARE,),
    ),
    Mutant(
        *(41, "class ids in the order of the data set", LOSSES),
        *(
            "from.order.rows != nullptr ? from.order.rows[i] : i;\n        const T given",
            "i;\n        const T given",
        ),
        (FIT_IS,),
    ),
    Mutant(
        *(41, "the padding of panels left out of where the next block of K lies", GEMM),
        *("return b + k0 * round_up(n, kPanel) + c0 * k;", "return b + k0 * n + c0 * k;"),
        (f"{PACKED}::test_steps_are_the_plain_loop",),
    ),
    Mutant(
        *(42, "batch-norm by blocks of rows", PROGRAM),
        *("kind != Kind::whole && chains_;", "chains_;"),
        (STEPS_ARE,),
    ),
    Mutant(
        *(42, "no barrier between products of a large network", PROGRAM),
        *(
            "if (end < ops_.size() && ops_[end]->kind() == Kind::by_rows) ++end;",
            "while (end < ops_.size() && ops_[end]->kind() != Kind::whole) ++end;",
        ),
        (f"{LARGE}::test_steps_are_the_plain_loop",),
    ),
    Mutant(
        *(42, "no barrier between the phases of what is last", PROGRAM),
        *("at_end.add(tasks[t]);", "first.add(tasks[t]);"),
        (f"{LARGE}::test_steps_are_the_plain_loop",),
    ),
    Mutant(
        *(42, "no regions beyond what one call of the team takes", PROGRAM),
        *(
            "for (int begin = 0; begin < count; begin += kMaxTasks) {",
            "for (int begin = 0; begin < 1; ++begin) {",
        ),
        (f"{LARGE}::test_more_regions_than_a_call_of_the_team_takes",),
    ),
    Mutant(
        *(43, "a buffer's memory is taken while it is read", PROGRAM),
        *("if (lives[j].last >= lives[i].first)", "if (lives[j].last > lives[i].first)"),
        (STEPS_ARE,),
    ),
    Mutant(
        *(43, "what is last reads memory that was given away", PROGRAM),
        *("late && (region.by_rows || branches_) ? end : r);", "r);"),
        (STEPS_ARE,),
    ),
    Mutant(
        *(43, "batch-norm's statistics have no room", PROGRAM),
        *("aligned(n * buffer.per_row + buffer.fixed)", "aligned(n * buffer.per_row)"),
        # Without packed weights, whose lack of room ends the process.
        (f"{LARGE}::test_steps_are_the_plain_loop",),
    ),
    Mutant(
        *(43, "predictions overwritten before they are scored", PROGRAM),
        *("for (const Ref ref : {loss_->pred, loss_->work,", "for (const Ref ref : {loss_->work,"),
        (f"{LARGE}::test_metrics_get_the_predictions_of_the_step",),
    ),
    Mutant(
        *(44, "a program without weights used for a batch with them", PROGRAM),
        *("n == n_ && weighted == weighted_ &&", "n == n_ &&"),
        (f"{CHANGES}::test_weights_now_and_then",),
    ),
    Mutant(
        *(44, "no update in a short step", PROGRAM),
        *("            all_.insert(all_.end(),", "            if (number < 0) all_.insert(all_.end(),"),
        (STEPS_ARE,),
    ),
    Mutant(
        *(44, "no update in a long step", PROGRAM),
        *(
            "    run(update_->tasks(), paced(update_->cost_ns()), nullptr);",
            "    if (number < 0) run(update_->tasks(), paced(update_->cost_ns()), nullptr);",
        ),
        (f"{LARGE}::test_steps_are_the_plain_loop",),
    ),
    Mutant(
        *(44, "a refused step counts", PROGRAM),
        *("return update_->plan.refused() >= 0 ? Outcome::refused : Outcome::done;", "return Outcome::done;"),
        (f"{BAD}::test_each_policy_is_the_plain_loop_s",),
    ),
    Mutant(
        *(44, "the numbers of the first step for all", BATCHES),
        *("(sets > 1 ? step : 0) * groups", "(sets > 1 ? 0 * step : 0) * groups"),
        (FIT_IS,),
    ),
    Mutant(
        *(44, "the dropout counter stands still in a fit", STEPS),
        *("bound.set_masks(forwards, static_cast<std::uint64_t>(done));", "bound.set_masks(forwards, 0);"),
        (FIT_IS,),
    ),
    Mutant(
        *(44, "the batches of debiased batch-norm are not counted", OPS),
        *("*updates += 1.0f;", "*updates += 0.0f;"),
        (STEPS_ARE,),
    ),
    Mutant(
        *(44, "a biased running variance is the unbiased one", OPS),
        *("args.biased = !unbiased;", "args.biased = false;"),
        (STEPS_ARE,),
    ),
    Mutant(
        *(44, "a sum of losses, not divided", LOSSES),
        *(
            "weighted_sum(row_loss_, weight_, rows_) / total_weight_",
            "weighted_sum(row_loss_, weight_, rows_)",
        ),
        (STEPS_ARE,),
    ),
    Mutant(
        *(44, "a fit's loss as the mean over batches", STEPS),
        *("sums[1] += loss.total_weight() * loss.value();", "sums[1] += loss.value();"),
        (FIT_IS,),
    ),
    Mutant(
        *(44, "two trainers in one model at once", BOUND),
        *("other == &bound || other->shares_parameters(bound)", "other == &bound"),
        ("tests/test_program.py::test_parameters_are_in_one_call_at_a_time",),
    ),
]
