"""Recurring tasks stated in code, above the work they run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from rota.core.codec import check_mapping
from rota.core.names import check_key
from rota.core.rulebook import RuleOptions, make_rules
from rota.errors import InvalidArgument, InvalidTrigger
from rota.registry.options import WorkOptions
from rota.registry.work import Work
from rota.triggers import Trigger

if TYPE_CHECKING:
    from rota.core.backoff import Backoff, BackoffFunction
    from rota.core.clock import Seconds

W = TypeVar("W", bound=Work[..., Any])

_RULES = frozenset(RuleOptions.__annotations__)


class DeclaredOptions(RuleOptions, total=False):
    """The rules of a declared recurring task, and the options of its children."""

    queue: str
    priority: int
    max_attempts: int | None
    backoff: Backoff | BackoffFunction | None
    timeout: Seconds | None
    expires: Seconds | None
    max_rescues: int | None
    store_result: bool
    meta: dict[str, Any] | None


@dataclass(frozen=True, slots=True, eq=False)
class Declaration:
    """One recurring task of the code; ``options`` are rules and options as they were said."""

    id: str
    work: Work[..., Any]
    trigger: Trigger
    params: dict[str, Any]
    options: Mapping[str, Any]


def declaring(
    add: Callable[[Declaration], object],
    recurring_id: str,
    trigger: Trigger,
    params: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> Callable[[W], W]:
    """The decorator of ``WorkRegistry.recurring``; what is wrong is refused here and now."""
    name = check_key(recurring_id, "id")
    if isinstance(trigger, type) or not isinstance(trigger, Trigger):
        raise InvalidTrigger(
            f"trigger is {trigger!r}; pass a trigger, for example Every(60) or Cron('0 3 * * *')",
            field="trigger",
        )
    make_rules(**{key: value for key, value in options.items() if key in _RULES})
    own = {key: value for key, value in options.items() if key not in _RULES}
    for key in own:
        if key not in DeclaredOptions.__annotations__:
            raise InvalidArgument(
                f"{key!r} is no option of a declared recurring task; they are "
                f"{', '.join(sorted(DeclaredOptions.__annotations__))}",
                field=key,
            )
    WorkOptions.checked(**own)

    def decorate(work: W) -> W:
        if not isinstance(work, Work):
            raise InvalidArgument(
                f"recurring task {name!r} stands above {work!r}, which is no work; "
                "write @works.recurring(…) above @works.register(…)",
                field="work",
            )
        given = check_mapping(dict(params or {}), "params")
        add(Declaration(name, work, trigger, work.signature.adopt(given), dict(options)))
        return work

    return decorate
