"""The peers: fastnn, NumPy as shipped and on OpenBLAS's other kernels, and what `--vs` names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from peers.peer import Peer

FASTNN = Peer("fastnn", "fastnn", "fastnn_peer")
NUMPY = Peer("numpy", "NumPy", "numpy_peer")
# On some CPUs that have AVX-512 OpenBLAS picks its kernels for AVX2, on others not; a ratio to NumPy as
# shipped says little without the other one.
NUMPY_HASWELL, NUMPY_SKYLAKEX = (
    Peer(
        f"numpy-{core.lower()}",
        f"NumPy ({core})",
        "numpy_peer",
        environment={"OPENBLAS_CORETYPE": core},
        needs_cpu_flag="avx512f",
    )
    for core in ("Haswell", "SkylakeX")
)

OPTIONAL = {
    peer.name: peer
    for peer in (
        Peer("fastnn-step", "fastnn step", "fastnn_step_peer"),
        Peer("torch", "PyTorch", "torch_peer"),
        Peer("torch-compile", "torch.compile", "torch_compile_peer"),
        Peer("jax", "JAX", "jax_peer"),
        Peer("jax-scan", "JAX scan", "jax_scan_peer"),
        Peer("sklearn", "scikit-learn", "sklearn_peer"),
        Peer("deepspeed", "DeepSpeed", "deepspeed_peer", environment={"DS_ACCELERATOR": "cpu"}),
    )
}
TITLES = {
    peer.name: peer.title for peer in (FASTNN, NUMPY, NUMPY_HASWELL, NUMPY_SKYLAKEX, *OPTIONAL.values())
}


def always() -> list[Peer]:
    """fastnn, NumPy as shipped, and NumPy on the kernels that it does not pick by itself on this CPU."""
    ask = "from peers import numpy_peer; print(numpy_peer.openblas_core())"
    shipped = subprocess.run(
        [sys.executable, "-c", ask],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
        env=NUMPY.process_environment(1, None),
    )
    return [FASTNN, NUMPY, NUMPY_HASWELL if "SkylakeX" in shipped.stdout else NUMPY_SKYLAKEX]
