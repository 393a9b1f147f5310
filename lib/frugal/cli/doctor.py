"""`frugal doctor`: what this machine has, whether the kernels are right on it, and how fast."""

import math
import os
from pathlib import Path
from typing import Any

from frugal.cli.options import Json
from frugal.cli.output import emit
from frugal.errors import FrugalError


def doctor(as_json: Json = False) -> None:
    """Cores, instructions, GPU; each kernel against its reference; what "fastest" takes here.

    A precision whose kernel is wrong is not allowed, and the exit status then 2. GFLOP/s are of a
    small model's linear map on this device.
    """
    import torch

    from frugal.engine import presets
    from frugal.kernels import checks, precision

    device = "cuda" if torch.cuda.is_available() else "cpu"
    rates = precision.rates(device)
    kernels = checks.run(device)
    wrong = [k.name for k in kernels if not k.ok]
    allowed = [name for name in rates if not any(k.startswith(name) for k in wrong)]
    found: dict[str, Any] = {
        "machine": presets.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": _instructions(),
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "torch": torch.__version__,
        "precisions": [
            {"name": name, "gflops": rate / 1e9, "allowed": name in allowed}
            for name, rate in rates.items()
        ],
        "fastest": max(allowed, key=rates.__getitem__),
        "kernels": [
            {"name": k.name, "error": k.error if math.isfinite(k.error) else None, "ok": k.ok}
            for k in kernels
        ],
    }
    emit(found, as_json)
    if wrong:
        raise FrugalError(f"wrong on this machine: {', '.join(wrong)}")


# Of processors, for products in lower precision: x86's and Arm's.
_INSTRUCTIONS = {
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"),
    *("asimddp", "i8mm", "bf16", "sve"),
}


def _instructions() -> list[str]:
    """Those that Linux says the processor has; elsewhere what torch found."""
    import torch

    info = Path("/proc/cpuinfo")
    if not info.exists():
        return [torch.backends.cpu.get_cpu_capability()]
    lines = info.read_text().splitlines()
    flags = next((x for x in lines if x.startswith(("flags", "Features"))), "").split()
    return sorted(_INSTRUCTIONS & set(flags))
