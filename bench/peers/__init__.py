"""The peers: fastnn, NumPy as shipped and with OpenBLAS told to use AVX-512, PyTorch."""

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
TORCH = Peer("torch", "PyTorch", "torch_peer")

ALWAYS = [FASTNN, NUMPY, NUMPY_SKYLAKEX]
OPTIONAL = {peer.name: peer for peer in (TORCH,)}
TITLES = {peer.name: peer.title for peer in (*ALWAYS, *OPTIONAL.values())}
