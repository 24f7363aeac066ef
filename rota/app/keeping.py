"""State how long history is kept, once at each start that says something about it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rota.core.retention import Retention

if TYPE_CHECKING:
    from rota.app.house import House

log: logging.Logger = logging.getLogger("rota.history")


def state_keeping(house: House) -> None:
    """Write down what this start says of retention and archive, for all nodes; in a thread.

    What it leaves out stays as it is. A client archives nothing, so it asks for no archive.
    """
    said, archive = house.settings.retention, house.settings.archive
    archives = None if archive is None else archive is not False
    if archives and house.settings.client_only:
        archives = None
    if said is None and archives is None:
        return
    before = house.repository.keep(said, archives)
    if said not in {None, before.retention}:
        # Another start had said otherwise: in a fleet the two would take turns.
        changed = before.retention != Retention()
        log.log(
            logging.WARNING if changed else logging.INFO,
            "history is kept for %s from now on, on all nodes; it was %s",
            said,
            before.retention,
        )
    if before.archive and archives is False:
        log.warning("history past its retention is dropped from now on without an archive")
