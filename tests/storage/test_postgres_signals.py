"""Notifications between nodes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest

from rota.core.clock import SystemClock
from rota.core.ids import new_id, new_incarnation
from rota.core.task import Lane
from rota.storage.postgres import PostgresRepository
from rota.storage.postgres.signals import Heard, PostgresSignals

pytestmark = pytest.mark.postgres

LONG = 20.0
OpenSignals = Callable[..., PostgresSignals]


@pytest.fixture
def open_signals(open_postgres: Callable[..., PostgresRepository]) -> Iterator[OpenSignals]:
    opened: list[PostgresSignals] = []

    def open_another(**options: object) -> PostgresSignals:
        signals = open_postgres(SystemClock(), **options).signals(new_incarnation())
        assert isinstance(signals, PostgresSignals)
        opened.append(signals)
        return signals

    yield open_another
    for signals in opened:
        signals.close()


def test_lanes_and_tasks_arrive_in_another_node(open_signals: OpenSignals) -> None:
    here, there = open_signals(), open_signals()
    task_id = new_id()
    here.announce(lanes=[Lane("mail", 3, 1.5)], tasks=[task_id])
    assert there.wait(LONG) == Heard((Lane("mail", 3, 1.5),), (task_id,), False)


def test_a_node_does_not_hear_itself(open_signals: OpenSignals) -> None:
    here, there = open_signals(), open_signals()
    here.announce(lanes=[Lane("mine", 0, 0.0)])
    there.announce(lanes=[Lane("theirs", 0, 0.0)])
    heard = here.wait(LONG)
    assert heard is not None
    assert [lane.queue for lane in heard.lanes] == ["theirs"]


def test_what_is_announced_while_the_listener_waits_is_sent_by_it(
    open_signals: OpenSignals,
) -> None:
    here, there = open_signals(), open_signals()
    thread = threading.Thread(target=here.wait, args=(LONG,))
    thread.start()
    here.announce(lanes=[Lane("mail", 0, 0.0)])
    assert there.wait(LONG) == Heard((Lane("mail", 0, 0.0),))
    here.interrupt()
    thread.join(LONG)
    assert not thread.is_alive()


def test_a_flood_is_a_few_notifications(
    open_signals: OpenSignals, stranger: psycopg.Connection
) -> None:
    here, there = open_signals(), open_signals()
    with here._turn:  # as while the listener's thread is busy
        for number in range(50):
            here.announce(lanes=[Lane("mail", number % 2, float(50 - number))])
    here.wait(0.0)
    heard = there.wait(LONG)
    assert heard == Heard((Lane("mail", 0, 2.0), Lane("mail", 1, 1.0)))
    assert there.wait(0.0) is None


def test_too_much_to_say_is_said_as_everything(open_signals: OpenSignals) -> None:
    here, there = open_signals(), open_signals()
    here.announce(tasks=[new_id() for _ in range(500)])
    assert there.wait(LONG) == Heard(everything=True)


def test_who_is_to_look_at_everything_is_told_so(open_signals: OpenSignals) -> None:
    here, there = open_signals(), open_signals()
    here.announce(lanes=[Lane("mail", 0, 0.0)], everything=True)
    assert there.wait(LONG) == Heard((), (), True)


def test_without_a_connection_it_hears_nothing(
    open_signals: OpenSignals, stranger: psycopg.Connection
) -> None:
    assert not open_signals(poll_only=True).hears
    signals = open_signals()
    assert signals.hears
    assert signals._connection is not None
    pid, connect = signals._connection.info.backend_pid, signals._connect

    def refused() -> psycopg.Connection:
        raise psycopg.OperationalError

    signals._connect = refused
    stranger.execute("select pg_terminate_backend(%s)", (pid,))
    while signals.hears:
        assert signals.wait(0.01) is None
    signals._connect = connect
    assert signals.wait(LONG) == Heard((), (), True)
    assert signals.hears


def test_after_a_lost_connection_everything_may_have_been_missed(
    open_signals: OpenSignals, stranger: psycopg.Connection
) -> None:
    here, there = open_signals(), open_signals()
    assert there._connection is not None
    pid = there._connection.info.backend_pid
    assert stranger.execute("select pg_terminate_backend(%s, 10000)", (pid,)).fetchone() == (True,)
    here.announce(lanes=[Lane("lost", 0, 0.0)])
    assert there.wait(LONG) == Heard(everything=True)
    here.announce(lanes=[Lane("mail", 0, 0.0)])
    assert there.wait(LONG) == Heard((Lane("mail", 0, 0.0),))


def test_a_message_nobody_understands_means_everything(
    open_signals: OpenSignals, stranger: psycopg.Connection
) -> None:
    there = open_signals()
    stranger.execute("select pg_notify(%s, 'gibberish')", (there._channel,))
    stranger.commit()
    assert there.wait(LONG) == Heard(everything=True)


def test_what_was_announced_last_is_sent_at_closing(open_signals: OpenSignals) -> None:
    here, there = open_signals(), open_signals()
    here._turn.acquire()  # so that the announcing thread cannot send it itself
    here.announce(lanes=[Lane("mail", 0, 0.0)])
    here._turn.release()
    here.close()
    here.close()
    assert there.wait(LONG) == Heard((Lane("mail", 0, 0.0),))


def test_closing_ends_a_wait(open_signals: OpenSignals) -> None:
    here = open_signals()
    heard: list[object] = []
    thread = threading.Thread(target=lambda: heard.append(here.wait(LONG)))
    thread.start()
    here.close()
    thread.join(LONG)
    assert heard == [None]


def test_behind_a_pooler_nothing_is_sent_and_a_wait_can_be_ended(
    open_signals: OpenSignals,
) -> None:
    pooled, direct = open_signals(poll_only=True), open_signals()
    pooled.announce(lanes=[Lane("mail", 0, 0.0)])
    assert pooled._connection is None
    assert direct.wait(0.0) is None
    thread = threading.Thread(target=pooled.wait, args=(LONG,))
    thread.start()
    pooled.interrupt()
    thread.join(LONG)
    assert not thread.is_alive()
