"""Every test of what a device computes runs there too: no file of tests is forgotten."""

import re
from pathlib import Path

import numpy as np
import pytest
from device_places import here

TESTS = Path(__file__).parent
USES = re.compile(r"""usefixtures\([^)]*"place"|def test_\w+\([^)]*\bplace\b""")

# Files of which no test uses the fixture `place`, by the reason. Those of the name test_cuda_*, and
# test_bad_input_device.py, are about a device alone.
HOST = {
    "ops: test_cuda_ops.py calls every function over all shapes and holds its bits to the host's": """
        activation batch_norm batch_norm_steps dropout elementwise_losses gemm linear_backward
        softmax_cross_entropy updates""",
    "tensor cores add in an order of their own: test_cuda_tensor.py, test_cuda_precision.py": """
        bfloat16_products bfloat16_training gemm_bf16""",
    "kernels of the CPU: instruction sets, threads, memory, the last bits": """
        counts determinism dispatch floating_point_environment global_norm guard_pages hot_loops large
        out_of_memory
        pace packed_weights program program_large properties roots scaling team threadpoolctl to_and_fro
        trainer_memory ulp""",
    "words for what is wrong, before anything is computed; a device's own: test_bad_input_device.py": """
        bad_input bad_input_batch_norm bad_input_bf16 bad_input_cli bad_input_diagnostics bad_input_dlpack
        bad_input_layers bad_input_losses bad_input_python bad_input_schedulers bad_input_training""",
    "arrays of other libraries on the host; on a device: test_cuda_ops.py, test_cuda_rows.py": """
        dlpack dlpack_torch""",
    "reads files or prepares rows; fits have the rows on the device by then": """
        data loading preprocessing""",
    "no arrays": "reduce_on_plateau schedulers schedulers_peers",
    "draws numbers on the host": "init init_matrices",
    "looks into a model; on a device: test_cuda_diagnostics.py": """
        diagnostics diagnostics_data diagnostics_init diagnostics_runs diagnostics_signals
        diagnostics_steps step_reports step_reports_share""",
    "files of models, which hold what the host has: test_cuda_program.py compares their bytes": """
        pytorch_state saving saving_atomic saving_malformed""",
    "processes, threads and signals; on a device: test_cuda_threads.py": """
        fit_many long_steps runtime signals trainer_safety""",
    "other libraries, to which the CPU's bits are held": "parity_torch parity_torch_optim",
    "trains on the CPU alone": "cli cli_resume examples experiments experiments_command",
    "what is measured, written or built": """
        adding_page api_pages bench bench_conditions bench_gpu bench_gpu_check bench_limits bench_output
        bench_pages
        bench_precision bench_training bench_workers build coming_from_page command_line_page comparators
        coverage_page diagnostics_page docs experiments_page models_page mutants rooms saving_page tiers
        training_page turns""",
}


def named():
    return [name for names in HOST.values() for name in names.split()]


def test_each_file_runs_on_a_device_or_says_why_not():
    files = {path.stem.removeprefix("test_"): path.read_text() for path in TESTS.glob("test_*.py")}
    own = {name for name in files if name.startswith("cuda") or name == "bad_input_device"}
    there = {name for name, text in files.items() if USES.search(text)} - own
    assert len(named()) == len(set(named()))
    assert sorted(set(files) - own - there) == sorted(named())


def test_a_test_marked_host_says_why():
    for path in TESTS.glob("test_*.py"):
        for reason in re.findall(r"pytest\.mark\.host\b(.*)", path.read_text()):
            assert re.match(r'\(".+"\)', reason), (path.name, reason)


@pytest.mark.usefixtures("place")
def test_arrays_go_there_and_come_back(rng):
    x = rng.standard_normal((3, 4), np.float32)
    given = {"a": x, "b": [x, (x[:1], 3)]}
    found = here().back(here().all(given))
    np.testing.assert_array_equal(found["a"], x)
    np.testing.assert_array_equal(found["b"][1][0], x[:1])
    assert found["b"][1][1] == 3
    assert here().device == "cpu" or not isinstance(here().put(x), np.ndarray)
