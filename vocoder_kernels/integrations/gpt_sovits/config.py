"""Settings of a GPT-SoVITS installation: top-level keys of ``tts_infer.yaml``.

They live at the top level because the pipeline rewrites its ``custom:`` section with its own keys
at every start, and keeps everything else (upstream TTS_infer_pack/TTS.py, ``save_configs``).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ...options import Options

logger = logging.getLogger("vocoder_kernels")

ENABLE_KEY = "use_vocoder_optimization"
CHUNK_KEY = "vocoder_chunk_size"
SECTION_KEY = "vocoder_kernels"
DEFAULT_CHUNK_FRAMES = 500


def options_from_file(path: str | Path, environ: Mapping[str, str] | None = None) -> Options:
    """Options of a ``tts_infer.yaml``; a missing file or key gives the defaults, an environment
    variable wins over the file.

    Raises ``ValueError`` naming file, key and what is allowed.
    """
    path = Path(path)
    document: Any = {}
    if path.exists():
        document = _load_yaml(path)
    if not isinstance(document, dict):
        raise ValueError(f"{path}: expected keys and values at the top level")
    return options_from_mapping(document, str(path), environ)


def options_from_mapping(
    document: Mapping[str, Any], source: str, environ: Mapping[str, str] | None = None
) -> Options:
    """The same from a loaded document; ``source`` names it in messages."""
    _point_out_misplaced(document, source)
    settings: dict[str, Any] = {}
    section = document.get(SECTION_KEY, {})
    if section is None:
        section = {}
    if not isinstance(section, dict):
        raise ValueError(f"{source}: {SECTION_KEY}: expected a section of keys, got {section!r}")
    known = [f.name for f in fields(Options)]
    for key, value in section.items():
        if key not in known:
            raise ValueError(
                f"{source}: {SECTION_KEY}.{key}: unknown key; allowed are {', '.join(known)}"
            )
        settings[key] = (f"{SECTION_KEY}.{key}", value)
    settings.setdefault("enabled", (ENABLE_KEY, document.get(ENABLE_KEY, True)))
    chunk = document.get(CHUNK_KEY, DEFAULT_CHUNK_FRAMES)
    settings.setdefault("chunk_frames", (CHUNK_KEY, chunk))
    for name, (key, value) in settings.items():
        if value is None:
            continue
        try:
            Options(**{name: value})
        except (TypeError, ValueError) as error:
            allowed = str(error).split(": ", 1)[-1]
            raise ValueError(f"{source}: {key}: {allowed}") from error
    from_file = {name: value for name, (_, value) in settings.items()}
    return Options.resolve(environ, defaults=from_file)


def _point_out_misplaced(document: Mapping[str, Any], source: str) -> None:
    for name, section in document.items():
        for key in (ENABLE_KEY, CHUNK_KEY, SECTION_KEY):
            if name != SECTION_KEY and isinstance(section, dict) and key in section:
                logger.warning(
                    "%s: %s.%s is not read; write %s at the top level of the file",
                    source,
                    name,
                    key,
                    key,
                )


def _load_yaml(path: Path) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ImportError(
            f"reading {path} needs PyYAML, which GPT-SoVITS itself requires: pip install pyyaml"
        ) from error
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from error
