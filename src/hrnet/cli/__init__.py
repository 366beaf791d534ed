"""The command line. Verbs import what they need, so that help answers at once."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Sequence

# Verb, module under hrnet.cli, and what `hrnet --help` says of it.
VERBS = {
    "predict": "draw what a model finds in images: keypoints, boxes, masks, classes",
    "train": "train a recipe on your data",
    "evaluate": "score a model on labeled images",
    "data": "check a data set, or show it with its labels",
    "convert": "turn a checkpoint of another HRNet code base into a .safetensors model",
    "models": "list the models there are",
    "recipes": "list the training recipes, or show one",
    "doctor": "show what this machine has",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    verb, *rest = arguments
    if verb == "--version":
        print(importlib.import_module("hrnet").__version__)
        return 0
    if verb not in VERBS:
        print(f"hrnet: there is no verb {verb!r}; the verbs are {', '.join(VERBS)}.", file=sys.stderr)
        return 2
    return _run(verb, rest, debug)


def _help() -> str:
    width = max(len(verb) for verb in VERBS)
    lines = [f"  {verb:<{width}}  {text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            "usage: hrnet VERB ...",
            "",
            "HRNet: high-resolution networks for keypoints, segmentation, detection and classification.",
            "",
            *lines,
            "",
            "hrnet VERB --help says what a verb takes; --debug shows where an error came from; --version the version.",
        ]
    )


def _run(verb: str, arguments: list[str], debug: bool) -> int:
    from hrnet.errors import InputError

    # Names of files need not be text that the terminal can show.
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    try:
        return importlib.import_module(f"hrnet.cli.{verb}").main(arguments)
    except InputError as error:
        if debug:
            raise
        print(f"hrnet {verb}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"hrnet {verb}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141  # as of a program that the signal ended: 128 + SIGPIPE
    except OSError as error:
        if debug or error.filename is None:
            raise
        print(f"hrnet {verb}: {error.filename} cannot be used ({error.strerror}).", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
