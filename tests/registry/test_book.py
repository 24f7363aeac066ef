"""Looking works up: aliases, prefixes, chains, and registries that grow."""

from __future__ import annotations

import threading

import pytest

from rota.errors import InvalidArgument, InvalidName, UnknownWork
from rota.registry import WorkRegistry
from tests.registry import functions as f


def test_a_work_is_found_by_id_and_alias() -> None:
    works = WorkRegistry()
    send = works.register("invoice.send", aliases=["send_invoice"])(f.send)

    assert works.lookup("invoice.send") == (send,)
    assert works.lookup("send_invoice") == (send,)
    assert works.get("send_invoice") is send
    assert works.find("invoice.send") is send
    assert works.ids() == ("invoice.send", "send_invoice")
    assert "send_invoice" in works
    assert send in works
    assert list(works) == [send]
    assert len(works) == 1


def test_an_unknown_id_names_what_looks_alike() -> None:
    works = WorkRegistry()
    works.register("invoice.send")(f.send)
    works.register("report.build")(f.add)

    assert works.lookup("nope") == ()
    assert works.find("nope") is None
    assert "nope" not in works
    with pytest.raises(UnknownWork) as caught:
        works.get("invoce.send")
    assert "invoice.send" in str(caught.value)
    assert "report.build" not in str(caught.value)
    with pytest.raises(UnknownWork, match=r"known are invoice.send, report.build"):
        works.get("zzz")
    with pytest.raises(UnknownWork, match="nothing is registered"):
        WorkRegistry().get("zzz")


def test_an_empty_registry_is_true() -> None:
    assert WorkRegistry()
    assert len(WorkRegistry()) == 0


class TestPrefix:
    def test_names_get_it_and_works_keep_theirs(self) -> None:
        billing, works = WorkRegistry(), WorkRegistry()
        send = billing.register("send", aliases=["post"])(f.send)
        works.include("billing.", billing)

        assert works.ids() == ("billing.send", "billing.post")
        assert works.get("billing.post") is send
        assert works.find("send") is None
        assert works.id_of(send) == "billing.send"
        assert billing.id_of(send) == "send"
        assert send in works

    def test_prefixes_add_up(self) -> None:
        inner, middle, outer = WorkRegistry(), WorkRegistry(), WorkRegistry()
        add = inner.register("add")(f.add)
        middle.include("b.", inner)
        outer.include("a.", middle)

        assert outer.ids() == ("a.b.add",)
        assert outer.id_of(add) == "a.b.add"

    def test_one_registry_under_two_prefixes_counts_its_works_once(self) -> None:
        inner, outer = WorkRegistry(), WorkRegistry()
        add = inner.register("add")(f.add)
        outer.include("a.", inner)
        outer.include("b.", inner)

        assert outer.ids() == ("a.add", "b.add")
        assert outer.id_of(add) == "a.add"
        assert len(outer) == 1

    def test_a_prefix_that_makes_bad_names_is_refused(self) -> None:
        inner = WorkRegistry()

        with pytest.raises(InvalidName):
            WorkRegistry().include("a b", inner)
        inner.register("x" * 199)(f.add)
        with pytest.raises(InvalidName):
            WorkRegistry().include("abc", inner)

    def test_a_work_of_another_registry_has_no_id_here(self) -> None:
        send = WorkRegistry().register("send")(f.send)

        with pytest.raises(UnknownWork):
            WorkRegistry().id_of(send)


class TestChain:
    def test_candidates_come_in_order(self) -> None:
        first, second = WorkRegistry(), WorkRegistry()
        one = first.register("a")(f.add)
        two = second.register("a")(f.ping)
        other = second.register("b")(f.nothing)
        works = WorkRegistry.chain(first, second)

        assert works.lookup("a") == (one, two)
        assert works.get("a") is one
        assert works.lookup("b") == (other,)
        assert list(works) == [one, two, other]

    def test_own_works_come_before_included_ones(self) -> None:
        works, other = WorkRegistry(), WorkRegistry()
        theirs = other.register("a")(f.ping)
        works.include("", other)
        own = works.register("a")(f.add)

        assert works.lookup("a") == (own, theirs)

    def test_the_same_work_is_no_second_candidate(self) -> None:
        works = WorkRegistry()
        add = works.register("a")(f.add)

        assert WorkRegistry.chain(works, works).lookup("a") == (add,)

    def test_a_circle_is_refused(self) -> None:
        outer, middle, inner = WorkRegistry(), WorkRegistry(), WorkRegistry()
        outer.include("", middle)
        middle.include("", inner)

        for registry in (inner, middle, outer):
            with pytest.raises(InvalidArgument, match=r"cannot include itself, .*; include both"):
                inner.include("", registry)


class TestVersion:
    def test_it_grows_with_every_registration_and_lookups_follow(self) -> None:
        inner, middle, outer = WorkRegistry(), WorkRegistry(), WorkRegistry()
        seen = [outer.version]
        middle.include("m.", inner)
        outer.include("o.", middle)
        seen.append(outer.version)
        assert outer.find("o.m.add") is None

        add = inner.register("add")(f.add)
        seen.append(outer.version)
        own = outer.register("own")(f.ping)
        seen.append(outer.version)

        assert seen == sorted(set(seen))
        assert outer.find("o.m.add") is add
        assert outer.find("own") is own

    def test_it_stays_when_nothing_changes(self) -> None:
        works = WorkRegistry()
        works.register("a")(f.add)
        before = works.version
        works.lookup("a")
        works.find("b")

        assert works.version == before

    def test_registrations_from_many_threads_are_all_found(self) -> None:
        inner = WorkRegistry()
        works = WorkRegistry.chain(inner)
        lost: list[str] = []

        def register(prefix: str) -> None:
            for number in range(50):
                work = inner.register(f"{prefix}.{number}")(f.nothing)
                if works.find(work.id) is not work:
                    lost.append(work.id)

        threads = [threading.Thread(target=register, args=(f"t{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert lost == []
        assert len(works.ids()) == 200
