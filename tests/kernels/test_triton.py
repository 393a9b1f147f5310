"""Triton's kernels without a GPU: interpreted against their references, and compiled for GPUs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip(
    "triton", reason="Triton's kernels: triton is not installed (it is Linux's alone)"
)

from frugal.kernels import frozen_vocab_gpu, ia3_gated_gpu

HERE = Path(__file__).parent
NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


@pytest.mark.parametrize("examples", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_interpreted_kernels_equal_their_references(examples):
    # Triton reads this when it is imported, and what is interpreted cannot be compiled.
    environment = os.environ | {"TRITON_INTERPRET": "1", "FRUGAL_EXAMPLES": str(examples)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--noconftest"]
    files = map(str, sorted(HERE.glob("interpreted_*.py")))
    done = subprocess.run([*command, *files], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def kernels():
    """(kernel, dtype, constants)"""
    vocab, gated = frozen_vocab_gpu, ia3_gated_gpu
    for dtype in NAMES:
        for biased in (False, True):
            constants = vocab.blocks(dtype, biased)
            yield vocab.log_partition_kernel, dtype, constants, vocab.WARPS
            yield vocab.mean_word_kernel, dtype, constants, vocab.WARPS
        for activation in ("silu", "gelu", "gelu_tanh"):
            constants = {
                "ACTIVATION": activation,
                "TOKENS": gated.TOKENS,
                "FEATURES": gated.FEATURES,
            }
            yield gated.forward_kernel, dtype, constants, 4
            yield gated.backward_kernel, dtype, constants, 4


def signature(kernel, dtype, constants):
    """What a kernel's arguments are: by their names, which are the same in all."""
    own = ["h", "w", "b", "gate", "up", "y", "dy", "dgate", "dup"]
    kinds = dict.fromkeys(own, f"*{NAMES[dtype]}")
    kinds |= dict.fromkeys(["lse", "mean", "scale", "dscale"], "*fp32")
    kinds |= dict.fromkeys(["task", "order", "first"], "*i64")
    kinds |= dict.fromkeys(["P", "V", "D", "N", "L", "F", "w_row", "share"], "i32")
    return {name: "constexpr" if name in constants else kinds[name] for name in kernel.arg_names}


def usual(dtype, constants, capability):
    """A case of each kernel is of `make check`, the others of `make test`."""
    most = constants.get("BIASED", False) or constants.get("ACTIVATION") == "gelu_tanh"
    return most and (dtype, capability) == (torch.bfloat16, 80)


CASES = [
    pytest.param(
        *case,
        capability,
        id="-".join(map(str, [case[0].__name__, NAMES[case[1]], *case[2].values(), capability])),
        marks=() if usual(case[1], case[2], capability) else pytest.mark.slow,
    )
    for case in kernels()
    for capability in (75, 80, 90)
    if not (case[1] == torch.bfloat16 and capability == 75)  # which a T4 does not know
]


@pytest.mark.parametrize(("kernel", "dtype", "constants", "warps", "capability"), CASES)
def test_kernels_compile_for_gpus(
    kernel, dtype, constants, warps, capability, tmp_path, monkeypatch
):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # nothing of an earlier run
    source = ASTSource(kernel, signature(kernel, dtype, constants), constexprs=constants)
    made = triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps}
    )
    assert made.asm["cubin"][:4] == b"\x7fELF"
    assert (
        made.metadata.shared <= {75: 64, 80: 99, 90: 99}[capability] * 1024
    )  # an L4's, not an A100's
