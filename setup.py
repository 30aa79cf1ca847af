"""Drives CMake: the native core is built by it alone, setuptools only puts the result in its place."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
SWITCH = "VOCODER_KERNELS_NATIVE"
WITHOUT = f"or set {SWITCH}=off to install without native kernels (the original forward then runs)"


class CMakeBuild(build_ext):
    """Configure and build ``vocoder_kernels._native`` with CMake and Ninja."""

    def build_extension(self, ext: Extension) -> None:
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        build = Path(self.build_temp).resolve() / "cmake"
        build.mkdir(parents=True, exist_ok=True)
        cmake = shutil.which("cmake")
        if cmake is None:
            sys.exit(f"vocoder_kernels: cmake was not found; pip install cmake ninja, {WITHOUT}")
        configure = [
            cmake,
            "-S",
            str(ROOT),
            "-B",
            str(build),
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={target.parent}",
            f"-DPython_EXECUTABLE={sys.executable}",
            "-DCMAKE_BUILD_TYPE=" + ("Debug" if self.debug else "Release"),
            f"-Dpybind11_DIR={self._pybind11_dir()}",
        ]
        if shutil.which("ninja"):
            configure += ["-G", "Ninja"]
        if self._run(configure):
            sys.exit(
                "vocoder_kernels: CMake could not configure the native core (its output is above). "
                "A C++17 compiler is needed: install g++, clang or Visual Studio Build Tools, "
                + WITHOUT
            )
        jobs = os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1)
        if self._run([cmake, "--build", str(build), "--parallel", jobs]):
            sys.exit(f"vocoder_kernels: the native core did not compile (see above); {WITHOUT}")

    @staticmethod
    def _pybind11_dir() -> str:
        import pybind11

        return pybind11.get_cmake_dir()

    @staticmethod
    def _run(command: list[str]) -> int:
        return subprocess.run(command, check=False).returncode


native = os.environ.get(SWITCH, "on").strip().lower()
if native not in ("on", "off", "1", "0", "true", "false"):
    sys.exit(f"{SWITCH}: expected on or off, got {native!r}")
if native in ("off", "0", "false"):
    setup()
else:
    setup(
        ext_modules=[Extension("vocoder_kernels._native", sources=[])],
        cmdclass={"build_ext": CMakeBuild},
    )
