"""What the tests of interpreted kernels share."""

import os

import numpy as np
import torch
from hypothesis import settings
from triton.runtime import interpreter

assert os.environ["TRITON_INTERPRET"] == "1"  # before triton is imported

settings.register_profile(
    "kernels", max_examples=int(os.environ["FRUGAL_EXAMPLES"]), deadline=None, derandomize=True
)
settings.load_profile("kernels")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def tolerance(dtype):
    """Of a result that is rounded to `dtype` once or twice."""
    eps = torch.finfo(dtype).eps
    return {"atol": max(2e-4, 8 * eps), "rtol": max(1e-4, 2 * eps)}


def _dot(self, a, b, sum_, input_precision, max_num_imprecise_acc):
    """Triton's interpreter holds bfloat16 as 16-bit integers, and multiplies them as such."""
    if a.dtype.scalar == interpreter.tl.bfloat16:
        float32 = interpreter.tl.float32
        a, b = (
            interpreter.TensorHandle(
                interpreter._convert_float(x.data, x.dtype.scalar, float32, None).view(np.float32),
                float32,
            )
            for x in (a, b)
        )
    return _own_dot(self, a, b, sum_, input_precision, max_num_imprecise_acc)


_own_dot = interpreter.InterpreterBuilder.create_dot
interpreter.InterpreterBuilder.create_dot = _dot
