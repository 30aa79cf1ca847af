"""Tests marked ``interpreter`` run in one child process with TRITON_INTERPRET=1: Triton decides at
import whether its kernels are compiled or interpreted; here each reports its outcome there."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parent))
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
OUTCOMES = pytest.StashKey[dict]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "interpreter: runs kernels in Triton's interpreter")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if INTERPRETED:
        skip = pytest.mark.skip(reason="runs compiled kernels; unset TRITON_INTERPRET")
        for item in items:
            if "gpusim" in getattr(item, "fixturenames", ()):
                item.add_marker(skip)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if INTERPRETED or pyfuncitem.get_closest_marker("interpreter") is None:
        return None
    pytest.importorskip("triton")
    outcome, text = _outcomes(pyfuncitem).get(_key(pyfuncitem), ("error", "did not run"))
    if outcome == "skipped":
        pytest.skip(text)
    if outcome != "passed":
        pytest.fail(f"in Triton's interpreter: {outcome}\n{text}", pytrace=False)
    return True


def _key(item: pytest.Function) -> tuple[str, str]:
    return Path(item.fspath).stem, item.name


def _outcomes(item: pytest.Function) -> dict:
    """Outcomes of all selected interpreter tests, run together on first use."""
    session = item.session
    if OUTCOMES not in session.stash:
        factory = session.config._tmp_path_factory
        session.stash[OUTCOMES] = _run_child(session, factory.mktemp("interpreter"))
    return session.stash[OUTCOMES]


def _run_child(session: pytest.Session, folder: Path) -> dict:
    chosen = [i for i in session.items if i.get_closest_marker("interpreter") is not None]
    arguments = folder / "arguments"
    arguments.write_text("\n".join(i.nodeid for i in chosen))
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"@{arguments}"]
    command += [f"--junitxml={report}", "-o", "junit_family=xunit1"]
    environ = {**os.environ, "TRITON_INTERPRET": "1"}
    root = session.config.rootpath
    child = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True)
    if not report.exists():
        pytest.fail(
            f"the interpreter's pytest failed:\n{child.stdout}\n{child.stderr}", pytrace=False
        )
    outcomes = {}
    for case in ElementTree.parse(report).iter("testcase"):
        problem = next((x for x in case if x.tag in ("failure", "error", "skipped")), None)
        name = Path(case.get("file", "")).stem, case.get("name")
        tag = "passed" if problem is None else problem.tag
        text = "" if problem is None else f"{problem.get('message')}\n{problem.text or ''}"
        outcomes[name] = (tag, text)
    return outcomes
