"""Running an untouched GPT-SoVITS entry script with its vocoders patched."""

from __future__ import annotations

import builtins
import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

from ...options import Options
from . import hooks
from .config import options_from_file

logger = logging.getLogger("vocoder_kernels")

DEFAULT_CONFIG = Path("GPT_SoVITS/configs/tts_infer.yaml")
CONFIG_FLAGS = ("-c", "--tts_config")
UNCAUGHT, INTERRUPTED = 1, 130


def run_script(script: str, arguments: Sequence[str], config: str | None = None) -> int:
    """Run ``script`` as ``python script arguments`` would, with patching installed.

    ``config``: the ``tts_infer.yaml`` with the settings; without it, the one that ``arguments``
    name or that the script's folder has. Returns 0, or 1 after an uncaught exception (130 after an
    interruption), which is reported like Python does; `SystemExit` passes through.

    Raises ``ValueError`` for a wrong value in the file and ``OSError`` for a script that cannot be
    read, both before anything runs.
    """
    path = Path(config) if config else _config_of(script, arguments)
    if config and not Path(config).exists():
        raise FileNotFoundError(f"--config: no file {config}")
    options = options_from_file(path)
    with io.open_code(str(Path(script).resolve())) as file:
        source = file.read()
    where = path if path.exists() else f"defaults (no file {path})"
    with _log_to_stderr(), _restarts_with_us(config), hooks.installed(options) as patcher:
        logger.info("settings from %s: %s", where, _brief(options))
        status = _run_as_main(script, arguments, source)
        if status == 0 and not patcher.constructed:
            logger.warning("%s constructed no vocoder that could be patched", script)
    return status


def _brief(options: Options) -> str:
    """The settings that are not `Options`' own defaults."""
    set_here = {f.name: getattr(options, f.name) for f in fields(options)}
    return ", ".join(
        f"{name}={value}" for name, value in set_here.items() if value != getattr(Options, name)
    )


def _run_as_main(script: str, arguments: Sequence[str], source: bytes) -> int:
    path = os.path.abspath(script)
    main = ModuleType("__main__")
    main.__dict__.update(
        __file__=path,
        __builtins__=builtins,
        __loader__=SourceFileLoader("__main__", path),
        __cached__=None,
    )
    sys.modules["__main__"] = main
    sys.argv[:] = [script, *arguments]
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = str(Path(script).resolve().parent)
    try:
        exec(compile(source, path, "exec", dont_inherit=True), main.__dict__)
        _wait_for_threads()
    except SystemExit:
        raise
    except BaseException as error:
        # Without our own frames it reads as if Python had run the script.
        below = error.__traceback__.tb_next if error.__traceback__ else None
        sys.excepthook(type(error), error.with_traceback(below), below)
        return INTERRUPTED if isinstance(error, KeyboardInterrupt) else UNCAUGHT
    return 0


def _wait_for_threads() -> None:
    """As Python does at its end; threads that serve requests may still load vocoders."""
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


def _config_of(script: str, arguments: Sequence[str]) -> Path:
    """The configuration that the script itself will read."""
    for given, following in zip(arguments, [*arguments[1:], ""]):
        flag, _, joined = given.partition("=")
        value = joined or following
        if flag in CONFIG_FLAGS and value.endswith((".yaml", ".yml")):
            return Path(value)
    beside = Path(script).resolve().parent / DEFAULT_CONFIG
    return beside if beside.exists() and not DEFAULT_CONFIG.exists() else DEFAULT_CONFIG


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """Our log goes to stderr once, whatever the script makes of logging and warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("[vocoder_kernels] %(message)s"))
    former = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(min(logging.INFO, logger.level or logging.INFO))
    logger.propagate = False
    warnings.filterwarnings("ignore", category=RuntimeWarning, message="vocoder_kernels")
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.level, logger.propagate = former


@contextmanager
def _restarts_with_us(config: str | None) -> Iterator[None]:
    """A script that replaces its process by a new run of itself (api_v2's ``/control?command=
    restart``) is run by us again."""
    execute: Callable[..., Any] = os.execv
    ours = ["-m", "vocoder_kernels", "run", *(["--config", config] if config else [])]

    def execv(path: Any, arguments: Sequence[Any]) -> None:
        arguments = list(arguments)
        if path == sys.executable and arguments[1:2] == sys.argv[:1]:
            arguments[1:1] = ours
        execute(path, arguments)

    os.execv = execv  # type: ignore[assignment]
    try:
        yield
    finally:
        os.execv = execute
