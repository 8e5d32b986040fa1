"""The rules of docs/architecture.md on who may include and import what, as functions that list the breaches.

Each takes the root of a source tree and yields one line for each breach; test_rooms.py runs them on this tree
and on small trees with one planted breach.
"""

import ast
import re
import subprocess
import sys

PYTHON_HEADERS = r"Python\.h|structmember\.h|(pybind11|nanobind|numpy)/.*"
CUDA_HEADERS = r"(cuda|cublas|cudnn|curand|cooperative_groups).*"
INTRINSIC_HEADERS = r"\w*intrin\.h|arm_(neon|sve|bf16)\.h"
# A kernel file is compiled once per ISA: what it includes must leave no function behind that the linker could
# take for another ISA's. So C headers, and the four C++ headers that hold nothing but compile-time names.
C_HEADERS = "assert|errno|fenv|float|inttypes|limits|math|stddef|stdint|stdlib|string"
KERNEL_HEADERS = rf"c({C_HEADERS})|({C_HEADERS})\.h|utility|type_traits|limits|bit"
KERNEL_WORDS = (
    r"\b(?:throw|try|catch|thread_local)\b|\bpthread_\w+|#\s*pragma\s+omp\b"
    r"|\bstd::(?:vector|array|map|set|unordered_\w+|deque|list|string|string_view|function|\w+_ptr|\w*thread|\w*mutex"
    r"|atomic\w*|cout|cerr)\b"
)
INTRINSICS = r"\b_mm\d*_\w+|\b__m(?:128|256|512)\w*"

# Room: rooms it may include, system headers it may include, system headers it must not include.
CPP_ROOMS = {
    "core": ({"core"}, r".*", f"{PYTHON_HEADERS}|{CUDA_HEADERS}|{INTRINSIC_HEADERS}"),
    "cpu": ({"core", "cpu"}, f"{KERNEL_HEADERS}|{INTRINSIC_HEADERS}", r"(?!)"),
    "cuda": ({"core", "cuda"}, r".*", f"{PYTHON_HEADERS}|{INTRINSIC_HEADERS}"),
    "program": ({"core", "program"}, r".*", f"{PYTHON_HEADERS}|{CUDA_HEADERS}|{INTRINSIC_HEADERS}"),
    "bind": ({"core", "program", "bind"}, r".*", f"{CUDA_HEADERS}|{INTRINSIC_HEADERS}"),
}

