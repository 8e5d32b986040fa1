"""Hand-made DLPack producers: capsules of both kinds built through ctypes, whose deleters are counted."""

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p

CPU, CUDA, CUDA_HOST, METAL, ROCM, ROCM_HOST = 1, 2, 3, 8, 10, 11
READ_ONLY, IS_COPY = 1, 2
INT, UINT, FLOAT, BFLOAT, COMPLEX, BOOL = 0, 1, 2, 4, 5, 6
_CODES = {"i": INT, "u": UINT, "f": FLOAT, "c": COMPLEX, "b": BOOL, "V": BFLOAT}  # V: of ml_dtypes


class Tensor(ctypes.Structure):
    _fields_ = (
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    )


class Managed(ctypes.Structure):
    _fields_ = (("tensor", Tensor), ("context", c_void_p), ("deleter", c_void_p))


class ManagedVersioned(ctypes.Structure):
    _fields_ = (
        ("major", c_uint32),
        ("minor", c_uint32),
        ("context", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("tensor", Tensor),
    )


class ExchangeApi(ctypes.Structure):
    _fields_ = (
        ("major", c_uint32),
        ("minor", c_uint32),
        ("previous", c_void_p),
        ("allocate", c_void_p),
        ("export_tensor", c_void_p),
        ("import_tensor", c_void_p),
        ("borrow_tensor", c_void_p),
        ("current_stream", c_void_p),
    )


_DELETER = ctypes.PYFUNCTYPE(None, c_void_p)
_EXPORT = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, POINTER(c_void_p))
_NAMES = {False: b"dltensor", True: b"dltensor_versioned"}
_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, (c_void_p, c_char_p, c_void_p)


class Producer:
    """Speaks DLPack for the memory of `array`; every field of what it exports can be changed.

    `deleted` counts calls of the deleter, `exported` the capsules. A capsule nobody takes is not deleted: the
    producers here have no capsule destructor, so each call of the deleter is the consumer's.
    """

    def __init__(
        self, array, *, versioned=True, device=(CPU, 0), flags=0, version=(1, 0), no_deleter=False, **fields
    ):
        self.array = array
        self.versioned, self.device, self.flags, self.version = versioned, device, flags, version
        self.no_deleter = no_deleter
        self.fields = fields
        self.exported = self.deleted = 0
        self.alive = {}  # address of an export -> what must live until its deleter is called
        self.delete = _DELETER(self._delete)
        self.arguments = []

    def _delete(self, address):
        del self.alive[address]  # a KeyError would be printed, and the count would be missing
        self.deleted += 1

    def export(self, versioned):
        """The address of a new export, to be deleted by its taker."""
        a = self.array
        shape = (c_int64 * max(a.ndim, 1))(*a.shape)
        strides = (c_int64 * max(a.ndim, 1))(*(s // a.itemsize for s in a.strides))
        tensor = Tensor(
            data=a.ctypes.data,
            device_type=self.device[0],
            ndim=a.ndim,
            code=_CODES[a.dtype.kind],
            bits=8 * a.itemsize,
            lanes=1,
            shape=shape,
            strides=strides,
        )
        for name, value in self.fields.items():
            if name in ("shape", "strides") and value is not None:
                value = (c_int64 * max(len(value), 1))(*value)
            setattr(tensor, name, value)
        deleter = None if self.no_deleter else ctypes.cast(self.delete, c_void_p)
        if versioned:
            managed = ManagedVersioned(*self.version, deleter=deleter, flags=self.flags, tensor=tensor)
        else:
            managed = Managed(tensor=tensor, deleter=deleter)
        self.exported += 1
        self.alive[ctypes.addressof(managed)] = managed, tensor, a
        return ctypes.addressof(managed)

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **arguments):
        self.arguments.append(arguments)
        return _new(self.export(self.versioned), _NAMES[self.versioned], None)


class Wrapper:
    """What is left of a NumPy array when only its DLPack methods may be used."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **arguments):
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OldWrapper(Wrapper):
    """The same with the signature of before DLPack 1, which knows no `max_version`."""

    def __dlpack__(self, *, stream=None):
        return self.array.__dlpack__(stream=stream)


def exchange_type(version=(1, 3), fails=False):
    """A subclass of Producer with the C functions of DLPack 1.3; `calls` counts them."""

    class Fast(Producer):
        calls = 0

    def export(producer, out):
        Fast.calls += 1
        if fails:
            return -1
        out[0] = producer.export(True)
        return 0

    keep = _EXPORT(export)
    api = ExchangeApi(*version, export_tensor=ctypes.cast(keep, c_void_p))
    Fast.keep = keep, api
    Fast.__dlpack_c_exchange_api__ = _new(ctypes.addressof(api), b"dlpack_exchange_api", None)
    return Fast


def assert_released(made):
    """The deleter of every export was called, once."""
    for producer in made:
        if isinstance(producer, Producer):
            assert producer.deleted == producer.exported
            assert not producer.alive
