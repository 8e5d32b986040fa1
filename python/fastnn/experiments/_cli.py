"""The command `python -m fastnn experiments`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fastnn import _runtime, losses, nn, optim
from fastnn.experiments import EXPERIMENTS, Setting, _page, _plots
from fastnn.trainer import Trainer

HELP = "try the claims of the source documents on the digits"
EXAMPLE = "python -m fastnn experiments cost --seeds 3"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `experiments`."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="one of: " + ", ".join(EXPERIMENTS) + "; without it: all"
    )
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="pairs of runs (10)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of the kernels")
    parser.add_argument(
        "--out", metavar="DIR", help="write DIR/experiments.md and DIR/experiments/NAME.json and .png"
    )
    parser.add_argument(
        "--redraw", action="store_true", help="run nothing: make page and plots from the JSON files in --out"
    )
    parser.add_argument("--note", default="", help="a sentence on the conditions, kept with the results")


def run(arguments: argparse.Namespace) -> int:
    """Do it; the exit status: 0, or 2 after one line on what was wrong, said before anything runs."""
    try:
        names, out = _checked(arguments)
        if arguments.redraw and out is not None:
            _page.load(out / _page.FOLDER)
    except (ValueError, ImportError, OSError) as error:
        print(f"python -m fastnn experiments: error: {error}", file=sys.stderr)
        return 2
    if not arguments.redraw:
        _run(names, out, arguments)
    if out is not None:
        results = _page.load(out / _page.FOLDER)
        (out / "experiments.md").write_text(_page.page(results), encoding="utf-8")
        for name in names:
            if name in results:
                _plots.draw(EXPERIMENTS[name], results[name], out / _page.FOLDER)
    return 0


def _checked(arguments: argparse.Namespace) -> tuple[list[str], Path | None]:
    """Which experiments, and the folder to write, which exists after this."""
    name, out = arguments.name, None if arguments.out is None else Path(arguments.out)
    if name is not None and name not in EXPERIMENTS:
        raise ValueError(f"there is no {name!r}; there are {', '.join(EXPERIMENTS)}")
    if arguments.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {arguments.seeds}")
    if arguments.redraw and out is None:
        raise ValueError("--redraw needs --out, the folder with the results")
    if arguments.threads is not None:
        if not 1 <= arguments.threads <= 1024:
            raise ValueError(f"--threads must be from 1 to 1024, got {arguments.threads}")
        _runtime.set_num_threads(arguments.threads)
    model, device = nn.Linear(1, 1, rng=0), arguments.device
    Trainer(model, losses.MSELoss(), optim.SGD(model.parameters(), 1), device=device)  # raises without it
    if out is not None:
        _plots.figure_class()
        (out / _page.FOLDER).mkdir(parents=True, exist_ok=True)
    return list(EXPERIMENTS) if name is None else [name], out


def _run(names: list[str], out: Path | None, arguments: argparse.Namespace) -> None:
    setting = Setting(arguments.seeds, arguments.device, say=lambda text: print(text, file=sys.stderr))
    for name in names:
        found = EXPERIMENTS[name].run(setting)
        found["conditions"] = _page.conditions(arguments.seeds, arguments.note)
        for part, content in found["parts"].items():
            for row in content["verdicts"]:
                print(f"{row['verdict']:<9}  {name}: {part}: {row['claim']}")
        if out is not None:
            _page.save(found, out / _page.FOLDER)
