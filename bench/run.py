#!/usr/bin/env python3
"""The benchmark: trains the main job with fastnn and with NumPy, times every kernel against its peers,
measures the machine's limits in the same run, and saves a JSON and pictures. See bench/README.md.

    python bench/run.py --quick                 at most two minutes on two cores
    python bench/run.py --only training         networks, many at once, time to accuracy; every peer
    python bench/run.py --full                  all of it, every kernel, sweeps: under half an hour
    python bench/run.py --case batch-norm       only the cases with this in their names
    python bench/run.py --device cuda           on a GPU; exit 77 where there is none
    python bench/run.py --full --compare bench/results/cpu-NAME-full.json
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cases
import compare
import conditions
import limits
import main_job
import peers
import plot
import plot_full
import readme_block
import report
import small_digits
from job import MORE_SEEDS
from peers.peer import Peer
from timing import Budget, Timing, WrongResult, take_turns
from worker import Worker, WorkerError

QUICK = Budget(least=15, most=30, seconds=5)  # threads of OpenBLAS spin for 0.1 s after each turn
FULL = Budget(least=30, most=100, seconds=3)
SWEEP = Budget(least=10, most=30, seconds=2)  # a curve of many points; none of them is quoted alone

TRAINING = Budget(least=7, most=30, seconds=10)  # a turn of fastnn is an epoch
ATTEMPTS = 3  # to see a case and its limit in the same state of the machine


def parser() -> argparse.ArgumentParser:
    """All options."""
    p = argparse.ArgumentParser(
        prog="bench/run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    what = p.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="main job, kernels, limits (the default)")
    what.add_argument(
        "--full",
        action="store_true",
        help="every kernel, training of eight networks, sweeps of batch and width; every peer",
    )
    what.add_argument(
        "--only", choices=["training"], help="the part of --full that is about training; every peer"
    )
    what.add_argument(
        "--case",
        metavar="TEXT",
        help="the cases of --full whose names contain TEXT (batch-norm, GEMM 512x, step 784); saves nothing",
    )
    what.add_argument(
        "--readme",
        action="store_true",
        help="write README.md's table and the plots from the newest bench/results; nothing is measured",
    )
    p.add_argument(
        "--check", action="store_true", help="with --readme: write nothing, exit 1 if it would change"
    )
    p.add_argument(
        "--device",
        choices=["cpu", "cuda"],
        default="cpu",
        help="cuda: steps and kernels on the GPU against PyTorch and CuPy; of the other options only --json",
    )
    p.add_argument("--isa", metavar="NAME", help="instruction set fastnn runs (see `python -m fastnn info`)")
    p.add_argument(
        "--threads",
        type=_positive,
        metavar="N",
        default=len(os.sched_getaffinity(0)),
        help="threads of every library (default: the cores this process may use, %(default)s)",
    )
    p.add_argument(
        "--vs",
        metavar="NAMES",
        help=f"peers beside NumPy, comma-separated: {', '.join(peers.OPTIONAL)} "
        "(default: none with --quick, all else)",
    )
    p.add_argument(
        "--rounds",
        type=_positive,
        metavar="N",
        help="rounds of each case, to try things out (default: up to 30 with --quick, else up to 100)",
    )
    p.add_argument(
        "--json",
        type=Path,
        metavar="PATH",
        default=Path("bench-results.json"),
        help="where the results go, with the pictures beside them as .png (default: %(default)s)",
    )
    p.add_argument(
        "--compare",
        type=Path,
        nargs="+",
        metavar="JSON",
        help="OLD: after measuring, name what got slower since, and exit 1 if something did; "
        "OLD NEW: compare the two, nothing is measured",
    )
    return p


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def main(arguments: list[str] | None = None) -> int:
    """Runs what the command line asks for; returns the exit status."""
    p = parser()
    options = p.parse_args(arguments)
    options.mode = options.only or ("full" if options.full else "quick")
    if options.vs is None:
        options.vs = "" if options.mode == "quick" else ",".join(peers.OPTIONAL)
    wanted = [name for name in options.vs.split(",") if name not in ("", peers.NUMPY.name)]
    if unknown := [name for name in wanted if name not in peers.OPTIONAL]:
        p.error(f"--vs: unknown peer {', '.join(unknown)}; available: {', '.join(peers.OPTIONAL)}")
    options.cases = cases.chosen(options.mode) if options.case is None else cases.named(options.case)
    if not options.cases:
        p.error(f"--case: no name contains {options.case!r}; docs/targets.md and --full list them")
    if options.check and not options.readme:
        p.error("--check goes with --readme")
    if options.compare and options.case is not None:
        p.error("--compare goes with a whole run, not with --case")
    if options.compare and len(options.compare) > 2:
        p.error("--compare takes one file (measures) or two (does not)")
    try:
        if options.readme:
            return _readme(options.check)
        if options.device == "cuda":
            return _on_gpu(options.json)
        # Read before anything is measured: a wrong path shows at once, and --json may be the same file.
        held = [compare.load(path) for path in options.compare or []]
        if len(held) == 2:
            return _compare(*held)
        libraries = [*peers.always(), *(peers.OPTIONAL[name] for name in wanted)]
        if options.case is not None:
            return _only_cases(options, libraries)
        found = measure(options, libraries)
        slower = _compare(held[0], found) if held else 0
        return 1 if slower or found["main_job"]["problems"] else 0
    except (
        WorkerError,
        WrongResult,
        limits.LimitError,
        readme_block.ReadmeError,
        compare.CompareError,
    ) as error:
        print(f"bench/run.py: {error}", file=sys.stderr)
        return 1


def _readme(check: bool) -> int:
    if check:
        readme_block.check()
        print("README.md is up to date")
    else:
        for path in readme_block.write():
            print(f"wrote {path}")
    return 0


def _on_gpu(path: Path) -> int:
    import gpu_steps  # fastnn, of which the rest here knows nothing but its workers

    return gpu_steps.measure(path, os.environ.get("COMMIT") or report.commit())


def _compare(old: dict[str, Any], new: dict[str, Any]) -> int:
    text, slower = compare.lines(old, new)
    print("\n".join(text))
    return 1 if slower else 0


def _started(stack: ExitStack, options: argparse.Namespace, wanted: list[Peer]) -> list[Worker]:
    """The libraries, each in a process; says what they are."""
    everyone = [stack.enter_context(Worker(peer, options.threads, options.isa)) for peer in wanted]
    fastnn = everyone[0]
    if fastnn.absent:
        raise WorkerError(f'fastnn is {fastnn.absent}; pip install ".[bench]" installs it from this tree')
    print(built_and_running(fastnn))
    for worker in everyone[1:]:
        about = worker.absent or f"{worker.about['version']}, {worker.about['detail']}"
        print(f"{worker.peer.title}: {about}")
    return everyone


def _surveyed(fastnn: Worker, threads: int) -> limits.Limits:
    """The machine's limits, printed."""
    info = fastnn.about["info"]
    machine = limits.Limits(fastnn, info["isa"], threads)
    machine.survey(info["isas"])
    print("\n".join(limits.lines(machine.as_json())), flush=True)
    return machine


