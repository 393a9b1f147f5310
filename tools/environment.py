"""Environments made by rule: .venv for work, and two that try the bounds of the dependencies.

    python tools/environment.py setup [EXTRA…]    .venv, with the pins of constraints.txt
    python tools/environment.py oldest | newest   .venv-oldest, .venv-newest, without them

It needs nothing but a Python, also one that is too old for Frugal, and then says so. `uv` installs
where it is found, pip otherwise; both look where pip is told to look. On Linux without an NVIDIA
GPU torch comes without CUDA, where that can be had. What is there already is not made again, and
a folder whose Python is gone, or too old, is made anew.
"""

import ast
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("\n[tool.")[0]
PINS = (ROOT / "constraints.txt").read_text(encoding="utf-8")
BOUNDS = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', PROJECT)
LEAST, ABOVE = ((3, int(minor)) for minor in BOUNDS.groups())
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
UV_NAMES = {  # uv does not read pip's settings
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
}


def main(kind="setup", *extras):
    """Make one environment, unless it is there."""
    folder = ROOT / (".venv" if kind == "setup" else f".venv-{kind}")
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    before = mark(folder)
    extras = sorted({"dev", *extras, *before.get("extras", [])})
    wanted = {"extras": extras, "from": hashlib.sha256((PROJECT + PINS).encode()).hexdigest()}
    if before == wanted and suits(version(python)):
        return
    started = time.monotonic()
    refuse_machine()
    uv = shutil.which("uv")
    if kind == "oldest" and not uv:
        refuse("only uv can take the lowest versions: pip install uv")
    takes = "by uv, in a minute" if uv else "by pip, in four minutes; uv takes one"
    say(f"{folder.name} is made {takes}")
    if not suits(version(python)):
        create(folder, uv)
    with contextlib.suppress(FileNotFoundError):
        (folder / "ready").unlink()
    install(python, uv, kind, extras)
    (folder / "ready").write_text(json.dumps(wanted))
    say(f"{folder.name} is ready after {time.monotonic() - started:.0f} seconds")


def say(line):
    print(line, flush=True)


def refuse(line):
    print(f"frugal: {line}", file=sys.stderr)
    raise SystemExit(2)


def mark(folder):
    """What a finished folder says it was made of; {} where it is not finished."""
    try:
        return json.loads((folder / "ready").read_text())
    except (OSError, ValueError):
        return {}


def version(python):
    """(3, minor) of an environment's Python, or None: not there, or it does not start."""
    code = "import sys; print(*sys.version_info[:2])"
    try:
        told = subprocess.check_output([str(python), "-c", code], stderr=subprocess.DEVNULL)
        return tuple(map(int, told.split()))
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None


def suits(found):
    return found is not None and LEAST <= found < ABOVE


def refuse_machine():
    """Say in words what cannot work, before anything is made."""
    if not suits(sys.version_info[:2]):
        names = [f"python3.{minor}" for minor in range(ABOVE[1] - 1, LEAST[1] - 1, -1)]
        there = [name for name in names if shutil.which(name)]
        refuse(
            f"Frugal runs on Python {LEAST[0]}.{LEAST[1]} to {ABOVE[0]}.{ABOVE[1] - 1}, and "
            f"{sys.executable} is {platform.python_version()}; "
            + (f"make setup PYTHON={there[0]}" if there else "none of those is on the PATH")
        )
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        refuse("torch has no packages for Macs with Intel processors since 2.2; see the README")


def create(folder, uv):
    if folder.exists():
        say(f"{folder.name} is broken, or of another Python: it is made anew")
        shutil.rmtree(str(folder))
    tool = [uv, "venv", "--quiet", "--seed", "--python", sys.executable]  # frugal asks its pip
    made = uv and subprocess.call([*tool, str(folder)], env=uv_environment()) == 0
    if not made and subprocess.call([sys.executable, "-m", "venv", "--clear", str(folder)]):
        refuse("this Python makes no environments; Debian has that in the package python3-venv")


def install(python, uv, kind, extras):
    """The project and what it needs; torch from where it is smallest."""
    index = os.environ.get("TORCH_INDEX") or cpu_wheels()
    options = ["--extra-index-url", index] if index else []
    torch = "torch"
    if kind == "setup":
        options += ["--constraint", str(ROOT / "constraints.txt")]
    elif not index and sys.platform == "linux":
        torch = re.search(r"^torch==\S+", PINS, re.MULTILINE).group()
        say(f"{torch} stays: there are no CPU wheels of other versions at hand")
    elif kind == "oldest":
        torch = re.search(r'"torch>=([\d.]+)"', PROJECT).expand(r"torch==\1.0+cpu")
    if kind == "oldest":
        options += ["--resolution", "lowest-direct"]
    what = [*options, "--editable", f"{ROOT}[{','.join(extras)}]", torch]
    if uv:
        tool = [uv, "pip", "install", "--quiet", "--index-strategy", "unsafe-best-match"]
        if subprocess.call([*tool, "--python", str(python), *what], env=uv_environment()) == 0:
            return
        if kind == "oldest":
            refuse("uv could not install the lowest versions")
        say("uv could not; pip tries the same")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.call([*pip, *what]):
        refuse("pip could not install it; the lines above say why")


def uv_environment():
    """The variables under which uv looks where pip would."""
    tool = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(tool, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    found = {}
    for line in listed.stdout.decode().splitlines():
        name, _, value = line.partition("=")
        scope, _, key = name.partition(".")
        if key in UV_NAMES and scope in ("global", "install", ":env:"):
            with contextlib.suppress(SyntaxError, ValueError):
                found[UV_NAMES[key]] = " ".join(str(ast.literal_eval(value)).split())
    return {**found, **os.environ}


def cpu_wheels():
    """The index of torch's wheels without CUDA, where they are wanted and answer; or ""."""
    if sys.platform != "linux" or shutil.which("nvidia-smi") or os.path.exists("/dev/nvidiactl"):
        return ""
    try:
        urllib.request.urlopen(f"{CPU_WHEELS}/torch/", timeout=5).close()
    except (OSError, ValueError):
        say("No NVIDIA GPU, but torch's CPU wheels do not answer: it comes as pip's index has it")
        return ""
    say(f"No NVIDIA GPU: torch's CPU wheels, gigabytes smaller (TORCH_INDEX={CPU_WHEELS})")
    return CPU_WHEELS


if __name__ == "__main__":
    main(*sys.argv[1:])
