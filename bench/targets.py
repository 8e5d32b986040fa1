"""What the kernels and the training are held to, beside what the newest full results reached.

`python bench/run.py --readme` writes docs/targets.md from it, and `--check` compares. A target is a number
of times a peer's speed, or a share of a limit that was measured in the same run; the medians decide.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from report import time_text

TITLES = {
    "numpy": "NumPy",
    "numpy-haswell": "NumPy (Haswell)",
    "torch": "PyTorch",
    "jax": "JAX",
    "jax-scan": "JAX scan",
    "deepspeed": "DeepSpeed",
}
BEST = ("numpy", "torch", "jax", "deepspeed")
ACTIVATIONS = [
    "relu",
    "leaky_relu",
    "sigmoid",
    "tanh",
    "gelu",
    "gelu_tanh",
    "silu",
    "elu",
    "selu",
    "softplus",
]

HEAD = """# What was aimed at, and what was reached

Written by `python bench/run.py --readme` from the newest committed results of `--full`; no figure is typed by
hand. Asked for (in brackets) is a number of times a peer's speed, or a share of a limit that was measured in
the same run. Targets against NumPy were set for its kernels for AVX2, on a CPU with AVX-512 where OpenBLAS
ran these: they are judged by these, and products by a second number against its kernels for AVX-512 as well.
Where OpenBLAS picks the latter by itself, they are what `pip install numpy` brings. Where no second number is
asked for, what was reached against them stands beside and is not judged. Where a peer runs at 0.8 of the
limit, nothing can be twice as fast. What was tried against a miss, and what it gave, stands in
[performance.md](performance.md).
"""

IN_TIME = [
    "",
    "## The misses in time",
    "",
    "What a call takes, what would meet all numbers of its target at the speeds of peers and streams in this",
    "run, and the least that this machine needs: the arithmetic at the FMA peak, or each array read or",
    "written once as fast as a stream over as many bytes.",
    "",
]
COLUMNS = ["| What | Reached (asked) | |", "| --- | --- | --- |"]


@dataclass(frozen=True)
class Target:
    """Each is enough by itself where `either` is set, but for `avx512`.

    times   of a peer's speed, by its name, or of the best peer's ("best"); of NumPy's on its kernels for AVX2
    share   of the case's limit, or of the stream whose bytes the targets count
    avx512  times NumPy's speed on its kernels for AVX-512, where the CPU has that
    """

    case: str
    times: dict[str, float] = field(default_factory=dict)
    share: float | None = None
    either: bool = False
    avx512: float | None = None


def network_shape(case: str, share: float = 0.9) -> Target:
    return Target(case, {"best": 1.6}, share, either=True, avx512=1.0)


def update(rule: str) -> list[Target]:
    """An optimizer's kernel at four sizes, against both who fuse it, as far as they have the rule."""

    def both(times: float) -> dict[str, float]:
        return {"torch": times, "deepspeed": times}

    return [
        Target(f"{rule} 10 thousand", both(5.0)),
        Target(f"{rule} 235 thousand in 6 arrays", both(2.0)),
        Target(f"{rule} 1 million", {"deepspeed": 1.3} if rule == "Adam" else {"torch": 1.5}, 0.9),
        Target(f"{rule} 25 million", both(1.0), 0.95),
    ]


def step(network: str, numpy: float, torch: float, jax: float, scan: float, share: float | None) -> Target:
    return Target(f"step {network}", {"numpy": numpy, "torch": torch, "jax": jax, "jax-scan": scan}, share)


