"""``vocoder-kernels doctor``: what can be used here, what cannot and why, and the remedy."""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from pathlib import Path

import torch

from .. import native, patch
from ..modules import Generator
from ..options import PREFIX, Options
from . import FAILED_CHECK, OK
from .measure import FULL_SCALE_LIMIT, against_float64, fell_back
from .output import add_json, json_line, table
from .voice import HOW_TO_INSTALL, REQUIRED

GOOD, ABSENT, BAD = "ok", "-", "BAD"
OLDEST_CAPABILITY = (7, 5)


@dataclass(frozen=True)
class Finding:
    """``status``: "ok", "-" (absent, and nothing needs it) or "BAD" (something is wrong)."""

    what: str
    status: str
    found: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser, "one JSON object")


def run(args: argparse.Namespace) -> int:
    findings = [*_software(), *_cpu(), *_gpu(), *_tools(), *_settings()]
    findings += [_trial(device) for device in _devices()]
    ok = not any(f.status == BAD for f in findings)
    if args.json:
        json_line({"ok": ok, "findings": [asdict(f) for f in findings]})
        return OK if ok else FAILED_CHECK
    print(table(("", "what", "found"), [(f.status, f.what, f.found) for f in findings]))
    remedies = [f"{f.what}: {f.remedy}" for f in findings if f.remedy]
    if remedies:
        print("\nWhat to do:\n" + "\n".join(f"  {remedy}" for remedy in remedies))
    print("\nVocoders run faster here." if ok else "\nSomething above needs attention.")
    return OK if ok else FAILED_CHECK


def _software() -> Iterator[Finding]:
    yield Finding("Python", GOOD, f"{platform.python_version()}, {platform.platform()}")
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "no CUDA"
    yield Finding("PyTorch", GOOD, f"{torch.__version__}, built with {cuda}")
    try:
        yield Finding("vocoder_kernels", GOOD, metadata.version("vocoder_kernels"))
    except metadata.PackageNotFoundError:
        yield Finding("vocoder_kernels", GOOD, "run from its source folder, not installed")


def _cpu() -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = torch.get_num_threads()
    crowded = cores is not None and threads > cores
    yield Finding(
        "CPU threads",
        BAD if crowded else GOOD,
        f"{threads} for {cores} usable processors",
        "more threads than processors slow everything down; set OMP_NUM_THREADS" if crowded else "",
    )
    try:
        isas = native.isas()
    except native.NativeUnavailable as reason:
        yield Finding("native CPU kernels", BAD, "missing", str(reason))
    else:
        yield Finding("native CPU kernels", GOOD, f"{isas[0]} in use; here: {', '.join(isas)}")
    runtimes = _openmp_runtimes()
    several = len(runtimes) > 1
    yield Finding(
        "OpenMP runtime",
        GOOD,
        ", ".join(runtimes) or "none loaded",
        "several are loaded, which compete for processors; import torch before other packages"
        if several
        else "",
    )


def _openmp_runtimes() -> list[str]:
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        return []
    pattern = r"/(lib(?:gomp|omp|iomp5)[^/\s]*\.so[^/\s]*)$"
    return sorted(set(re.findall(pattern, maps.read_text(), re.MULTILINE)))


def _gpu() -> Iterator[Finding]:
    try:
        yield Finding("Triton", GOOD, import_module("triton").__version__)
    except ImportError as reason:
        yield Finding("Triton", ABSENT, f"not usable: {reason}", _if_gpu("pip install triton"))
    built = native.has_cuda()
    yield Finding(
        "native CUDA kernels",
        GOOD if built else ABSENT,
        "built in" if built else "not built in; a GPU would run on Triton alone",
        "" if built else _if_gpu("install the CUDA toolkit (nvcc) and reinstall vocoder_kernels"),
    )
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield _device(index)
    elif torch.version.cuda is None:
        yield Finding("GPU", ABSENT, "PyTorch was built without CUDA")
    else:
        yield Finding("GPU", ABSENT, "PyTorch finds no CUDA device or driver")


def _if_gpu(remedy: str) -> str:
    return remedy if torch.cuda.is_available() else ""


def _device(index: int) -> Finding:
    properties = torch.cuda.get_device_properties(index)
    capability = (properties.major, properties.minor)
    found = (
        f"{properties.name}, sm_{properties.major}{properties.minor}, "
        f"{properties.total_memory / 2**30:.0f} GiB"
    )
    if capability >= OLDEST_CAPABILITY:
        return Finding(f"GPU {index}", GOOD, found)
    oldest = "{}.{}".format(*OLDEST_CAPABILITY)
    return Finding(f"GPU {index}", ABSENT, found, f"kernels need capability {oldest} or newer")


def _tools() -> Iterator[Finding]:
    for what, names in (("C++ compiler", ("c++", "g++", "clang++", "cl")), ("nvcc", ("nvcc",))):
        found = next((path for path in map(shutil.which, names) if path), "")
        where = found or "not on PATH; needed only to build vocoder_kernels"
        yield Finding(what, GOOD if found else ABSENT, where)
    missing = []
    for module, package in REQUIRED.items():
        try:
            import_module(module)
        except ImportError:
            missing.append(package)
    if missing:
        found = f"missing: {', '.join(missing)}"
        yield Finding("packages of the demo", ABSENT, found, HOW_TO_INSTALL)
    else:
        yield Finding("packages of the demo", GOOD, "all there")


def _settings() -> Iterator[Finding]:
    given = {k: v for k, v in sorted(os.environ.items()) if k.startswith(PREFIX)}
    shown = ", ".join(f"{k}={v}" for k, v in given.items()) or "no variables set"
    try:
        enabled = Options.resolve().enabled
    except (ValueError, TypeError) as reason:
        yield Finding("settings", BAD, shown, str(reason))
        return
    remedy = "" if enabled else f"{PREFIX}ENABLED turns everything off; unset it"
    yield Finding("settings", GOOD if enabled else BAD, shown, remedy)


def _devices() -> list[str]:
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def _trial(device: str) -> Finding:
    """A small vocoder, patched and compared: the proof that the parts above work together."""
    what = f"trial run on {device}"
    torch.manual_seed(0)
    eager = Generator(20, "1", (3, 7, 11), ((1, 3, 5),) * 3, (4, 2), 64, (8, 4)).eval().to(device)
    patched = Generator(20, "1", (3, 7, 11), ((1, 3, 5),) * 3, (4, 2), 64, (8, 4)).eval().to(device)
    patched.load_state_dict(eager.state_dict())
    x = torch.randn(1, 20, 40, device=device)
    try:
        patch(patched)
        with torch.inference_mode():
            audio = patched(x)
    except (RuntimeError, ValueError, TypeError, ImportError, OSError) as error:
        return Finding(what, BAD, f"{type(error).__name__}: {error}")
    why = fell_back(patched)
    if why:
        return Finding(what, BAD, "the original forward ran", why)
    max_error = against_float64(eager, {"patched": audio}, (x,))["patched"].max_error
    ok = max_error <= FULL_SCALE_LIMIT
    return Finding(what, GOOD if ok else BAD, f"max error {max_error:.1e} against float64")
