"""Threads against each other about one definition: each fire time is still decided once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from functools import partial

from rota.core.ports import Repository
from rota.core.recurring import Definition, Fire, Put, Rules
from rota.core.task import Ending, NewTask, Stored
from rota.testing.conformance.racing import race, together
from rota.testing.conformance.recurring import (
    HOUR,
    a_definition,
    a_tick,
    fire_one,
    the_definition,
)
from rota.testing.conformance.setting import ContractBase, NodeHandle, OpenRepository

ROUNDS = 15
NAMES = tuple(f"n{number:02}" for number in range(12))


class FiringRaceContract(ContractBase):
    """The race table's lines about recurring tasks."""

    def test_of_nodes_that_fire_the_same_ticks_one_makes_each_child(
        self, open_repository: OpenRepository
    ) -> None:
        handles = [open_repository() for _ in range(4)]
        at = handles[0].now() - ROUNDS * HOUR
        for name in NAMES:
            handles[0].put_recurring(a_definition(at, id=name))

        last = at + (ROUNDS - 1) * HOUR

        def fire_all(repository: Repository, *, backwards: bool) -> Counter[tuple[str, datetime]]:
            """What is due, until nothing is."""
            made: Counter[tuple[str, datetime]] = Counter()
            while due := repository.due_recurring(0, 100)[0]:
                ticks = [_planned(one, last) for one in (due[::-1] if backwards else due)]
                answers = repository.fire(ticks)
                for (tick, _), answer in zip(ticks, answers, strict=True):
                    made[tick.recurring, tick.fire_at] += answer.created
            return made

        calls = [partial(fire_all, one, backwards=n % 2 == 1) for n, one in enumerate(handles)]
        made = sum(together(calls), Counter[tuple[str, datetime]]())
        assert made == {(name, at + n * HOUR): 1 for name in NAMES for n in range(ROUNDS)}
        assert handles[0].counts()["scheduled"] == len(made)
        for name in NAMES:
            told = [one.fire_at for one in handles[0].decisions(name, 100)]
            assert told == [last - n * HOUR for n in range(ROUNDS)]
            assert the_definition(handles[0], name).runs == ROUNDS

    def test_of_a_change_and_a_fire_no_child_is_of_a_definition_that_was_gone(
        self, open_repository: OpenRepository
    ) -> None:
        firing, changing = open_repository(), open_repository()
        at = firing.now() - ROUNDS * HOUR
        for n in range(ROUNDS):
            firing.put_recurring(a_definition(at + n * HOUR, rules=_a_rule(n)))
            planned = the_definition(firing)
            assert planned.next_fire_at is not None
            tick = a_tick(planned.next_fire_at, version=planned.version)
            fired, changed = race(
                partial(fire_one, firing, tick),
                lambda n=n: changing.put_recurring(  # type: ignore[misc]
                    a_definition(at, params=f'{{"n":{n + 2}}}', rules=_a_rule(n))
                ),
            )
            assert changed is Put.CHANGED
            told = [one.version for one in firing.decisions("nightly", 100)]
            assert told.count(planned.version) == fired.created
            assert the_definition(firing).version == planned.version + 1

    def test_of_a_pause_and_a_fire_no_tick_is_decided_after_the_pause(
        self, open_repository: OpenRepository
    ) -> None:
        firing, pausing = open_repository(), open_repository()
        at = firing.now() - 100 * HOUR
        for n in range(ROUNDS):
            name = f"r{n}"
            firing.put_recurring(a_definition(at, id=name))

            def fire_on(name: str = name) -> int:
                return sum(
                    fire_one(firing, a_tick(at + n * HOUR, recurring=name)).created
                    for n in range(8)
                )

            def pause(name: str = name) -> int:
                assert pausing.pause_recurring(name) is True
                return the_definition(pausing, name).runs

            made, seen = race(fire_on, pause)
            assert made == seen == the_definition(firing, name).runs
            assert len(firing.decisions(name, 10)) == made

    def test_of_a_removal_and_a_fire_the_child_is_there_or_nothing_is(
        self, open_repository: OpenRepository
    ) -> None:
        firing, removing = open_repository(), open_repository()
        at = firing.now()
        for n in range(ROUNDS):
            name = f"r{n}"
            firing.put_recurring(a_definition(at, id=name))
            tick = a_tick(at, recurring=name)
            fired, removed = race(
                partial(fire_one, firing, tick), partial(removing.remove_recurring, name)
            )
            assert removed
            assert firing.get_recurring(name) is None
            made = {tick[1].id} if fired.created else set()
            assert firing.states([tick[1].id]).keys() == made
            assert len(firing.decisions(name, 10)) == len(made) == firing.outstanding(name)

    def test_of_a_resumption_and_another_exactly_one_goes_on(
        self, open_repository: OpenRepository
    ) -> None:
        handles = [open_repository() for _ in range(3)]
        at = handles[0].now()
        missed = Fire("nightly", at, at + HOUR, at, "missed", 1)
        handles[0].put_recurring(a_definition(at))
        handles[0].pause_recurring("nightly")
        answers = together(
            [partial(one.resume_recurring, "nightly", at, at + HOUR, missed) for one in handles]
        )
        assert sorted(answers) == [False, False, True]
        (told,) = handles[0].decisions("nightly", 10)
        assert told.count == 1

    def test_a_child_that_ends_while_the_next_is_decided_leaves_no_two_at_once(
        self, open_repository: OpenRepository, make_node: Callable[[], NodeHandle]
    ) -> None:
        """Either order is right; with ``queue`` what had to wait comes with the next look."""
        firing, node = open_repository(), make_node()
        at = firing.now() - 200 * HOUR
        firing.put_recurring(a_definition(at))
        fire_one(firing, a_tick(at, overlap="skip"))
        for n in range(1, ROUNDS):
            claimed = node.claim_only()
            tick = a_tick(at + n * HOUR, overlap="skip")
            fired, ended = race(partial(fire_one, firing, tick), partial(node.end, claimed))
            assert ended is Stored.DONE
            assert fired.decision in {"fired", "skipped"}
            assert firing.outstanding("nightly") == fired.created
            if not fired.created:
                by_hand = a_tick(at + n * HOUR, expected=None, decision="triggered")
                assert fire_one(firing, by_hand).created

    def test_of_nodes_that_fire_and_end_children_never_two_are_unfinished(
        self, open_repository: OpenRepository, make_node: Callable[[], NodeHandle]
    ) -> None:
        handles = [open_repository() for _ in range(2)]
        nodes = [make_node() for _ in range(2)]
        at = handles[0].now() - 200 * HOUR
        handles[0].put_recurring(a_definition(at))

        def fire_on(repository: Repository) -> int:
            """Tick after tick, each as the definition stands; how many children it made."""
            made = 0
            for _ in range(40):
                expected = the_definition(repository).next_fire_at
                assert expected is not None
                made += fire_one(repository, a_tick(expected, overlap="skip")).created
            return made

        def work_on(node: NodeHandle) -> int:
            """How many children were there at once, at most."""
            most = 0
            for _ in range(60):
                most = max(most, node.repository.outstanding("nightly"))
                for claimed in node.claim(5):
                    assert node.end(claimed) is Stored.DONE
            return most

        made_a, made_b, most_a, most_b = together(
            [*(partial(fire_on, one) for one in handles), *(partial(work_on, one) for one in nodes)]
        )
        assert max(most_a, most_b) <= 1
        told = handles[0].decisions("nightly", 1000)
        assert [one.decision for one in told].count("fired") == made_a + made_b
        assert len({one.fire_at for one in told}) == len(told)
        assert the_definition(handles[0]).next_fire_at == at + len(told) * HOUR

    def test_a_child_that_ends_its_recurrence_is_not_held_up_by_its_successor(
        self, open_repository: OpenRepository, make_node: Callable[[], NodeHandle]
    ) -> None:
        """Both want the definition's row and the child's key, each in its own order."""
        firing, node = open_repository(), make_node()
        at = firing.now() - 100 * HOUR
        for n in range(ROUNDS):
            name = f"r{n}"
            firing.put_recurring(a_definition(at, id=name))
            key = {"unique": name, "on_conflict": "return"}
            fire_one(firing, a_tick(at, recurring=name, child=key))
            claimed = node.claim_only()
            tick = a_tick(at + HOUR, recurring=name, child=key)
            fired, ended = race(
                partial(fire_one, firing, tick),
                partial(node.end, claimed, Ending.CANCELLED, end_recurring=True),
            )
            assert ended is Stored.CANCELLED
            assert the_definition(firing, name).next_fire_at is None
            told = [one for one in firing.decisions(name, 10) if one.fire_at == at + HOUR]
            assert len(told) == (fired.decision is not None)
            for child in node.claim(5):
                node.end(child)


def _planned(definition: Definition, last: datetime) -> tuple[Fire, NewTask]:
    """The tick that is next, the last one ending the recurrence."""
    assert definition.next_fire_at is not None
    following = None if definition.next_fire_at >= last else definition.next_fire_at + HOUR
    return a_tick(definition.next_fire_at, recurring=definition.id, following=following)


def _a_rule(n: int) -> str:
    """Rules whose bounds differ from round to round, so that they take a new fire time."""
    return Rules(max_runs=100 + n).encode()