SECTIONS: dict[str, list[Target]] = {
    "Products": [
        *(
            Target(f"GEMM {n}x{n}x{n}", {"numpy": 2.0, "torch": 2.2, "jax": 1.02}, share, avx512=1.05)
            for n, share in ((512, 0.93), (1024, 0.94), (2048, 0.94))
        ),
        Target("GEMM 256x256x256", {"best": 1.8}, 0.9, avx512=1.05),
        Target("GEMM 128x128x128", {"best": 2.1}, 0.75, avx512=1.05),
        Target("GEMM 64x64x64", {"best": 2.1}, avx512=1.05),
        Target("GEMM 32x32x32", {"numpy": 3.0}),
        Target("GEMM 16x16x16", {"numpy": 3.0}),
        network_shape("GEMM 128x784x512 + bias + ReLU"),
        network_shape("GEMM 128x784x512"),
        network_shape("GEMM 784x128x512 (dW)"),
        network_shape("GEMM 128x512x784 (dX)"),
        network_shape("GEMM 1024x784x256"),
        network_shape("GEMM 784x1024x256 (dW)"),
        network_shape("GEMM 1024x256x784 (dX)"),
        network_shape("GEMM 64x784x128"),
        network_shape("GEMM 784x64x128 (dW)"),
        network_shape("GEMM 64x128x784 (dX)"),
        network_shape("GEMM 32x64x32"),
        network_shape("GEMM 64x32x32 (dW)"),
        network_shape("GEMM 32x32x64 (dX)"),
        network_shape("GEMM 128x512x512 (dX)"),
        network_shape("GEMM 2048x512x2048 (dW)"),
        network_shape("GEMM 512x2048x2048 (dX)"),
        network_shape("GEMM 8x1024x1024", 0.85),
        network_shape("GEMM 1024x8x1024 (dW)", 0.85),
        network_shape("GEMM 8x1024x1024 (dX)", 0.85),
        network_shape("GEMM 1x784x512", 0.85),
        network_shape("GEMM 784x1x512 (dW)", 0.85),
        network_shape("GEMM 1x512x784 (dX)", 0.85),
        *(Target(f"GEMM {shape}", {"best": 1.6}) for shape in ("128x512x10", "512x2048x10", "4096x256x15")),
        Target("GEMM bf16 1024x1024x1024", {"torch": 1.05}, 0.93),
        Target("GEMM bf16 128x128x128", {"torch": 3.5}),
        Target("GEMM bf16 64x64x64", {"torch": 40.0}),
    ],
    "Batch-norm": [
        Target("batch-norm forward (128, 512)", {"torch": 4.5}),
        Target("batch-norm forward (512, 2048)", {"torch": 3.0}, 0.85),
        Target("batch-norm forward (50176, 64)", {"torch": 2.5}, 0.85),
        Target("batch-norm forward (6272, 256)", {"torch": 2.5}, 0.85),
        Target("batch-norm backward (128, 512)", {"torch": 2.5}),
        Target("batch-norm + ReLU backward (128, 512)", {"torch": 2.5}),
        Target("batch-norm backward (512, 2048)", {"torch": 2.5}, 0.85),
        Target("batch-norm backward (50176, 64)", {"torch": 2.5}, 0.85),
        Target("batch-norm backward (6272, 256)", {"torch": 2.5}, 0.85),
        Target("batch-norm + ReLU backward (512, 2048)", {"torch": 2.5}, 0.85),
    ],
    "Updates": [
        target
        for rule in ("Adam", "AdamW", "RMSProp", "momentum", "SGD", "AdaGrad")
        for target in update(rule)
    ],
    "Losses and activations": [
        Target("softmax cross-entropy 512x10", {"torch": 6.0}),
        Target("softmax cross-entropy 512x1000", {"torch": 3.0}),
        *(
            Target(f"{kind} {way} (512, 1024)", {"torch": 1.5}, 0.85 if "relu" in kind else None)
            for kind in ACTIVATIONS
            for way in ("forward", "backward")
        ),
    ],
    "Steps of whole fits": [
        step("64-32-10 with BN, batch 32", 28, 68, 24, 4.5, None),
        step("64-64-64-10, batch 32", 13, 25, 10, 3.2, 0.40),
        step("17-64-64-6 with MSE, batch 64", 13, 25, 15, 3.0, 0.49),
        step("64-100-10, batch 200", 6.3, 10, 5.9, 2.9, 0.55),
        step("784-128-10, batch 64", 5.0, 5.4, 3.9, 1.65, 0.68),
        step("784-512-512-10 with BN, batch 128", 5.9, 2.5, 1.7, 1.45, 0.74),
        step("784-2048-2048-10, batch 512", 2.8, 2.2, 1.5, 1.15, 0.82),
        Target("step 784-2048-2048-10 in bf16, batch 512", {"torch": 1.3}, 0.6),
    ],
}


def numpy_by_kernels(ratios: dict[str, Any]) -> tuple[str, str | None]:
    """NumPy on its kernels for AVX2, and for AVX-512: as shipped it is one of them, where there are two."""
    if "numpy-haswell" in ratios:
        return "numpy-haswell", "numpy"
    return "numpy", "numpy-skylakex" if "numpy-skylakex" in ratios else None


