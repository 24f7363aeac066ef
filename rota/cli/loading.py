"""Find the scheduler that a service has made, by ``module:name``."""

from __future__ import annotations

import copy
import os
import sys
from dataclasses import replace
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rota.cli import database
from rota.cli.options import Place
from rota.errors import InvalidArgument, RotaError

if TYPE_CHECKING:
    from rota.app import Scheduler


def load(target: str) -> Scheduler:
    """The scheduler itself, or what the factory of that name makes.

    The working directory is looked through first. Raises ``InvalidArgument`` for what is none.
    """
    from rota.app import Scheduler

    module_name, colon, name = target.partition(":")
    if not (module_name and colon and name):
        raise _wrong(
            f"{target!r} names no scheduler; write module:name, as in myapp.tasks:scheduler"
        )
    if os.sep in module_name or module_name.endswith(".py"):
        path = module_name.removesuffix(".py").removeprefix(f".{os.sep}").strip(os.sep)
        named = f"{path.replace(os.sep, '.')}:{name}"
        raise _wrong(f"{module_name!r} is a file, not a module; write it like {named}")
    found: Any = _imported(module_name)
    for part in name.split("."):
        found = _member(found, part, module_name)
    if callable(found) and not isinstance(found, Scheduler):
        found = _called(found, target)
    if not isinstance(found, Scheduler):
        raise _wrong(
            f"{target} is of type {type(found).__name__}; "
            "name a rota.Scheduler, or a function without arguments that returns one"
        )
    return found


def as_client(scheduler: Scheduler, place: Place, *, name: str) -> Scheduler:
    """The same works, options, middleware and database, but it runs nothing."""
    url = scheduler._url  # noqa: SLF001 - a second face of the same scheduler
    if url is None or isinstance(url, str):
        url = url or place.named
        database.check(url, place.schema or _schema(scheduler))
    twin = copy.copy(scheduler)
    settings = replace(
        scheduler._settings,  # noqa: SLF001
        queues=[],
        limits={},
        name=name,
        start_timeout=database.PATIENCE,
    )
    if place.schema is not None:
        settings = replace(settings, storage={**settings.storage, "schema": place.schema})
    twin._settings, twin._url = settings, url  # noqa: SLF001
    return twin


def _schema(scheduler: Scheduler) -> str | None:
    schema: str | None = scheduler._settings.storage.get("schema")  # noqa: SLF001
    return schema


def _imported(name: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return import_module(name)
    except RotaError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise _wrong(
                f"there is no module {error.name!r}; start it where the module is, "
                "or set PYTHONPATH"
            ) from error
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _called(factory: Any, target: str) -> Any:
    try:
        return factory()
    except RotaError:
        raise
    except (Exception, SystemExit) as error:
        raise _broken(f"{target}()", error) from error


def _member(found: Any, name: str, module: str) -> Any:
    try:
        return getattr(found, name)
    except AttributeError:
        raise _wrong(f"{module} has no {name!r}; name the scheduler it makes") from None


def _wrong(message: str) -> InvalidArgument:
    return InvalidArgument(message, field="target")


def _broken(what: str, error: BaseException) -> InvalidArgument:
    return _wrong(f"{what} raised {type(error).__name__}: {error}; add --debug to see where")
