"""Scripts of the small installation as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np

import vocoder_kernels

TESTS = Path(__file__).resolve().parents[1]
PACKAGE_PARENT = Path(vocoder_kernels.__file__).resolve().parents[1]
RUN = ("-m", "vocoder_kernels", "run")


def environment(**more: str) -> dict[str, str]:
    """Ours, with the package that is tested and the tests' own modules on the path."""
    paths = [str(PACKAGE_PARENT), str(TESTS), os.environ.get("PYTHONPATH", "")]
    joined = os.pathsep.join(filter(None, paths))
    return {**os.environ, "PYTHONPATH": joined, "OMP_NUM_THREADS": "1", **more}


def start(arguments, cwd, **more):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def python(arguments, cwd, **more):
    return finish(start(arguments, cwd, **more))


def ours(arguments, cwd, **more):
    return finish(start(["-m", "vocoder_kernels", "run", *arguments], cwd, **more))


class Service:
    """A running api_v2.py."""

    def __init__(self, process):
        self.process = process
        self.url = self._listening()

    def _listening(self):
        line = self.process.stdout.readline()
        assert line.startswith("listening"), (line, self.process.stderr.read())
        return f"http://127.0.0.1:{line.split()[1]}"

    def tts(self, text="Hello there, how are you?", **more):
        body = {"text": text, "text_lang": "en", "ref_audio_path": "a.wav", "prompt_lang": "en"}
        data = json.dumps({**body, **more}).encode()
        request = urllib.request.Request(f"{self.url}/tts", data)
        with urllib.request.urlopen(request, timeout=60) as response:
            return np.frombuffer(response.read()[44:], "<i2").astype(int)

    def get(self, path):
        with urllib.request.urlopen(self.url + path, timeout=60) as response:
            return response.read()

    def restart(self):
        self.get("/control?command=restart")
        self.url = self._listening()

    def stop(self):
        self.get("/control?command=exit")
        return finish(self.process)[2]
