"""The peers: fastnn, NumPy as shipped and with OpenBLAS told to use AVX-512, and what `--vs` names."""

from __future__ import annotations

from peers.peer import Peer

FASTNN = Peer("fastnn", "fastnn", "fastnn_peer")
NUMPY = Peer("numpy", "NumPy", "numpy_peer")
# OpenBLAS picks its AVX2 kernels on some CPUs that have AVX-512; a ratio to NumPy as shipped is honest only
# beside the other.
NUMPY_SKYLAKEX = Peer(
    "numpy-skylakex",
    "NumPy (SkylakeX)",
    "numpy_peer",
    environment={"OPENBLAS_CORETYPE": "SkylakeX"},
    needs_cpu_flag="avx512f",
)

ALWAYS = [FASTNN, NUMPY, NUMPY_SKYLAKEX]
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
TITLES = {peer.name: peer.title for peer in (*ALWAYS, *OPTIONAL.values())}
