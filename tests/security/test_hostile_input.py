"""Hostile text through the verbs: refused by the name of its field, or kept exactly."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest

from rota import TaskSpec, Unique
from rota.core.recurring import Definition
from rota.core.task import Ending, Membership
from rota.errors import DataRefused, InvalidArgument, PayloadTooLarge, RotaError
from rota.testing.conformance.setting import PLAIN, NodeHandle, a_task
from tests.conftest import Database
from tests.security.hostile import STORABLE, UNSTORABLE, deep
from tests.security.sweep import book, calls, verbs

PATIENCE = 30
EVERYTHING = [*STORABLE, *UNSTORABLE]


async def test_params_results_meta_and_keys_are_kept_exactly(database: Database) -> None:
    async with database.scheduler(book(), concurrency=50) as scheduler:
        handles = [
            await scheduler.schedule(
                "echo", {"text": text}, meta={"m": text, text: [text]}, unique=text
            )
            for text in STORABLE
        ]
        for text, handle in zip(STORABLE, handles, strict=True):
            assert await handle.result(timeout=PATIENCE) == text
            task = await handle.info()
            assert (task.params, task.meta) == ({"text": text}, {"m": text, text: [text]})
            found = await scheduler.find(meta={"m": text})
            assert [one.id for one in found] == [handle.id]
            waits = await scheduler.schedule("echo", {"text": ""}, unique=text, delay=3600)
            held = await scheduler.find(unique=text)
            assert (held.id, held.unique) == (waits.id, text)


async def test_what_cannot_be_kept_is_refused_by_its_field(database: Database) -> None:
    async with database.scheduler(book(), queues=[]) as scheduler:
        for text in UNSTORABLE:
            for field, how in (
                ("params.text", {"params": {"text": text}}),
                ("meta.m", {"meta": {"m": text}}),
                ("meta", {"meta": {text: 1}}),
                ("unique", {"unique": text}),
                ("unique", {"unique": Unique(text, period=60)}),
                ("id", {"id": text}),
                ("queue", {"queue": text}),
            ):
                asked: dict[str, Any] = {"params": {"text": ""}, **how}
                with pytest.raises(InvalidArgument) as caught:
                    await scheduler.schedule("echo", **asked)
                assert caught.value.field.split(".")[0] == field.split(".")[0]
                many = {name: asked.pop(name) for name in ("params",)}
                with pytest.raises(InvalidArgument):
                    await scheduler.schedule_many([TaskSpec("echo", **many)], **asked)
        assert set((await scheduler.counts()).values()) == {0}


async def test_what_ends_a_task_is_kept_or_made_keepable(database: Database) -> None:
    """An outcome is never lost for its words: half characters and NULs are replaced."""
    async with database.scheduler(book(), concurrency=50) as scheduler:
        for work in ("fail", "break"):
            handles = [await scheduler.schedule(work, {"text": one}) for one in STORABLE]
            for text, handle in zip(STORABLE, handles, strict=True):
                await handle.wait(timeout=PATIENCE)
                task = await handle.info()
                assert task.state == "failed"
                assert text.strip() in str(task.reason) + str(task.error)


async def test_every_verb_answers_or_refuses_in_rotas_own_words(database: Database) -> None:
    tried = 0
    async with database.scheduler(book(), queues=[]) as scheduler:
        keep = await scheduler.schedule("echo", {"text": "kept"}, delay=3600)
        for name in verbs():
            for text in EVERYTHING:
                for how in calls(name, text):
                    tried += 1
                    with suppress(RotaError):
                        await getattr(scheduler, name)(**how)
        assert (await keep.info()).params == {"text": "kept"}
    assert tried > 500


def test_the_repository_itself_keeps_or_refuses_any_text(database: Database) -> None:
    """Below the verbs' checks: whatever a member of the house hands over is bound, not pasted."""
    repository = database.repository()
    node = NodeHandle(repository)
    for text in EVERYTHING:
        fields = {
            "work": text,
            "queue": text,
            "unique": text,
            "recurring": text,
            "fire_at": datetime(2026, 11, 22, tzinfo=UTC),
        }
        task = a_task(params='{"x":1}', **fields)
        try:
            repository.insert([task])
        except DataRefused:
            assert text in UNSTORABLE
            continue
        (claimed,) = node.claim(queue=text)
        assert (claimed.work, claimed.queue, claimed.recurring) == (text, text, text)
        repository.pause_queue(text, text)
        assert repository.paused_queues()[text] == text
        repository.resume_queue(text)
        repository.cancel(task.id, text)
        (notice,) = repository.cancels(node.id)
        assert notice.reason == text
        node.end(claimed, Ending.CANCELLED, reason=text)
        ended = repository.get(task.id)
        assert ended is not None
        assert (ended.work, ended.queue, ended.reason) == (text, text, text)
        definition = Definition(text, text, "{}", "{}", PLAIN, text, 0, next_fire_at=None)
        repository.put_recurring(definition)
        assert repository.get_recurring(text) is not None
        repository.join(Membership(abs(hash(text)) + 1, text, text, 1, 60.0))
        assert text in {view.name for view in repository.nodes()}
    assert repository.counts()["working"] == 0


async def test_size_and_depth_have_limits(database: Database) -> None:
    async with database.scheduler(book(), queues=[]) as scheduler:
        for how in (
            {"params": {"value": "x" * 10_000_000}},
            {"params": {"value": 1}, "meta": {"x": "y" * 10_000_000}},
        ):
            with pytest.raises(PayloadTooLarge) as caught:
                await scheduler.schedule("any", **how)
            assert caught.value.size > 10_000_000
            assert len(str(caught.value)) < 500
        for how in (
            {"params": {"value": deep(10_000)}},
            {"params": {"value": 1}, "meta": {"x": deep(10_000)}},
        ):
            with pytest.raises(InvalidArgument):
                await scheduler.schedule("any", **how)
        for how in ({"id": "x" * 10_000_000}, {"unique": "x" * 10_000_000}):
            with pytest.raises(InvalidArgument):
                await scheduler.schedule("any", {"value": 1}, **how)
        with pytest.raises(InvalidArgument):
            await scheduler.schedule("any", {"value": 1}, queue="q" * 10_000_000)
        assert set((await scheduler.counts()).values()) == {0}


@pytest.mark.slow
async def test_ten_megabytes_are_kept_where_that_is_allowed(database: Database) -> None:
    text = "\u00e9%'\"" * 2_500_000
    async with database.scheduler(book(), size_limit=40_000_000) as scheduler:
        handle = await scheduler.schedule("echo", {"text": text})
        assert await handle.result(timeout=60) == text