# Module of python/fastnn: fastnn modules it may import. "*" stands for every module but _core.
PYTHON_ROOMS = {
    "_arrays": set(),
    "_batch_norm_steps": {"_arrays"},
    "ops": {"_core", "_batch_norm_steps"},
    "_runtime": {"_core"},
    "cuda": {"_core", "_cuda"},
    "_threadpoolctl": {"_core"},
    "_columns": {"_arrays", "_core"},
    "_precision": {"_core"},
    "init": {"_arrays", "ops"},
    "preprocessing": {"_arrays", "_columns", "ops"},
    "schedulers": {"_arrays", "ops"},
    "_shuffle": {"_core"},
    "data": {"_arrays", "_shuffle", "ops"},
    "datasets": set(),
    "_device": {"_arrays", "_libraries", "cuda"},
    "_libraries": {"cuda"},
    "_parameter": {"_arrays", "_device"},
    "_describe": set(),
    "nn": {
        *("_arrays", "_columns", "_device", "_describe", "_parameter", "_precision"),
        *("ops", "init", "preprocessing"),
    },
    "_scores": {"_arrays", "_device"},
    "losses": {"_arrays", "_device", "_scores", "ops", "init"},
    # Not schedulers: an optimizer takes any function of the number of updates as its rate.
    "_clip": {"_arrays"},
    "_options": {"_arrays", "_clip", "_device", "_parameter"},
    "_optimizer_state": {"_arrays", "_options", "_parameter"},
    "_non_finite": {"_device", "_parameter"},
    "_update": {"_device", "_options", "_parameter", "ops"},
    "_optimizer": {
        *("_arrays", "_clip", "_device", "_non_finite", "_options", "_optimizer_state", "_parameter"),
        "_update",
    },
    "optim": {"_arrays", "_clip", "_non_finite", "_options", "_optimizer", "_parameter", "ops", "init"},
    "history": {"_arrays"},
    "_plain": {"_arrays"},
    "_file": {"_arrays"},
    "callbacks": {"_arrays", "_device", "_file", "nn"},
    "checkpoint": {"_arrays", "_describe", "_device", "_file", "_plain", "_runtime", "init", "nn"},
    # The trainer: how a step is done, three helpers, which hold no loop, and the loop.
    "_lowering": {"_arrays", "_core", "nn"},
    "_queue": {"_arrays", "_core", "_device"},
    "_program": {
        *("_arrays", "_core", "_device", "_lowering", "_precision", "_queue", "_update"),
        *("cuda", "nn", "optim"),
    },
    "_forward": {"_arrays", "_core", "_device", "_lowering", "nn"},
    "_by_layers": {
        *("_arrays", "_device", "_epoch", "_fitting", "_precision", "callbacks", "data", "nn", "optim"),
    },
    "_evaluation": {"_arrays", "_device", "_program", "_scores", "nn", "optim"},
    "_steps": {
        *(
            "_arrays",
            "_by_layers",
            "_device",
            "_epoch",
            "_evaluation",
            "_fitting",
            "_forward",
            "_program",
            "_queue",
            "_scores",
        ),
        *("callbacks", "losses", "nn", "optim"),
    },
    "_explain": {"_arrays", "_core", "_device", "_program", "_steps", "nn"},
    "_epoch": {"_arrays", "_scores"},
    "_fitting": {"_arrays", "_device", "callbacks"},
    "_interrupts": {"_core"},
    "_trainer_state": {
        *("_arrays", "_epoch", "_file", "_optimizer_state", "_plain", "_runtime"),
        *("checkpoint", "history", "losses", "schedulers"),
    },
    "trainer": {
        *("_arrays", "_device", "_explain", "_precision", "_scores", "_steps", "_epoch", "_fitting"),
        *("_interrupts", "_trainer_state"),
        *("nn", "optim", "losses", "schedulers", "data", "callbacks", "history"),
    },
    "diagnostics": {
        *("_arrays", "_columns", "_device", "_fitting", "_precision", "_runtime"),
        *("_explain", "callbacks", "cuda", "data", "init", "nn", "ops", "optim", "trainer"),
    },
    "pretrain": {"_arrays", "_device", "_fitting", "history", "losses", "nn", "optim", "trainer"},
    "_many": {
        *("_arrays", "_core", "_device", "_fitting", "_interrupts", "_runtime"),
        *("callbacks", "history", "schedulers", "trainer"),
    },
    "experiments": {
        *("_runtime", "callbacks", "data", "init", "losses", "nn", "ops", "optim", "preprocessing"),
        *("schedulers", "trainer"),
    },
    "__init__": {"*"},
    "_cli": {"*"},
    "__main__": {"*", "fastnn"},
}
DEPENDENCIES = {"numpy", "safetensors"}
# Imported where they are used (typing_extensions: by type checkers), so that `import fastnn` never needs
# them.
OPTIONAL = {"PIL", "cuda", "cupy", "matplotlib", "tqdm", "typing_extensions"}

SOURCES = {".py", ".pyi", ".cpp", ".h", ".cu", ".cuh"}
LONGEST = {"csrc": 400, "python": 400, "bench": 400, "tests": 400, "examples": 40}
# Spelt with alternatives, so that no search for the flags themselves finds this file.
BUILD_FLAGS = r"-m(?:arch|cpu|tune)=native|-f(?:fast-math|associative-math|unsafe-math-optimizations)|-Ofast"


def cpp_files(root):
    files = (root / "csrc").rglob("*")
    return sorted(f for f in files if f.suffix in {".cpp", ".h", ".cu", ".cuh"})


