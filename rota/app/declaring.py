"""State the recurring tasks of the code, once at each start of a node."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rota.control.recurring import split
from rota.core.recurring import Put, Rules
from rota.errors import InvalidName, InvalidTrigger

if TYPE_CHECKING:
    from rota.app.house import House
    from rota.registry.declaration import Declaration

log: logging.Logger = logging.getLogger("rota.recurring")


def declare(house: House) -> None:
    """Put every declared definition; in a thread.

    The same content writes nothing. A lower ``version=`` than the stored one gives way.
    With an equal version and other content this start wins, and says so: nobody writes a
    definition again after its start, so two versions of the code do not take turns.
    """
    seen: set[str] = set()
    for recurring_id, declaration in house.works.declarations():
        if recurring_id in seen:
            raise InvalidName(
                f"recurring task {recurring_id!r} is declared twice; give each its own id",
                field="id",
            )
        seen.add(recurring_id)
        _declare(house, recurring_id, declaration)


def _declare(house: House, recurring_id: str, declaration: Declaration) -> None:
    rules, options = split(declaration.options)
    work_id = house.works.id_of(declaration.work)
    request = house.requests.make(work_id, declaration.params, options)
    stored = house.repository.get_recurring(recurring_id)
    try:
        put = house.recurring.put(recurring_id, request, declaration.trigger, rules)
    except InvalidTrigger as error:
        # A date that has passed must not keep the service from starting.
        log.warning("recurring task %r is not added: %s", recurring_id, error)
        return
    if stored is None or put is Put.SAME:
        return
    known = Rules.decode(stored.rules).version
    if put is Put.OLDER:
        log.warning(
            "recurring task %r is kept as it is stored: it states version %d and this code %d",
            recurring_id,
            known,
            rules.version,
        )
    elif known == rules.version:
        log.warning(
            "recurring task %r was stored differently under the same version (%d) and is "
            "replaced; raise version= with each change, so that older code gives way",
            recurring_id,
            known,
        )
