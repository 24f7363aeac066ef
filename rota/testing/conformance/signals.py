"""Waking each other: who announces, who hears, who gives up waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable

from rota.core.ports import Repository, Signals
from rota.core.task import Lane
from rota.testing.conformance.setting import ContractBase, NodeHandle, a_task


class Listener:
    """A thread that waits on one node's signals and notes what it heard."""

    def __init__(self, signals: Signals, timeout: float = 20.0) -> None:
        self.heard: list[object] = []
        self._thread = threading.Thread(
            target=lambda: self.heard.append(signals.wait(timeout)), daemon=True
        )
        self._thread.start()

    def ended(self) -> bool:
        """Whether the wait has ended; gives it far more time than it may take."""
        self._thread.join(15.0)
        return not self._thread.is_alive()


class SignalsContract(ContractBase):
    """``signals``: hints, never promises; but a hint that was given wakes."""

    def test_an_announced_lane_wakes_another_node(
        self, make_node: Callable[[], NodeHandle]
    ) -> None:
        sender, receiver = make_node(), make_node()
        told = sender.repository.signals(sender.id)
        ear = receiver.repository.signals(receiver.id)
        try:
            listener = Listener(ear)
            sender.repository.insert([a_task(queue="mail", priority=3)])
            told.announce(lanes=[Lane("mail", 3, 0.0)])
            assert listener.ended()
            (wakeup,) = listener.heard
            assert wakeup is not None
        finally:
            told.close()
            ear.close()

    def test_what_was_announced_before_the_wait_is_not_lost(
        self, make_node: Callable[[], NodeHandle]
    ) -> None:
        sender, receiver = make_node(), make_node()
        ear = receiver.repository.signals(receiver.id)
        told = sender.repository.signals(sender.id)
        try:
            ear.wait(0.0)
            task = a_task(queue="mail")
            sender.repository.insert([task])
            told.announce(lanes=[Lane("mail", 0, 0.0)], tasks=[task.id])
            listener = Listener(ear)
            assert listener.ended()
            (wakeup,) = listener.heard
            assert wakeup is not None
        finally:
            told.close()
            ear.close()

    def test_a_wakeup_names_the_lane_or_says_everything(
        self, make_node: Callable[[], NodeHandle]
    ) -> None:
        sender, receiver = make_node(), make_node()
        ear = receiver.repository.signals(receiver.id)
        told = sender.repository.signals(sender.id)
        try:
            ear.wait(0.0)
            sender.repository.insert([a_task(queue="mail")])
            told.announce(lanes=[Lane("mail", 0, 0.0)])
            wakeup = ear.wait(20.0)
            assert wakeup is not None
            assert wakeup.everything or ("mail", 0) in {lane[:2] for lane in wakeup.lanes}
        finally:
            told.close()
            ear.close()

    def test_a_cancelled_task_is_announced_to_its_holder(
        self, make_node: Callable[[], NodeHandle]
    ) -> None:
        holder, other = make_node(), make_node()
        ear = holder.repository.signals(holder.id)
        told = other.repository.signals(other.id)
        try:
            task_id = self.put(other.repository, a_task())
            holder.claim_only()
            ear.wait(0.0)
            other.repository.cancel(task_id, "stop")
            told.announce(tasks=[task_id])
            wakeup = ear.wait(20.0)
            assert wakeup is not None
            assert wakeup.everything or task_id in wakeup.tasks
            assert [notice.id for notice in holder.repository.cancels(holder.id)] == [task_id]
        finally:
            told.close()
            ear.close()

    def test_who_is_asked_to_look_wakes_for_everything(
        self, make_node: Callable[[], NodeHandle]
    ) -> None:
        sender, receiver = make_node(), make_node()
        told = sender.repository.signals(sender.id)
        ear = receiver.repository.signals(receiver.id)
        try:
            assert ear.hears
            ear.wait(0.0)
            sender.repository.insert([a_task()])
            told.announce(everything=True)
            wakeup = ear.wait(20.0)
            assert wakeup is not None
            assert wakeup.everything
        finally:
            told.close()
            ear.close()

    def test_an_interrupt_ends_a_wait(self, node: NodeHandle) -> None:
        ear = node.repository.signals(node.id)
        try:
            listener = Listener(ear)
            ear.interrupt()
            assert listener.ended()
        finally:
            ear.close()

    def test_an_interrupt_before_the_wait_is_not_lost(self, node: NodeHandle) -> None:
        ear = node.repository.signals(node.id)
        try:
            ear.interrupt()
            assert Listener(ear).ended()
        finally:
            ear.close()

    def test_a_wait_in_which_nothing_was_said_ends_with_none(
        self, repository: Repository, node: NodeHandle
    ) -> None:
        ear = node.repository.signals(node.id)
        try:
            assert ear.wait(0.0) is None
        finally:
            ear.close()
        assert repository.nodes() != []
