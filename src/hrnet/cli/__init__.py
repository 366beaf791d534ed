"""The command line. Each verb imports its modules when it runs, so that help answers at once."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Sequence

# Modules of hrnet.cli, and their lines in `hrnet --help`.
COMMANDS = {
    "predict": "run a model on images: write annotated images and JSON",
    "train": "train a recipe on your data set",
    "evaluate": "score a model on a labeled data set",
    "data": "check a data set, or draw its labels",
    "convert": "convert a checkpoint of another HRNet code base to .safetensors",
    "models": "list the models, or show one",
    "recipes": "list the training recipes, or print one",
    "doctor": "show the hardware and libraries that hrnet can use",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    command, *rest = arguments
    if command == "--version":
        print(importlib.import_module("hrnet").__version__)
        return 0
    if command not in COMMANDS:
        print(f"hrnet: unknown command {command!r}; choose from {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    return _run(command, rest, debug)


def _help() -> str:
    width = max(len(command) for command in COMMANDS)
    commands = "\n".join(f"  {command:<{width}}  {text}" for command, text in COMMANDS.items())
    return f"""usage: hrnet COMMAND ...

HRNet: high-resolution networks for keypoints, segmentation, detection and classification.

{commands}

hrnet COMMAND --help lists the options of a command.
--debug shows the traceback of an error, --version the version."""


def _run(command: str, arguments: list[str], debug: bool) -> int:
    from hrnet.errors import InputError

    # File names may hold bytes that the terminal cannot show.
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    module = importlib.import_module(f"hrnet.cli.{command}")
    # The options of these commands depend on their first argument: a model, a recipe.
    usage = getattr(module, "USAGE", None)
    if usage and (not arguments or arguments[0].startswith("-")):
        asked = arguments[:1] in (["-h"], ["--help"])
        print(usage, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    try:
        return module.main(arguments)
    except InputError as error:
        if debug:
            raise
        print(f"hrnet {command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"hrnet {command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 141  # 128 + SIGPIPE
    except OSError as error:
        if debug or error.filename is None:
            raise
        print(f"hrnet {command}: {error.filename} cannot be used ({error.strerror}).", file=sys.stderr)
        return 1