def _only_cases(options: argparse.Namespace, wanted: list[Peer]) -> int:
    """Times and prints these cases alone."""
    with ExitStack() as stack:
        everyone = _started(stack, options, wanted)
        machine = _surveyed(everyone[0], options.threads)
        _time_cases(options, [worker for worker in everyone if worker.absent is None], machine)
    return 0


def measure(options: argparse.Namespace, wanted: list[Peer]) -> dict[str, Any]:
    """Measures, prints and saves; returns the document."""
    begin, others_work = time.perf_counter(), report.OtherWork()
    with ExitStack() as stack:
        everyone = _started(stack, options, wanted)
        fastnn, present = everyone[0], [worker for worker in everyone[1:] if worker.absent is None]
        if not plot.available():
            print(plot.MISSING)
        machine = _surveyed(fastnn, options.threads)

        job = _main_job(options, fastnn, present)
        _share_of_job(job, machine)
        print("\n".join(main_job.lines(job, peers.TITLES)), flush=True)

        small = _small_digits(options, fastnn, present)

        rows, alone = _time_cases(options, [fastnn, *present], machine)
        # The best that was seen of a limit may have come after a case was printed.
        _share_of_job(job, machine)
        for row in rows:
            case = cases.BY_NAME[row["name"]]
            row.update(report.limit_figures(case, row["seconds"]["fastnn"], machine))
        held = _conditions(options, fastnn, rows)
    if options.mode != "quick":
        held += _new_processes(options, [worker.peer for worker in (fastnn, *present)])
        print("\n".join(conditions.lines(held)), flush=True)
    used = {"mode": options.mode, "isa": machine.isa, "threads": options.threads}
    other_work = others_work.share()
    if other_work > readme_block.BUSY:
        print(f"\nOther work took {other_work:.0%} of this machine: do not trust the ratios, run again")
    found = report.document(used, everyone, machine.as_json(), rows, alone, job, other_work)
    if options.mode != "quick":
        found["conditions"], found["small_digits"] = held, small
    report.save(found, options.json)
    wrote = [options.json, *(draw(found, options.json) if plot.available() else [])]
    print(f"\nwrote {', '.join(map(str, wrote))} ({time.perf_counter() - begin:.0f} s in all)")
    for problem in job["problems"]:
        print(f"bench/run.py: {problem}", file=sys.stderr)
    return found


def _main_job(options: argparse.Namespace, fastnn: Worker, others: list[Worker]) -> dict[str, Any]:
    """The main job: with NumPy alone in a quick run, else with every library that can, over more seeds."""
    if options.mode == "quick":
        others = [worker for worker in others if worker.peer.module == peers.NUMPY.module]
        return main_job.run(fastnn, others)
    others = [worker for worker in others if "epoch" in worker.about["commands"]]
    return main_job.run(fastnn, others, MORE_SEEDS[: options.rounds])


