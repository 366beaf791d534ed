"""The type checker behind jaxtyping's import hook (pyproject.toml): it checks the signatures of hrnet in every test."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, Self, TypeVar, get_args, get_origin

import torch
from beartype import BeartypeConf, FrozenDict, beartype

# An int is a float to type checkers (PEP 484). jaxtyping passes functions without their classes: Self is unknown.
_CONF = BeartypeConf(is_pep484_tower=True, hint_overrides=FrozenDict({Self: Any}))


def _of_a_variable(hint: object) -> bool:
    """Return whether a hint is the type of a type variable; `issubclass` knows no protocol with attributes, its bound."""
    return get_origin(hint) is type and isinstance(get_args(hint)[0], TypeVar)


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that checks its arguments and result, but not while a graph is traced: checks would be in it."""
    hints = function.__annotations__
    hints.update({name: type for name, hint in hints.items() if _of_a_variable(hint)})

    @cache
    def checking() -> Callable[..., Any]:  # made for the first call: most functions are not called by most tests
        return beartype(conf=_CONF)(function)

    @wraps(function)
    def check(*args: Any, **kwargs: Any) -> Any:
        tracing = torch.jit.is_tracing() or torch.compiler.is_compiling()  # pyright: ignore[reportPrivateImportUsage]  # documented
        return (function if tracing else checking())(*args, **kwargs)

    return check
