"""``vocoder-kernels run SCRIPT``: a GPT-SoVITS entry script, untouched, vocoders patched."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="tts_infer.yaml with the settings (default: the script's own)",
    )
    parser.add_argument("script", metavar="SCRIPT", help="api_v2.py, api.py, inference_webui.py …")
    parser.add_argument(
        "arguments",
        nargs=argparse.REMAINDER,
        metavar="...",
        help="passed to the script as they are",
    )


def run(args: argparse.Namespace) -> int:
    from ..integrations.gpt_sovits.launch import run_script

    return run_script(args.script, args.arguments, args.config)
