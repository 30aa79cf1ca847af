"""What setup.py makes without compiling anything, and the one OpenMP runtime of the process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from vocoder_kernels import native

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "setup.py").is_file():
    pytest.skip("needs the source tree", allow_module_level=True)
pytest.importorskip("setuptools")
pytest.importorskip("pybind11")


def setup_py(tmp_path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(tmp_path), *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_the_source_archive_holds_what_a_build_needs(tmp_path):
    done = setup_py(tmp_path, "sdist", "--dist-dir", str(tmp_path))
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*.*") if p.is_file()}
    assert sources <= names, sorted(sources - names)
    assert {"CMakeLists.txt", "LICENSE", "pyproject.toml", "setup.py"} <= names


def test_a_pure_python_wheel(tmp_path):
    done = setup_py(
        tmp_path,
        *("build", "--build-base", str(tmp_path / "build")),
        *("bdist_wheel", "--dist-dir", str(tmp_path), "--bdist-dir", str(tmp_path / "b")),
        VOCODER_KERNELS_NATIVE="off",
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "vocoder_kernels/native.py" in names
    assert not any(name.endswith(".so") or name.startswith("tests") for name in names)


def test_no_compiler_is_one_sentence_with_the_remedy(tmp_path):
    done = setup_py(
        tmp_path,
        *("build_ext", "--build-temp", str(tmp_path), "--build-lib", str(tmp_path)),
        PATH=str(tmp_path),
        CXX="",
        VOCODER_KERNELS_NATIVE="on",
    )
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if "vocoder_kernels" in line]
    assert "no C++ compiler was found" in line and "install g++, clang or MSVC" in line
    assert "VOCODER_KERNELS_NATIVE=off" in line


def test_a_misspelt_switch_is_named(tmp_path):
    done = setup_py(tmp_path, VOCODER_KERNELS_NATIVE="maybe")
    assert done.returncode != 0
    assert "VOCODER_KERNELS_NATIVE: expected on or off, got 'maybe'" in done.stderr


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_torch_and_the_extension_share_one_openmp_runtime(tmp_path):
    if not native.available():
        pytest.skip("the native kernels were not built")
    script = (
        "from vocoder_kernels import native; import torch\n"
        "native.extension(); torch.ones(1000, 1000).sin()\n"
        "maps = open('/proc/self/maps').read().splitlines()\n"
        "names = {m.split()[-1] for m in maps if 'libgomp' in m or 'libomp' in m}\n"
        "assert len(names) == 1, names\n"
    )
    # Elsewhere: in the source tree, the package there would be found before the installed one.
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


def test_a_missing_extension_says_why(tmp_path):
    script = (
        "import sys; sys.modules['vocoder_kernels._native'] = None\n"
        "from vocoder_kernels import native\n"
        "assert not native.available()\n"
        "try:\n"
        "    native.extension()\n"
        "except native.NativeUnavailable as error:\n"
        "    assert 'reinstall vocoder_kernels with a C++17 compiler' in str(error)\n"
        "else:\n"
        "    raise SystemExit('expected NativeUnavailable')\n"
    )
    # Elsewhere: in the source tree, the package there would be found before the installed one.
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


PURE = {"VOCODER_KERNELS_NATIVE": "off", "VOCODER_KERNELS_CUDA": "off"}


def pip(*arguments: str) -> None:
    """Without a network: nothing is fetched, and the build uses what is installed here."""
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, *offline],
        env={**os.environ, **PURE},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


FALLS_BACK = """
import torch, vocoder_kernels
from vocoder_kernels.modules import Generator
assert vocoder_kernels.__file__.startswith({where!r}), vocoder_kernels.__file__
model = Generator(6, "2", (3,), ((1, 3),), (4,), 8, (8,)).eval().requires_grad_(False)
x = torch.randn(1, 6, 5)
before = model(x)
outcome = vocoder_kernels.patch(model)
assert not outcome and "VOCODER_KERNELS_NATIVE=off" in outcome.modules[0].why, str(outcome)
assert torch.equal(model(x), before)
"""


@pytest.fixture
def source(tmp_path) -> Path:
    """A copy of the source tree, so that building leaves the tree itself alone."""
    ignored = shutil.ignore_patterns(".*", "build", "*.so", "*.egg-info", "__pycache__", "tests")
    return Path(shutil.copytree(ROOT, tmp_path / "source", ignore=ignored))


@pytest.mark.parametrize("how", ["source archive", "wheel"])
def test_an_installation_without_native_kernels_patches_and_falls_back(tmp_path, source, how):
    if how == "source archive":
        command = [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(tmp_path)]
        subprocess.run(command, cwd=source, env={**os.environ, **PURE}, check=True)
        (what,) = tmp_path.glob("*.tar.gz")
    else:
        pip("wheel", str(source), "--wheel-dir", str(tmp_path))
        (what,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    pip("install", str(what), "--target", str(site))
    run_in(site, FALLS_BACK.format(where=str(site)))
    command = [sys.executable, site / "bin" / "vocoder-kernels", "doctor"]
    done = subprocess.run(
        command, env=only(site), capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1 and "native CPU kernels" in done.stdout, done.stderr


def test_an_editable_installation_runs_the_source_tree(tmp_path, source):
    site = tmp_path / "site"
    pip("install", "--editable", str(source), "--target", str(site))
    run_in(site, FALLS_BACK.format(where=str(source)))


def only(site: Path) -> dict[str, str]:
    """An environment that finds the package in ``site`` before any other."""
    return {**os.environ, "PYTHONPATH": str(site)}


def run_in(site: Path, script: str) -> None:
    # addsitedir reads .pth files, which an editable installation consists of; what it adds goes
    # before an installation that the interpreter has already.
    script = (
        "import site, sys\n"
        "before = [(places, list(places)) for places in (sys.path, sys.meta_path)]\n"
        f"site.addsitedir({str(site)!r})\n"
        "for places, former in before:\n"
        "    places[:] = [p for p in places if p not in former] + former\n"
        f"{script}"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=only(site), cwd=site, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