@dataclass(frozen=True)
class Verdict:
    """What was reached beside what is asked, a part for each number; whether that is enough; and the seconds
    that would be."""

    parts: list[str]
    word: str
    seconds: float


def verdict(target: Target, case: dict[str, Any], shipped: bool = False) -> Verdict:
    """Judges a case; `shipped`: by NumPy on the kernels that it picks by itself."""
    ratios = {name: found["median"] for name, found in case["ratios"].items()}
    avx2, avx512 = numpy_by_kernels(ratios)
    judged = {**ratios, "numpy": ratios.get("numpy" if shipped else avx2)}
    own = case["seconds"]["fastnn"]
    parts: list[str] = []
    shares: list[float] = []  # of each number asked: from 1 on it is met
    for peer, asked in target.times.items():
        if peer == "best":
            peer = min((p for p in BEST if judged.get(p) is not None), key=judged.__getitem__)
        elif judged.get(peer) is None:
            continue
        title = TITLES[peer]
        if peer == "numpy" and avx512 is not None:
            title = "NumPy on AVX2 kernels"
        parts.append(f"{judged[peer]:.3g} times {title} ({asked:g})")
        shares.append(judged[peer] / asked)
        if peer == "numpy" and avx512 is not None and target.avx512 is None:
            parts[-1] += f", {ratios[avx512]:.3g} times on AVX-512 ones"
    if target.share is not None:
        share, of = case["share"], "the limit"
        if "stream_share" in case:
            share, of = case["stream_share"], "a copy stream"
        parts.append(f"{share:.2f} of {of} ({target.share:g})")
        shares.append(share / target.share)
    if target.either:
        shares = [max(shares)]
    if target.avx512 is not None and avx512 is not None:
        parts.append(f"{ratios[avx512]:.3g} times NumPy on AVX-512 kernels ({target.avx512:g})")
        shares.append(ratios[avx512] / target.avx512)
    word = "met" if min(shares) >= 1 else "in part" if max(shares) >= 1 else "missed"
    return Verdict(parts, word, own * min(shares))


