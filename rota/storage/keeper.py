"""Keeps the history's house in a thread of its own, so that neither claims nor the loop wait."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

from rota.core.archiving import Archive, ArchivedTask
from rota.core.clock import Clock
from rota.core.duty import Duty
from rota.core.eventlog import about
from rota.core.finding import TaskFilter
from rota.core.ports import Repository
from rota.errors import DamagedTask
from rota.storage.archiving import Moving

log: logging.Logger = logging.getLogger("rota.history")

#: A turn lasts no longer in seconds: after that the chore may be another node's.
TURN = 240.0
#: So many batches in a row that the archive does not take end the turn's archiving.
TRIES = 3
#: After an error of the database a turn goes on, at last after so many seconds.
_LONGEST_PAUSE = 60.0
#: History may be past its retention for so long before it is said that nobody archives it.
_PATIENCE = timedelta(days=1)


class Keeper:
    """Takes a turn when a chore says so: hands over what is past its retention, and tidies.

    Without an ``archive`` it only tidies. What the archive raises is logged once, until it takes
    a batch again; what it did not take stays and comes again in another turn. The thread is
    there for a turn only, and so is what it holds of the database.
    """

    def __init__(
        self, *, repository: Repository, clock: Clock, archive: Archive | None = None
    ) -> None:
        self._repository = repository
        self._clock = clock
        self._moving = archive and Moving(
            repository=repository, archive=archive, on_damaged=self._pass_over
        )
        self._damaged: set[str] = set()  #: told of already
        self._duty: Duty | None = None
        self._in_hand: list[ArchivedTask] = []  #: with the archive, just now
        self._failures = 0
        self._stopped = False
        self._left_over = False
        self.behind = False  #: whether the last turn ended before its work did

    @property
    def archives(self) -> bool:
        """Whether it has an archive."""
        return self._moving is not None

    def begin(self, *, archive: bool) -> None:
        """Have a turn begin in a thread of its own, unless one is still on or all is to end."""
        if self._stopped:
            return
        if self._duty is not None and not self._duty.join(0):
            return
        until = self._clock.monotonic() + TURN

        def going() -> bool:
            return not duty.stopping and self._clock.monotonic() < until

        def step() -> float:
            self.behind = True
            if going():
                self.turn(archive=archive, going=going)
            self.behind = not going()
            duty.stop()
            return 0.0

        duty = Duty(name="rota-keeper", step=step, clock=self._clock, longest_pause=_LONGEST_PAUSE)
        self._duty = duty
        duty.start()

    def stop(self) -> None:
        """End a turn after the batch in hand, and begin no other."""
        self._stopped = True
        if self._duty is not None:
            self._duty.stop()

    def join(self, timeout: float) -> None:
        """Wait for a turn's end; one that takes longer is left to itself."""
        if self._duty is not None and self._duty.started and not self._duty.join(timeout):
            log.warning(
                "the archive has not answered for %d tasks at shutdown; they stay, "
                "and are handed over again",
                len(self._in_hand),
            )

    def turn(self, *, archive: bool, going: Callable[[], bool] = lambda: True) -> None:
        """One turn, in the calling thread; it ends early when ``going`` says so."""
        if archive and self._moving is not None:
            for where in self._repository.outdated():
                self._archive(self._moving, where, going)
        while going() and self._repository.tidy():
            pass
        if not self.archives and going():
            self._look_for_leftovers()

    def _archive(self, moving: Moving, where: TaskFilter, going: Callable[[], bool]) -> None:
        in_a_row = moved = 0
        for batch in moving.batches(where):
            if not going() or in_a_row == TRIES:
                break
            if self._taken(moving, batch):
                in_a_row = 0
                moved += moving.remove(batch, where)
            else:
                in_a_row += 1
        if moved:
            log.info(
                "archived %d tasks past their retention",
                moved,
                extra=about("archived", tasks=moved),
            )

    def _taken(self, moving: Moving, batch: list[ArchivedTask]) -> bool:
        """Hand it over; whether the archive took it."""
        self._in_hand = batch
        try:
            moving.hand_over(batch)
        except BaseException as error:
            # Whatever the service's function does, this thread goes on.
            self._failures += 1
            log.log(
                logging.WARNING if self._failures == 1 else logging.DEBUG,
                "the archive raised %s: %s; finished tasks past their retention stay until it "
                "takes them, and are handed over again",
                type(error).__name__,
                error,
                exc_info=error if self._failures == 1 else None,
                extra=about("archive_failed", tasks=len(batch)),
            )
            return False
        finally:
            self._in_hand = []
        if self._failures:
            log.info("the archive goes on after %d failures", self._failures)
            self._failures = 0
        return True

    def _pass_over(self, error: DamagedTask) -> None:
        """Say once of each that it stays: nobody can be told what it was."""
        if error.task_id not in self._damaged:
            self._damaged.add(error.task_id)
            fields = about("not_archived", task_id=error.task_id)
            log.warning("a finished task is not archived and stays: %s", error, extra=fields)

    def _look_for_leftovers(self) -> None:
        """Say once that history waits for an archive that no node has."""
        if not self._repository.keeping().archive:
            self._left_over = False
        elif not self._left_over and any(map(self._waits, self._repository.outdated())):
            self._left_over = True
            log.warning(
                "finished tasks are more than %d day past their retention and wait for the "
                "archive that a node once had; start one with archive=, or give it up for all "
                "with archive=False (rota history retention --no-archive)",
                _PATIENCE.days,
                extra=about("not_archived"),
            )

    def _waits(self, where: TaskFilter) -> bool:
        if where.finished_before is None:
            return False
        long_ago = replace(where, finished_before=where.finished_before - _PATIENCE)
        return bool(self._repository.find(long_ago, 1))
