"""Drives CMake: it alone builds the native core, setuptools only puts the result in its place."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
SWITCH = "VOCODER_KERNELS_NATIVE"
WITHOUT = f"or set {SWITCH}=off to install without native kernels"
COMPILERS = ("c++", "g++", "clang++", "cl")


class CMakeBuild(build_ext):
    """Configure and build ``vocoder_kernels._native`` with CMake and Ninja."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11

        if not (os.environ.get("CXX") or any(shutil.which(name) for name in COMPILERS)):
            fail(f"no C++ compiler was found; install g++, clang or MSVC, {WITHOUT}")
        cmake = shutil.which("cmake") or fail(f"cmake was not found; pip install cmake, {WITHOUT}")
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = Path(self.build_temp).resolve() / "cmake"
        configure = [
            cmake,
            "--fresh",  # a cache of an earlier build names tools of a build environment now gone
            *("-S", str(ROOT), "-B", str(build)),
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target.parent}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-DCMAKE_BUILD_TYPE={'Debug' if self.debug else 'Release'}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        ]
        ninja = shutil.which("ninja")
        if ninja:
            configure += ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"]
        configure += shlex.split(os.environ.get("CMAKE_ARGS", ""))
        jobs = os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1)
        if run(configure):
            fail(
                "CMake could not configure the native core (its reason is above); it needs a "
                f"C++17 compiler with OpenMP: install g++, clang or MSVC, {WITHOUT}"
            )
        if run([cmake, "--build", str(build), "--config", "Release", "--parallel", jobs]):
            fail(f"the native core did not compile (the error is above); mend it, {WITHOUT}")


def run(command: list[str]) -> int:
    return subprocess.run(command, check=False).returncode


def fail(reason: str) -> str:
    sys.exit(f"vocoder_kernels: {reason}")


def wants_native() -> bool:
    value = os.environ.get(SWITCH, "on").strip().lower()
    if value not in ("on", "off", "1", "0", "true", "false", "yes", "no", ""):
        fail(f"{SWITCH}: expected on or off, got {value!r}")
    return value not in ("off", "0", "false", "no")


if wants_native():
    setup(
        ext_modules=[Extension("vocoder_kernels._native", sources=[])],
        cmdclass={"build_ext": CMakeBuild},
    )
else:
    setup()