def code_of(text):
    """C++ text without comments and without the insides of strings; line numbers stay."""
    pattern = r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"'
    return re.sub(
        pattern, lambda m: "\n" * m[0].count("\n") + ('""' if m[0][0] == '"' else ""), text, flags=re.S
    )


def includes(root, file):
    """(name, file inside csrc or None) of each #include."""
    for name in re.findall(r"^[ \t]*#[ \t]*include[ \t]*([^\n]*)", file.read_text(), re.M):
        name = name.split("//")[0].strip().strip('<>"')
        inside = (p.resolve() for p in (root / "csrc" / name, file.parent / name))
        yield name, next((p for p in inside if p.is_file()), None)


def room_of(root, file):
    return file.relative_to(root / "csrc").parts[0]


def check_includes(root):
    root = root.resolve()
    for file in cpp_files(root):
        where, room = file.relative_to(root), room_of(root, file)
        if room not in CPP_ROOMS:
            yield f"{where}: csrc has no room {room!r}"
            continue
        rooms, allowed, forbidden = CPP_ROOMS[room]
        for name, target in includes(root, file):
            if target is not None:
                if room_of(root, target) not in rooms:
                    yield f"{where}: {room} may not include {name}"
            elif not re.fullmatch(allowed, name) or re.fullmatch(forbidden, name):
                yield f"{where}: {room} may not include <{name}>"
            elif re.fullmatch(INTRINSIC_HEADERS, name) and not file.name.startswith("simd_"):
                yield f"{where}: only csrc/cpu/simd_*.h may include <{name}>"


def check_what_kernels_reach(root):
    """Headers of other rooms that kernel files include, directly or not, obey the rule of kernel files."""
    root = root.resolve()
    todo = [f for f in cpp_files(root) if room_of(root, f) == "cpu"]
    reached = set(todo)
    while todo:
        file = todo.pop()
        for name, target in includes(root, file):
            if target is None and not re.fullmatch(CPP_ROOMS["cpu"][1], name):
                yield f"{file.relative_to(root)}: reached from csrc/cpu, may not include <{name}>"
            if target is not None and target not in reached:
                reached.add(target)
                todo.append(target)


def check_words(root):
    for file in cpp_files(root):
        room, where, code = room_of(root, file), file.relative_to(root), code_of(file.read_text())
        if room == "cpu":
            yield from (f"{where}: kernels have no {word!r}" for word in re.findall(KERNEL_WORDS, code))
        if not (room == "cpu" and file.name.startswith("simd_")):
            yield from (
                f"{where}: intrinsic {word} outside simd_*.h" for word in re.findall(INTRINSICS, code)
            )


def check_indices(root):
    """Sizes, strides and offsets in structs of csrc/core are held to 64 bits by a static_assert."""
    for file in sorted((root / "csrc" / "core").glob("*.h")):
        code = code_of(file.read_text())
        held = {name for group in re.findall(r"are_indices\(([^)]*)\)", code) for name in group.split()}
        for struct, body in re.findall(r"^struct (\w+)[^;{]*\{(.*?)^\};", code, re.S | re.M):
            members = ", ".join(re.findall(r"^    Index ([^;()]*);", body, re.M))
            for member in re.findall(r"(\w+)(?: = \w+)?(?:,|$)", members):
                if not {f"&{struct}::{member}", f"&{struct}::{member},"} & held:
                    yield f"{file.relative_to(root)}: are_indices lacks {struct}::{member}"


def imports(file, package):
    """(module, name or None, inside a function or a TYPE_CHECKING block) of each import, absolute."""
    tree = ast.parse(file.read_text())
    lazy = set()
    for node in ast.walk(tree):
        guarded = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        if guarded or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lazy.update(ast.walk(node))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None, node in lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name, node in lazy) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            yield ast.literal_eval(node.args[0]), None, node in lazy


