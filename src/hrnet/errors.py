"""The one exception for what a user can mend."""


class InputError(ValueError):
    """Something given from outside cannot be used. The message is one sentence: what was given, what is wrong, the cure.

    The commands print the message without a traceback; `--debug` shows where it came from.
    """
