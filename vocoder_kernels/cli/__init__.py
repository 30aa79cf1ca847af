"""The ``vocoder-kernels`` command: one file per subcommand, imported only when it is asked for."""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module

OK, FAILED_CHECK, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

COMMANDS = {
    "demo": "a trained voice speaks a sentence, stock and patched: times, errors, wavs, picture",
    "bench": "eager against patched vocoders: times, errors, memory, other runtimes",
    "verify": "errors against float64 of a checkpoint's or a version's vocoder",
    "synth": "turn a mel or latent file into a wav with a checkpoint's vocoder",
    "run": "run a GPT-SoVITS entry script, untouched, with its vocoders patched",
    "doctor": "what can be used on this machine, what cannot, and what to do about it",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns 0 (done), 1 (a check failed) or 2 (bad usage or input)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parser(arguments).parse_args(arguments)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else BAD_INPUT
    try:
        # A script that is run logs and warns as it likes.
        with nullcontext() if args.command == "run" else _reasons_by_command(args.debug):
            return import_module(f".{args.command}", __name__).run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output left, as `head` does
        sys.stderr.close()
        return OK
    except Exception as error:
        if args.debug:
            traceback.print_exc()
        else:
            print(f"vocoder-kernels {args.command}: {_sentence(error)}", file=sys.stderr)
        return BAD_INPUT


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """Options of the chosen command alone: the others' modules stay unimported."""
    parser = argparse.ArgumentParser(
        prog="vocoder-kernels",
        description="The vocoder of a loaded GPT-SoVITS model, several times faster.",
        epilog="Exit status: 0 done, 1 a check failed, 2 bad usage or input.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((a for a in arguments if a in COMMANDS), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
        if name == chosen:
            import_module(f".{name}", __name__).add_arguments(command)
            command.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser


@contextmanager
def _reasons_by_command(debug: bool) -> Iterator[None]:
    """Commands print themselves why a vocoder was not sped up: without the library's warning and
    its logged traceback beside it, unless debugging."""
    logger = logging.getLogger("vocoder_kernels")
    level = logger.level
    with warnings.catch_warnings():
        if not debug:
            logger.setLevel(logging.CRITICAL)
            warnings.filterwarnings("ignore", category=RuntimeWarning, message="vocoder_kernels")
        try:
            yield
        finally:
            logger.setLevel(level)


def _sentence(error: Exception) -> str:
    expected = (ValueError, TypeError, OSError, ImportError, NotImplementedError)
    text = str(error).strip() or type(error).__name__
    if isinstance(error, expected):
        return text
    return f"{type(error).__name__}: {text} (--debug shows where)"


if __name__ == "__main__":
    sys.exit(main())