def check_imports(root):
    top = root / "python" / "fastnn"
    modules = {f.stem for f in top.iterdir()} | {"_core"}
    for file in sorted(top.rglob("*.py")):
        inner = file.relative_to(top)
        where, room = file.relative_to(root), inner.parts[0].removesuffix(".py")
        if room not in PYTHON_ROOMS:
            yield f"{where}: no rule for module {room!r}"
            continue
        package = ".".join(["fastnn", *inner.parts[:-1]])
        for module, name, lazy in imports(file, package):
            parts = module.split(".")
            if parts[0] == "fastnn":
                target = parts[1] if len(parts) > 1 else name if name in modules else "fastnn"
                allowed = PYTHON_ROOMS[room] | {room}
                if target not in allowed and not ("*" in allowed and target not in ("_core", "fastnn")):
                    yield f"{where}: {room} may not import fastnn.{target}"
            elif parts[0] in OPTIONAL:
                if not lazy:
                    yield f"{where}: {parts[0]} is optional, import it inside the function that needs it"
            elif parts[0] not in DEPENDENCIES and parts[0] not in sys.stdlib_module_names:
                yield f"{where}: fastnn does not depend on {parts[0]}"


def check_reference(root):
    for module, _, _ in imports(root / "tests" / "reference.py", ""):
        if module.split(".")[0] != "numpy" and module not in sys.stdlib_module_names:
            yield f"tests/reference.py: the reference uses numpy alone, not {module}"


def check_lengths(root):
    for folder, longest in LONGEST.items():
        for file in sorted((root / folder).rglob("*")):
            if file.suffix in SOURCES and (lines := len(file.read_text().splitlines())) > longest:
                yield f"{file.relative_to(root)}: {lines} lines, at most {longest}"


def check_build_flags(root):
    patterns = (
        "CMakeLists.txt",
        "CMakePresets.json",
        "*.cmake",
        "pyproject.toml",
        "cmake/**/*",
        "csrc/**/*.txt",
    )
    patterns += (".ci/**/*", ".github/**/*")
    for file in sorted({f for pattern in patterns for f in root.glob(pattern) if f.is_file()}):
        for flag in re.findall(BUILD_FLAGS, file.read_text(errors="replace")):
            yield f"{file.relative_to(root)}: {flag} would tie the build to one machine or change its bits"


def kernel_objects(build):
    return sorted(f for f in build.rglob("*.o") if "csrc/cpu" in f.as_posix())


def weak_symbols(objects):
    """Symbols of which the linker keeps one copy for all objects, perhaps the one with AVX-512 code."""
    text = subprocess.run(
        ["nm", "-A", "-C", *map(str, objects)], capture_output=True, text=True, check=True
    ).stdout
    return [line for line in text.splitlines() if re.search(r"\s[WVu] ", line)]


def baseline_objects(build):
    """The objects that run on every CPU: core, bind and the scalar kernels."""
    return sorted(
        f for f in build.rglob("*.o") if re.search(r"/(_core|fastnn_bind|fastnn_scalar)\.dir/", f.as_posix())
    )


def vex_instructions(objects):
    """Instructions that a CPU without AVX (or BMI) cannot run, one line for each name in each object."""
    # x86-64 spells AVX, AVX2, FMA and AVX-512 with a v; BMI1 and BMI2 share their encoding.
    pattern = r"^\s*[0-9a-f]+:\s+(v\w+|andn|bextr|bls\w+|bzhi|mulx|pdep|pext|rorx|s[ah][lr]x)\b"
    for file in objects:
        text = subprocess.run(
            ["objdump", "-d", "--no-show-raw-insn", str(file)], capture_output=True, text=True, check=True
        ).stdout
        yield from (f"{file.name}: {name}" for name in sorted(set(re.findall(pattern, text, re.M))))


CHECKS = [
    check_includes,
    check_what_kernels_reach,
    check_words,
    check_indices,
    check_imports,
    check_reference,
    check_lengths,
    check_build_flags,
]
