"""The kernels of csrc/cuda as a library for this CPU, and their argument structs (csrc/core/types.h)."""

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import fastnn
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
FORWARD, BACKWARD, MIXED = range(3)
EARLY, LATE, DRAWN = range(3)  # orders of a graph's launches, as far as it leaves them open
# Of the instrumented builds of the heavy tier.
FLAGS = os.environ.get("FASTNN_SHIM_FLAGS", "-O1").split()
CUBLASLT = HERE / "cublaslt.cpp"  # a stand-in
KERNELS = [f for f in sorted((ROOT / "csrc" / "cuda").glob("*.cu")) if f.stem != "device"]

TYPES = {
    "p": ctypes.c_void_p,
    "i": ctypes.c_int64,
    "u": ctypes.c_uint64,
    "s": ctypes.c_int32,
    "e": ctypes.c_int,
    "b": ctypes.c_bool,
    "f": ctypes.c_float,
    "d": ctypes.c_double,
}


def struct(name, fields):
    """A ctypes struct; "a b:p c:i" are two pointers and an Index."""
    layout = [
        (field, TYPES[kind])
        for group in fields.split()
        for names, kind in [group.split(":")]
        for field in names.split(",")
    ]
    return type(name, (ctypes.Structure,), {"_fields_": layout})


ACTIVATION = struct("Activation", "x,y:p n:i kind:e alpha:f")
ACTIVATION_BACKWARD = struct("ActivationBackward", "dy,x,y,dx:p n:i kind:e alpha:f")
DROPOUT = struct("Dropout", "x,y:p n,first:i seed:u step:p threshold:s drops_all:b scale:f")
COLUMN_SUM = struct("ColumnSum", "x:p x_row,rows,cols:i out,partials:p accumulate:b")
BATCH_NORM = struct(
    "BatchNorm",
    "x:p x_row:i y:p y_row,rows,cols:i gamma,beta,mean,rstd,running_mean,running_var,partials:p "
    "momentum:d eps:f training,biased:b activation:e frozen,updates:p formed:b",
)
BATCH_NORM_BACKWARD = struct(
    "BatchNormBackward",
    "dy:p dy_row:i x:p x_row:i y:p y_row:i dx:p dx_row,rows,cols:i gamma,mean,rstd,dgamma,dbeta,sums,"
    "partials:p accumulate:b activation:e formed:b",
)
SOFTMAX = struct(
    "Softmax",
    "logits:p logits_row:i labels,probabilities:p probabilities_row:i weight,dlogits,row_loss:p rows,cols:i "
    "scale,keep,share:f",
)
POINT_LOSS = struct("PointLoss", "pred,target,weight,dpred,sums:p rows,cols:i kind:e scale,delta:f")
GEMM = struct(
    "Gemm",
    "a:p a_row,a_col:i b:p b_row,b_col:i c:p c_row:i bias:p m,n,k,k_begin,k_end:i alpha,beta:f activation:e",
)
GEMM_BF16 = type(
    "GemmBf16",
    (ctypes.Structure,),
    {"_fields_": [("g", GEMM), *((name, ctypes.c_void_p) for name in ("a", "b", "c"))]},
)
GEMM_TF32 = type("GemmTf32", (ctypes.Structure,), {"_fields_": [("g", GEMM)]})
SLOPE = struct("Slope", "of:p of_x:b kind:e alpha:f")
STATISTICS = type(
    "Statistics",
    (ctypes.Structure,),
    {"_fields_": [("norm", BATCH_NORM), ("backward", BATCH_NORM_BACKWARD), ("arrived", ctypes.c_void_p)]},
)
WITH_GEMM, WITH_GEMM_BF16, WITH_GEMM_TF32 = (
    type(
        f"With{product.__name__}",
        (ctypes.Structure,),
        {
            "_fields_": [
                ("product", product),
                ("slope", SLOPE),
                ("sums", COLUMN_SUM),
                ("statistics", STATISTICS),
            ]
        },
    )
    for product in (GEMM, GEMM_BF16, GEMM_TF32)
)
ROUND = struct("Round", "x:p x_row,rows,cols:i y:p")
UPDATE = struct(
    "Update",
    "tensors:p count,chunks:i options:p clip:e clip_limit,clip_floor:f refuse_non_finite:b sums,scales:p "
    "unit_chunks:i verdict:p",
)
UPDATE_NORM = type("UpdateNorm", (ctypes.Structure,), {"_fields_": [("update", UPDATE)]})
TENSOR = struct(
    "Tensor",
    "param,grad,slot0,slot1,slot2,initial:p n,cols,first_chunk,first_unit,units,first_unit_chunk:i place:u "
    "group:e",
)
OPTIONS = struct(
    "Options",
    "rule,style:e nesterov,centered,buffered,amsgrad,decay_parameter:b lr,decay0,decay1,one_minus0,"
    "one_minus1,eps,eps_inside,square_scale,root_scale,keep,decay,l1,noise:f noise_seed,noise_step:u",
)
GATHER = struct("Gather", "source:p first,rows,cols:i y,halted:p")
ADD = struct("Add", "a,b,y:p n:i")
SCALE_COLUMNS = struct("ScaleColumns", "x:p x_row:i element:e y:p y_row,rows,cols:i shift,scale,offset:p")
WIDEN = struct("Widen", "x,y:p n:i")
STEP_BEGIN = struct(
    "StepBegin",
    "run,verdict,current:p record_bytes:i targets:p rows:i labels:p classes:i ignores:b ignored:i "
    "weight,scaled:p factor,divisor:d may_be_empty:b counts:p count_total:i",
)
STEP_END = struct(
    "StepEnd",
    "run,verdict,terms:p term_count:i term_weight:p mean_of_terms:b scale:d score:e scores,pred,target,"
    "labels,weight:p rows,cols:i",
)
SOURCE = struct("Source", "data:p row:i number:e order,next:p next_rows:i")
TARGETS = struct("Targets", "labels:p label_kind:e label_stride:i weight,order,next:p next_rows:i")
RUN = struct(
    "Run",
    "records:p next,done,refused:i outcome:e halted,frozen,keep_refused:b value,total,weight_sum,loss_sum:d "
    "values:p",
)
TENSOR_CORES = {GEMM_BF16, GEMM_TF32, WITH_GEMM_BF16, WITH_GEMM_TF32}
# In the order of the table of core/cuda_kernels.h.
TABLE = [
    *(ACTIVATION, ACTIVATION_BACKWARD, DROPOUT, COLUMN_SUM, BATCH_NORM, BATCH_NORM_BACKWARD, SOFTMAX),
    *(
        POINT_LOSS,
        GEMM,
        GEMM_BF16,
        GEMM_TF32,
        WITH_GEMM,
        WITH_GEMM_BF16,
        WITH_GEMM_TF32,
        ROUND,
        UPDATE_NORM,
        UPDATE,
        GATHER,
        ADD,
        SCALE_COLUMNS,
        WIDEN,
        STEP_BEGIN,
        STEP_END,
    ),
]
STRUCTS = [*TABLE, TENSOR, OPTIONS, SOURCE, TARGETS, RUN]  # then what they point to


