"""What nvcc makes of the streaming kernels of csrc/cuda: four float32 by one instruction."""

import re
import shutil
import subprocess

import pytest
from cuda_compile import FLAGS, ROOT

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc"),
]

# In PTX, which needs no tool but nvcc; ptxas keeps such an access whole.
READS, WRITES = r"\bld(\.global)?\.v4\.[fbu]32", r"\bst(\.global)?\.v4\.[fbu]32"
# The file, what of a kernel's mangled name says that it has four elements a thread, and how many there are.
KERNELS = [
    ("activation", "", 29),
    ("add", "", 1),
    ("batchnorm", "applyILi4E", 1),
    ("batchnorm_backward", "applyILi4E", 1),
    ("dropout", "", 1),
    ("gather", "gatherILi4E", 1),
    ("point_loss", "ELi4E", 3),
    ("scale", "scaleI.Li4E", 3),
    ("softmax", "softmaxILb.ELi4E", 2),
    ("update", "updateE", 1),
]


@pytest.mark.parametrize(("file", "name", "count"), KERNELS)
def test_four_elements_are_read_and_written_at_once(file, name, count):
    command = ["nvcc", *FLAGS, "-arch=compute_90", "-ptx", str(ROOT / "csrc/cuda" / f"{file}.cu"), "-o", "-"]
    text = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    kernels = re.findall(r"\.entry (\w+)(.*?)(?=\.entry|\Z)", text, re.S)
    found = [(kernel, body) for kernel, body in kernels if re.search(name, kernel)]
    assert len(found) == count
    for kernel, body in found:
        assert re.search(READS, body), kernel
        assert re.search(WRITES, body), kernel