def whole_jobs(found: dict[str, Any], cases: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Name, ratio reached and asked."""
    both = cases["batch-norm forward + backward (512, 2048)"]["ratios"]
    digits = found["small_digits"]["ratio"]["median"]
    job = {
        name: one["ratio"]["median"] for name, one in found["main_job"]["libraries"].items() if "ratio" in one
    }
    avx2, avx512 = numpy_by_kernels(job)
    kernels = "" if avx512 is None else f" on AVX2 kernels ({job[avx512]:.3g} on AVX-512 ones)"
    return [
        (f"the main job, times NumPy{kernels}", job[avx2], 3.0),
        ("batch-norm forward + backward (512, 2048), times PyTorch", both["torch"]["median"], 2.0),
        ("digits 8x8 at equal accuracy, times scikit-learn", digits, 16.0),
    ]


def on_avx2(found: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """The products of a run on AVX2: what, reached and asked, whether that is enough."""
    share = next(case["share"] for case in found["cases"] if case["name"] == "GEMM 1024x1024x1024")
    times = {}
    for case in found["cases"]:
        if case["group"] == "gemm" and "bf16" not in case["name"]:
            medians = {name: ratio["median"] for name, ratio in case["ratios"].items()}
            times[case["name"]] = medians[numpy_by_kernels(medians)[0]]
    slower = sorted((name for name in times if times[name] < 1), key=times.__getitem__)
    lowest = min(times, key=times.__getitem__)
    below = f"; below 1: {', '.join(f'{name} {times[name]:.3g}' for name in slower)}" if slower else ""
    return [
        ("GEMM 1024x1024x1024", f"{share:.2f} of the limit (0.92)", share >= 0.92),
        (
            f"lowest of {len(times)}: {lowest}",
            f"{times[lowest]:.3g} times NumPy on AVX2 kernels (1){below}",
            not slower,
        ),
    ]


def measured(found: dict[str, Any], source: str) -> str:
    """Where and when."""
    machine, options = found["machine"], found["options"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {options['isa']}, {options['threads']} threads"
    return f"Measured on {where}, {found['date'][:10]} ([{source}](../bench/results/{source}))."


def _all_targets() -> list[Target]:
    return [target for targets in SECTIONS.values() for target in targets]


def _by_shipped(cases: dict[str, Any], reached: int) -> list[str]:
    """How many kernels and steps meet theirs where NumPy counts as it was found."""
    both = [target for target in _all_targets() if target.case in cases]
    met = sum(verdict(target, cases[target.case]).word == "met" for target in both)
    if met == reached:
        return []
    return [
        "",
        f"Of the {len(both)} kernels and steps {met} are met, and {reached} where NumPy is judged by the "
        "kernels that it picks by itself.",
    ]


def _in_time(cases: dict[str, Any]) -> list[str]:
    """What the kernels and steps that are not met take, what would be enough, and the machine's limit."""
    lines = []
    for target in _all_targets():
        if target.case not in cases:
            continue
        case = cases[target.case]
        judged, own, limit = verdict(target, case), case["seconds"]["fastnn"], case["floor_seconds"]
        if judged.word != "met":
            beyond = ", which no code can" if judged.seconds < limit else ""
            enough = time_text(judged.seconds) + beyond
            lines.append(f"| {target.case} | {time_text(own)} | {enough} | {time_text(limit)} |")
    head = ["| What | Takes | Would be enough | Limit |", "| --- | --- | --- | --- |"]
    return [*IN_TIME, *head, *lines]


def _side_by_side(cases: dict[str, Any]) -> list[str]:
    """Steps of one network a second where several train at once: no number of them is asked for."""
    lines = []
    for name, case in cases.items():
        if case["group"] == "many":
            rates = {library: case["sizes"]["networks"] / took for library, took in case["seconds"].items()}
            words = [f"{TITLES.get(library, library)} {rate:,.0f}" for library, rate in rates.items()]
            lines.append(
                f"{name}, side by side (`fit_many`; NumPy and PyTorch one after another, JAX by `vmap`): "
            )
            lines[-1] += f"steps of one network a second: {', '.join(words)}."
    return ["", *lines] if lines else []


def page(found: dict[str, Any], source: str, avx2: tuple[dict[str, Any], str] | None = None) -> str:
    """docs/targets.md for these results, and those of a run on AVX2."""
    cases = {case["name"]: case for case in found["cases"]}
    lines = [HEAD, measured(found, source)]
    total = reached = by_shipped = 0
    for title, targets in SECTIONS.items():
        rows = []
        for target in targets:
            if target.case not in cases:  # in results from before it was asked for
                total += 1
                rows.append(f"| {target.case} | not measured in this run | missed |")
                continue
            judged = verdict(target, cases[target.case])
            total, reached = total + 1, reached + (judged.word == "met")
            by_shipped += verdict(target, cases[target.case], shipped=True).word == "met"
            rows.append(f"| {target.case} | {'; '.join(judged.parts)} | {judged.word} |")
        lines += ["", f"## {title}", "", *COLUMNS, *rows]
    lines += _side_by_side(cases)  # below the steps, which come last
    if avx2 is not None:
        lines += ["", "## Products on AVX2", "", measured(*avx2), "", *COLUMNS]
        for what, words, fine in on_avx2(avx2[0]):
            total, reached = total + 1, reached + fine
            lines.append(f"| {what} | {words} | {'met' if fine else 'missed'} |")
    bounds = []
    for name, value, asked in whole_jobs(found, cases):
        total, reached = total + 1, reached + (value >= asked)
        bounds.append(f"| {name} | {value:.3g} times ({asked:g}) | {'met' if value >= asked else 'missed'} |")
    lines += ["", "## Whole jobs", "", *COLUMNS, *bounds]
    bounds = []
    for condition in found["conditions"]:
        bound = condition["most"] if condition["most"] is not None else condition.get("least")
        if bound is None:
            continue
        below = condition.get("below")  # cases of which the whole range is
        fine = condition["value"] <= bound if below is None else not below
        total, reached = total + 1, reached + fine
        asked = f"{'at least' if condition['most'] is None else 'at most'} {bound:g} {condition['unit']}"
        value = f"{condition['value']:.3g} {condition['unit']}"
        value += "" if below is None else f", {condition['low']:.2f} to {condition['high']:.2f}"
        bounds.append(f"| {condition['name']} | {value} ({asked}) | {'met' if fine else 'missed'} |")
    lines += ["", "## Conditions", "", *COLUMNS, *bounds]
    lines += ["", f"{reached} of {total} are met.", *_by_shipped(cases, by_shipped), *_in_time(cases)]
    return "\n".join(lines) + "\n"