WAIT = re.compile(r"(?:__syncthreads|__syncwarp|wait_copies<[^>]*>)\(\);")


def text_of(name):
    """A file of csrc/cuda, with the headers that wait written out in it."""
    text = (ROOT / "csrc" / "cuda" / name).read_text()
    for header in re.findall(r'#include "(cuda/\w+\.h)"', text):
        written = (ROOT / "csrc" / header).read_text()
        if WAIT.search(written):
            text = text.replace(f'#include "{header}"', written.replace("#pragma once", ""))
    return text


def compiler():
    return shutil.which(os.environ.get("CXX", "g++"))


def build(folder, sources, *, name="shim", ready=()):
    """The library of these files, of the objects that are `ready`, and of the shim; once in a folder."""
    library = folder / f"lib{name}.so"
    if library.exists():
        return ctypes.CDLL(str(library))
    folder.mkdir(parents=True, exist_ok=True)
    common = [
        compiler(),
        *FLAGS,
        "-std=c++20",
        "-fPIC",
        "-ffp-contract=off",
        "-fno-math-errno",
        "-Wall",
        "-Wextra",
    ]
    common += ["-Werror", "-Wno-unknown-pragmas", f"-I{HERE}", f"-I{ROOT / 'csrc'}"]
    common += [f'-DFASTNN_BUILD_ID="{fastnn.info()["build_id"]}"']
    cublaslt = library if CUBLASLT in sources else folder / "no-such-library"
    common += [f'-DFASTNN_CUBLASLT_NAMES="{cublaslt}"']
    # A sanitizer that is loaded into this process is not for the compiler, which would take thrice as long.
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    waiting, objects, failed = [*sources], [*map(str, ready)], []
    running = []
    while waiting or running:
        while waiting and len(running) < 2:
            source = waiting.pop()
            objects.append(str(folder / f"{source.stem}.o"))
            command = [*common, "-x", "c++", "-c", str(source), "-o", objects[-1]]
            if source.stem == "shim":  # which tells ThreadSanitizer of its contexts
                command = ["-DFASTNN_FIBERS" if part == "-fsanitize=thread" else part for part in command]
            running.append(
                subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
                )
            )
        output, _ = running[0].communicate()
        if running.pop(0).returncode:
            failed.append(output)
    assert not failed, "\n".join(failed)
    subprocess.run([*common, "-shared", "-pthread", *objects, "-o", str(library)], check=True, env=env)
    return ctypes.CDLL(str(library))


