"""The one exception for everything that a user can fix."""


class InputError(ValueError):
    """An input that cannot be used. The message says in one sentence what was given, what is wrong, and how to fix it.

    The commands print the message without a traceback; `--debug` shows it.
    """