def _small_digits(options: argparse.Namespace, fastnn: Worker, others: list[Worker]) -> dict[str, Any] | None:
    """The comparison with scikit-learn on its digits, where it takes part."""
    for worker in others:
        if options.mode != "quick" and "small_digits" in worker.about["commands"]:
            found = small_digits.run(fastnn, worker, MORE_SEEDS[: options.rounds])
            print("\n".join(small_digits.lines(found, peers.TITLES)), flush=True)
            return found
    return None


def _conditions(options: argparse.Namespace, fastnn: Worker, rows: list[dict[str, Any]]) -> list[Any]:
    """Those that the running worker of fastnn measures."""
    if options.mode == "full":
        return conditions.measure(fastnn, rows, options.rounds)
    if options.mode == "training":
        return conditions.of_training(fastnn, rows, options.rounds)
    return []


def _new_processes(options: argparse.Namespace, wanted: list[Peer]) -> list[Any]:
    """The conditions that begin with a new process."""
    calls = conditions.first_calls(wanted, options.threads) if options.mode == "full" else []
    return calls + conditions.first_steps(wanted, options.threads)


def _time_cases(
    options: argparse.Namespace, workers: list[Worker], machine: limits.Limits
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Times every case and prints its line, under a heading for each group; those that fastnn has nothing for
    come second."""
    print(f"\n{report.EXPLANATION}")
    rows: list[dict[str, Any]] = []
    alone: list[dict[str, Any]] = []
    names: list[str] = []
    for case in options.cases:
        timing, row = _time_case(case, workers, machine, budget(options, case.group))
        if row is None:
            alone.append(report.alone_row(case, timing))
            print(
                "\n".join(
                    [report.alone_line(alone[-1], peers.TITLES), *report.wrong_lines(alone[-1], peers.TITLES)]
                )
            )
            continue
        if options.mode != "quick" and options.threads > 1:
            row["one_thread"] = conditions.gain(workers[0], options.threads, options.rounds)
        if not rows or rows[-1]["group"] != case.group:
            names = [worker.peer.name for worker in workers[1:] if _takes_part(worker, case.group)]
            print("\n".join(report.heading(cases.GROUPS[case.group], names, peers.TITLES)))
        rows.append(row)
        print(
            "\n".join([report.line(row, names, peers.TITLES), *report.wrong_lines(row, peers.TITLES)]),
            flush=True,
        )
    return rows, alone


def _time_case(
    case: cases.Case, workers: list[Worker], machine: limits.Limits, spend: Budget
) -> tuple[Timing, dict[str, Any] | None]:
    """A case's times and its row; none where fastnn has nothing for it.

    A host that slows memory down for seconds may hide the limit while the case runs at full speed: then both
    are measured again, and only a share above 1.02 that stays ends the run.
    """
    for attempt in range(1, ATTEMPTS + 1):
        machine.measure_for(case)
        timing = take_turns(case, workers, spend)
        machine.measure_for(case)
        if "fastnn" not in timing.seconds:
            break
        try:
            return timing, report.case_row(case, timing, machine)
        except limits.LimitError:
            if attempt == ATTEMPTS:
                raise
    return timing, None


def _takes_part(worker: Worker, group: str) -> bool:
    """Whether the library has any operation of the group."""
    return any(case.op in worker.about["ops"] for case in cases.ALL if case.group == group)


def draw(found: dict[str, Any], path: Path) -> list[Path]:
    """Draws the pictures of a document beside its JSON; returns their paths."""
    mode = found["options"]["mode"]
    return plot.draw(found, path) if mode == "quick" else plot_full.draw(found, path)


def budget(options: argparse.Namespace, group: str) -> Budget:
    """How long a case of this group is timed."""
    if options.rounds is not None:
        return Budget(options.rounds, options.rounds)
    if options.mode == "quick":
        return QUICK
    return {"sweep": SWEEP, "step": TRAINING, "many": TRAINING}.get(group, FULL)


def _share_of_job(job: dict[str, Any], machine: limits.Limits) -> None:
    """The main job's share of the FMA peak: the products of an epoch over its median time."""
    seconds = job["libraries"]["fastnn"]["median_epoch_seconds"]
    job["share"] = limits.checked_share(
        "main job", lambda: machine.arithmetic_floor(job["epoch_flops"]), seconds, machine.measure_peak
    )


def built_and_running(fastnn: Worker) -> str:
    """The first line: what was built, what runs, how many threads."""
    info = fastnn.about["info"]
    left_out = f" (left out: {', '.join(info['isas_left_out'])})" if info["isas_left_out"] else ""
    return (
        f"fastnn {info['version']}: built for {', '.join(info['isas_built'])}{left_out}; CUDA: "
        f"{info['cuda']}; runs {info['isa']} on {info['threads']} threads"
    )


if __name__ == "__main__":
    sys.exit(main())