def with_cublaslt(kernels):
    """The same kernels where there is cuBLASLt, in a library of their own."""
    own = [ROOT / "csrc" / "cuda" / "product_library.cu", CUBLASLT]
    stems = [source.stem for source in own]
    ready = [made for made in sorted(kernels.folder.glob("*.o")) if made.stem not in stems]
    return Kernels(kernels.folder / "with_cublaslt", own, ready)


def address(x):
    """Of an array's first element; None stays null."""
    return None if x is None else x.ctypes.data


def update_chunks(n):
    """Chunks of an update of n elements (core/kernels.h), as far as n is no more than 2^33."""
    eighth = -(-(n // 8) // 4096) * 4096
    return -(-n // min(max(eighth, 4096), 16384))


def filled(made, fields):
    """The struct; arrays become their addresses."""
    return made(**{k: address(v) if isinstance(v, np.ndarray) else v for k, v in fields.items()})


SIZES = ("rows", "cols", "m", "n", "k")


def shape_of(args):
    """The sizes that a struct names, in the structs within it and in the table of an update as well."""
    shape = []
    for field, kind in args._fields_:
        if field in SIZES:
            shape.append(getattr(args, field))
        elif issubclass(kind, ctypes.Structure):
            shape += shape_of(getattr(args, field))
    if isinstance(args, UPDATE):
        for tensor in (TENSOR * args.count).from_address(args.tensors):
            shape += shape_of(tensor)
    return tuple(shape)


class Kernels:
    """The library; `run(ARGS, schedule, field=value...)` runs the operation whose struct that is.

    `shapes` are those that each has run over.
    """

    def __init__(self, folder, sources=None, ready=()):
        everything = [*KERNELS, HERE / "library.cpp", HERE / "shim.cpp"]
        self.folder = folder
        self.library = build(folder, sources or everything, ready=ready)
        self.library.shim_size.restype = ctypes.c_size_t
        self.shapes = {made: set() for made in TABLE}
        for number, made in enumerate(STRUCTS):
            assert self.library.shim_size(number) == ctypes.sizeof(made), made.__name__

    def to_device(self):
        """Bytes copied to the device so far."""
        self.library.shim_to_device.restype = ctypes.c_uint64
        return self.library.shim_to_device()

    def message(self, status):
        """What a status says."""
        self.library.shim_message.restype = ctypes.c_char_p
        return self.library.shim_message(status).decode()

    def product_library(self):
        """Who forms large products on tensor cores."""
        self.library.shim_product_library.restype = ctypes.c_char_p
        return self.library.shim_product_library().decode()

    def why_not_on(self, built, ptx, device, name):
        """What a build for these architectures ("80-90") says of a device."""
        self.library.shim_why_not_on.restype = ctypes.c_char_p
        return self.library.shim_why_not_on(built.encode(), ptx, device, name.encode()).decode()

    def capture(self, made, **fields):
        """The same within a graph of the caller's own, which is replayed once."""
        args = filled(made, fields)
        return self.library.shim_capture(STRUCTS.index(made), ctypes.byref(args))

    def run(self, made, schedule=FORWARD, **fields):
        args = filled(made, fields)
        self.shapes[made].add(shape_of(args))
        failure = ctypes.create_string_buffer(400)
        status = self.library.shim_run(
            STRUCTS.index(made),
            ctypes.byref(args),
            schedule,
            failure,
            ctypes.c_size_t(len(failure)),
        )
        assert failure.value == b"", failure.value.decode()
        return status
