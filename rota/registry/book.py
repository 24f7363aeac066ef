"""The registry: which works this program knows, by id, alias and prefix."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from typing_extensions import Unpack

from rota.core.names import check_work
from rota.core.unset import UNSET, Unset
from rota.errors import InvalidArgument, InvalidName, UnknownWork
from rota.registry.command import (
    MAX_OUTPUT,
    Command,
    CommandOptions,
    CommandResult,
    command_work,
)
from rota.registry.declaration import Declaration, DeclaredOptions, W, declaring
from rota.registry.options import Runner, WorkOptions
from rota.registry.work import (
    AsyncWithContext,
    AsyncWithout,
    BlockingContextWork,
    ContextWork,
    CoroutineWork,
    P,
    PlainWithContext,
    PlainWithout,
    PlainWork,
    R,
    Work,
    make_work,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rota.core.backoff import Backoff, BackoffFunction
    from rota.core.clock import Seconds
    from rota.triggers import Trigger

AnyWork = Work[..., Any]


class _Index(NamedTuple):
    """What the registry and all it includes offered at one version."""

    version: int
    found: Mapping[str, tuple[AnyWork, ...]]
    ids: tuple[str, ...]
    names: Mapping[AnyWork, str]  #: the first name each work is offered under


class WorkRegistry:
    """Works under ids that stay the same when functions move; may grow at any time, in any thread.

    Several registries form a chain: those included come after the registry's own works,
    in order, and an id may have a candidate in each (``lookup``).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._works: dict[str, AnyWork] = {}
        self._names: dict[str, AnyWork] = {}
        self._included: list[tuple[str, WorkRegistry]] = []
        self._declared: dict[str, Declaration] = {}
        self._changes = 0
        self._index = _Index(-1, {}, (), {})

    @classmethod
    def chain(cls, *registries: WorkRegistry) -> WorkRegistry:
        """One registry that asks these in order; follows what is registered in them later."""
        chained = cls()
        for registry in registries:
            chained.include("", registry)
        return chained

    def register(
        self,
        id: str,  # noqa: A002
        /,
        *,
        aliases: Iterable[str] = (),
        queue: str | None = None,
        priority: int | None = None,
        max_attempts: int | Unset | None = UNSET,
        backoff: Backoff | BackoffFunction | Unset | None = UNSET,
        timeout: Seconds | Unset | None = UNSET,
        expires: Seconds | Unset | None = UNSET,
        runner: Runner | None = None,
        max_rescues: int | Unset | None = UNSET,
        store_result: bool | None = None,
        transactional: bool = False,
        meta: Mapping[str, Any] | None = None,
    ) -> Registration:
        """Put the decorated function under this id; ``aliases`` are ids it had before.

        Options left out are the queue's, then the scheduler's; None for ``max_attempts``,
        ``backoff``, ``timeout``, ``expires`` or ``max_rescues`` says "no limit".
        ``timeout`` bounds each run, ``expires`` the time until it starts. ``runner`` is
        ``coroutine`` for async functions, else ``thread``, or ``process`` on request.
        ``transactional=True`` lets the work commit its own writes and its completion
        together. Wrong options raise ``InvalidArgument`` here, a taken id ``InvalidName``.
        """
        if callable(id):
            raise InvalidName(
                "register() got a function where the work id belongs; "
                "write @works.register('a.stable.id')",
                field="id",
            )
        if isinstance(aliases, str):
            raise InvalidName(
                f"aliases is the text {aliases!r}; pass a list: aliases=[{aliases!r}]",
                field="aliases",
            )
        options = WorkOptions.checked(
            queue=queue,
            priority=priority,
            max_attempts=max_attempts,
            backoff=backoff,
            timeout=timeout,
            expires=expires,
            runner=runner,
            max_rescues=max_rescues,
            store_result=store_result,
            transactional=transactional,
            meta=meta,
        )
        names = (check_work(id), *map(check_work, aliases))
        return Registration(self, names[0], names[1:], options)

    def command(
        self,
        id: str,  # noqa: A002
        program: str | os.PathLike[str],
        /,
        *,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        max_output: int = MAX_OUTPUT,
        ok_statuses: Iterable[int] = (0,),
        **options: Unpack[CommandOptions],
    ) -> CoroutineWork[..., CommandResult]:
        """A work that runs this program, and no other, without a shell.

        ``{name}`` in ``args`` is a param of the task, text or a number, and stays within
        its argument. A value with a leading ``-`` is refused where it could pass for an
        option. ``program`` is an absolute path, which must exist here, or a name that each
        node looks up in PATH. ``env`` adds to the node's own variables. The result has
        ``status``, ``stdout``, ``stderr`` and ``truncated``; ``max_output`` bytes of each
        stream are kept. A status outside ``ok_statuses`` is a failed attempt. A cancel or
        timeout ends the whole process group; a program outlives a node that is killed.

        >>> import asyncio
        >>> works = WorkRegistry()
        >>> greet = works.command("greet", "echo", args=["hello", "{name}"], timeout=10)
        >>> asyncio.run(greet(name="Ada"))["stdout"]
        'hello Ada\\n'
        """
        registration = self.register(id, **options)
        command = Command.checked(
            program, args=args, env=env, cwd=cwd, max_output=max_output, ok_statuses=ok_statuses
        )
        work = command_work(
            command,
            id=registration.id,
            aliases=registration.aliases,
            options=registration.options,
        )
        self._add(work)
        return work

    def recurring(
        self,
        id: str,  # noqa: A002
        trigger: Trigger,
        params: Mapping[str, Any] | None = None,
        /,
        **options: Unpack[DeclaredOptions],
    ) -> Callable[[W], W]:
        """Have the registered work below run again and again, on every start of a node.

        ``options`` are the rules of :class:`RuleOptions` and options of the children. A
        definition that is stored already like this keeps its rhythm; a lower ``version=``
        never replaces a higher one.
        """
        return declaring(self._declare, id, trigger, params, options)

    def declarations(self) -> Iterator[tuple[str, Declaration]]:
        """The recurring tasks declared here and in included registries, prefixes in their ids."""
        with self._lock:
            own, included = list(self._declared.items()), list(self._included)
        yield from own
        for prefix, registry in included:
            for name, declaration in registry.declarations():
                yield prefix + name, declaration

    def include(self, prefix: str, registry: WorkRegistry) -> None:
        """Offer another registry's works too, under ``prefix + id``; also those it gets later."""
        if registry is self or self in registry.family():
            raise InvalidArgument(
                "a registry cannot include itself, not even through others; "
                "include both in a third one",
                field="registry",
            )
        for name in registry.ids() or ("x",):
            check_work(prefix + name)
        with self._lock:
            self._included.append((prefix, registry))
            self._changes += 1

    @property
    def version(self) -> int:
        """Grows with every registration here or in an included registry."""
        return self._changes + sum(registry.version for _, registry in self._included)

    def lookup(self, work_id: str) -> tuple[AnyWork, ...]:
        """Every candidate for an id, first choice first; empty if there is none.

        One that answers ``Ignore()`` passes the task on to the next.
        """
        return self._current().found.get(work_id, ())

    def find(self, work_id: str) -> AnyWork | None:
        """The first candidate for an id, or None."""
        found = self.lookup(work_id)
        return found[0] if found else None

    def get(self, work_id: str) -> AnyWork:
        """The first candidate for an id; ``UnknownWork`` names those that look alike."""
        found = self.lookup(work_id)
        if found:
            return found[0]
        known = self.ids()
        raise UnknownWork(work_id, tuple(get_close_matches(str(work_id), known, 3)) or known)

    def id_of(self, work: AnyWork) -> str:
        """The id under which this registry offers a work, prefixes included."""
        name = self._current().names.get(work)
        if name is None:
            raise UnknownWork(work.id, self.ids())
        return name

    def ids(self) -> tuple[str, ...]:
        """Every id a task may carry to be run here, aliases included."""
        return self._current().ids

    def family(self) -> Iterator[WorkRegistry]:
        """The included registries, and theirs."""
        for _, registry in self._included:
            yield registry
            yield from registry.family()

    def __contains__(self, work: object) -> bool:
        if isinstance(work, Work):
            return work in self._current().names
        return work in self._current().found

    def __iter__(self) -> Iterator[AnyWork]:
        """Every work once, in the order of the chain."""
        return iter(self._current().names)

    def __len__(self) -> int:
        return len(self._current().names)

    def __bool__(self) -> bool:
        """An empty registry is still a registry."""
        return True

    def _declare(self, declaration: Declaration) -> None:
        with self._lock:
            if declaration.id in self._declared:
                raise InvalidName(
                    f"recurring task {declaration.id!r} is declared already, above "
                    f"{self._declared[declaration.id].work.location}; give each its own id",
                    field="id",
                )
            self._declared[declaration.id] = declaration

    def _add(self, work: AnyWork) -> None:
        with self._lock:
            names = (work.id, *work.aliases)
            for place, name in enumerate(names):
                taken = self._names.get(name)
                if taken is not None or name in names[:place]:
                    owner = taken.location if taken else work.location
                    raise InvalidName(
                        f"work id {name!r} is taken by {owner}; "
                        "give each function its own id and aliases",
                        field="aliases" if place else "id",
                    )
            self._works[work.id] = work
            self._names.update(dict.fromkeys(names, work))
            self._changes += 1

    def _offers(self) -> Iterator[tuple[str, AnyWork]]:
        """Every (name, work), own first, each work's id before its aliases."""
        with self._lock:
            own, included = list(self._names.items()), list(self._included)
        yield from own
        for prefix, registry in included:
            for name, work in registry._offers():  # noqa: SLF001 - of the same class
                yield prefix + name, work

    def _current(self) -> _Index:
        """The index, built anew when a registration came since."""
        # The version is read first: what is registered meanwhile costs one more build.
        version = self.version
        index = self._index
        if index.version != version:
            found: dict[str, tuple[AnyWork, ...]] = {}
            names: dict[AnyWork, str] = {}
            for name, work in self._offers():
                if work not in found.get(name, ()):
                    found[name] = (*found.get(name, ()), work)
                names.setdefault(work, name)
            index = self._index = _Index(version, found, tuple(found), names)
        return index


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """The decorator ``register()`` answers; its overloads tell type checkers what comes out."""

    registry: WorkRegistry
    id: str
    aliases: tuple[str, ...]
    options: WorkOptions

    # They overlap: the first that fits is meant, and the most special come first.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: AsyncWithContext[P, R]
    ) -> ContextWork[P, R]: ...
    @overload
    def __call__(self, fn: PlainWithContext[P, R]) -> BlockingContextWork[P, R]: ...
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, fn: AsyncWithout[P, R]
    ) -> CoroutineWork[P, R]: ...
    @overload
    def __call__(self, fn: PlainWithout[P, R]) -> PlainWork[P, R]: ...
    def __call__(self, fn: Any) -> Any:
        """Register the function; ``InvalidArgument`` if it could not be run."""
        work = make_work(fn, id=self.id, aliases=self.aliases, options=self.options)
        self.registry._add(work)  # noqa: SLF001 - the other half of register()
        return work
