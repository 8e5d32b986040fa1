"""Bad input to the flags of ops, each True or False, and to what comes with them, beyond bad_input.py."""

import inspect

import numpy as np
from bad_input import array, t, v
from fastnn import ops
from native import NATIVE

FLAGS = [
    (function, name)
    for function in NATIVE
    for name, parameter in inspect.signature(getattr(ops, function)).parameters.items()
    if isinstance(parameter.default, bool)
]

ROWS = [
    *(
        t(function, f"{flag}={value!r}", rf"'{flag}' must be True or False, got {kind}", **{flag: value})
        for function, flag in FLAGS
        for value, kind in (("no", "str"), (None, "None"), ([True], "list"))
    ),
    v("linear_backward", "dx that is not wanted", r"'out\[0\]'.*need_dx=False", need_dx=False),
    v("linear_backward", "db that is not wanted", r"'out\[2\]'.*need_db=False", need_db=False),
    *(
        v(
            function,
            f"{case} to add to",
            rf"'out\[{place}\]' is None.*accumulate=True",
            accumulate=True,
            out=out,
        )
        for function, dw in (("linear_backward", array(4, 5)), ("batch_norm_backward", array(4)))
        for case, place, out in (
            ("nothing", 1, None),
            ("no second array", 1, (None, None, dw)),
            ("no third array", 2, (None, dw, None)),
        )
    ),
    *(
        t(function, "activation is a function", r"'activation' must be None or 'relu'", activation=np.tanh)
        for function in ("batch_norm", "batch_norm_backward")
    ),
]
