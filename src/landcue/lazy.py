"""Packages whose public names load when they are first used, and packages that can be called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from landcue.errors import explain_missing


def lazy_exports(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package.

    Args:
        package: Its ``__name__``.
        names: The public names that each module holds; a module that has the name itself, such
            as ``landcue.audit`` for ``audit``, is the value.

    Raises:
        UsageError: From the returned function, where a name needs an extra that is not installed.
    """
    modules = {name: module for module, some in names.items() for name in some}

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            module = importlib.import_module(modules[name])
        except ModuleNotFoundError as error:
            known = explain_missing(error)
            if known is None:
                raise
            raise known from None
        if modules[name] == f"{package}.{name}":
            return module
        value = getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    return load


class CallablePackage(ModuleType):
    """A package that is also the function of its name.

    ``landcue.audit(...)`` calls ``landcue.audit.audit(...)``. The package sets this as its class:
    ``sys.modules[__name__].__class__ = CallablePackage``; it must not have a module of that name.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return getattr(self, self.__name__.rpartition(".")[2])(*args, **kwargs)
