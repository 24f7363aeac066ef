"""Write outcomes, each fenced by its token."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rota.core.task import Ending, Finish, NewTask, Stored
from rota.errors import InvalidArgument, LeaseLost
from rota.storage.postgres.arrays import uuids, whole
from rota.storage.postgres.connections import Statements
from rota.storage.postgres.ending import DROP_LEASES, OWN, End, Endings, Token
from rota.storage.postgres.feeding import told
from rota.storage.postgres.inserting import Inserting

_TOKENS = "unnest(%(ids)s::uuid[], %(batches)s::bigint[])"

_LOCK = f"""select k.id::text, k.batch, k.attempt, k.cancel_reason
  from {_TOKENS} as o(id, batch) {OWN}"""
# By row address: the rows were locked by the statement before, so they stay where they are.
_RESET = f"""with back as (
  update {{s}}rota_task t set
    state = case o.ending when 9 then 2 else 0 end,
    node = case when o.keep then t.node end,
    batch = null,
    run_at = case when o.ending in (6, 7) then {{now}} + make_interval(secs => o.delay)
             else greatest(t.run_at, {{now}} + make_interval(secs => o.delay)) end,
    attempt = case o.ending when 6 then t.attempt when 7 then 0
              else greatest(t.attempt - 1, 0) end,
    losses = case when o.ending in (6, 7) then 0 else t.losses end,
    version = t.version + case when o.new_params then 1 else 0 end
  from unnest(%(ids)s::uuid[], %(batches)s::bigint[], %(endings)s::smallint[],
      %(delays)b::double precision[], %(keeps)b::boolean[], %(new_params)b::boolean[])
    as o(id, batch, ending, delay, keep, new_params)
  cross join lateral (
    select l.ctid as place from {{s}}rota_task l where l.id = o.id limit 1) k
  where t.ctid = k.place and t.batch = o.batch and t.node = %(node)s and t.state = 1
  returning t.id, t.state)
{told("back")}"""
_NEW_PARAMS = """update {s}rota_body b set params = o.params,
    version = (select t.version from {s}rota_task t where t.id = o.id)
  from unnest(%(ids)s::uuid[], %(params)b::text[]) as o(id, params)
  cross join lateral (select l.ctid as place from {s}rota_body l where l.id = o.id limit 1) k
  where b.ctid = k.place"""
_REMEMBER = """insert into {s}rota_attempt
    (id, attempt, outcome, node, batch, started_at, finished_at, reason, error)
  select o.id, o.attempt, o.outcome, %(node)s, o.batch,
    {now} - make_interval(secs => o.ago), {now}, o.reason, o.error
  from unnest(%(ids)s::uuid[], %(attempts)s::integer[], %(outcomes)b::text[],
      %(batches)s::bigint[], %(agos)b::double precision[], %(reasons)b::text[], %(errors)b::text[])
    as o(id, attempt, outcome, batch, ago, reason, error)"""
# In the order of their ids, so that two that stop the same definitions cannot wait for each other.
_STOP_RECURRING = """update {s}rota_recurring set next_fire_at = null
  where id = any(array(
    select r.id from {s}rota_recurring r
      where r.id in (select b.recurring from {s}rota_body b
                     where b.id = any(%(ids)s::uuid[]) and b.recurring is not null)
      order by r.id for update))"""
# 0 is the mark of an attempt that did not end its task. What rescue wrote is not the node's
# own word.
_WRITTEN = f"""select o.id::text, o.batch, h.state
  from {_TOKENS} as o(id, batch)
  cross join lateral (
    select state from {{s}}rota_done d
      where d.id = o.id and d.node = %(node)s and d.batch = o.batch
    union all
    select state from {{s}}rota_failed f
      where f.id = o.id and f.node = %(node)s and f.batch = o.batch
    union all
    select 0 from {{s}}rota_attempt a
      where a.id = o.id and a.node = %(node)s and a.batch = o.batch
        and a.outcome <> 'lost'
    limit 1) h"""


class Finishing:
    """The statements that end attempts, for one schema."""

    def __init__(self, *, prefix: str, now: str, inserting: Inserting) -> None:
        def bound(sql: str) -> str:
            return sql.format(s=prefix, now=now)

        self._inserting = inserting
        self._endings = Endings(prefix=prefix, now=now)
        self._drop_leases = bound(DROP_LEASES)
        self._lock, self._reset = bound(_LOCK), bound(_RESET)
        self._new_params, self._remember = bound(_NEW_PARAMS), bound(_REMEMBER)
        self._stop_recurring, self._written = bound(_STOP_RECURRING), bound(_WRITTEN)

    def single(self, finishes: Sequence[Finish], *, repeated: bool) -> bool:
        """Whether ``finish`` is one statement, so that it needs no transaction around it."""
        return not repeated and all(
            finish.ending <= Ending.CANCELLED and not finish.end_recurring and finish.follow is None
            for finish in finishes
        )

    def finish(
        self,
        session: Statements,
        node: int,
        finishes: Sequence[Finish],
        over: Sequence[int],
        *,
        repeated: bool,
    ) -> list[Stored | None]:
        """Terminal outcomes first, leases before tasks, tasks by ascending id."""
        chosen: dict[Token, Finish] = {}
        for finish in finishes:
            chosen.setdefault((finish.id, finish.batch), finish)
        ordered = sorted(chosen.values(), key=_id_of)
        ends = [_end_of(finish) for finish in ordered if finish.ending <= Ending.CANCELLED]
        resets = [finish for finish in ordered if finish.ending > Ending.CANCELLED]
        met: dict[Token, Stored] = {}
        if over and (resets or not ends):
            session.rows(
                self._drop_leases,
                node=node,
                over=whole(over),
                ids=uuids(finish.id for finish in ordered),
                batches=whole(finish.batch for finish in ordered),
            )
            over = ()
        if ends:
            met = self._endings.end(session, node, ends, over)
        if resets:
            met |= self.reset(session, node, resets)
        accepted = [f for t, f in chosen.items() if met.get(t) == _meant(f)]
        self.go_on(session, [f.follow for f in accepted if f.follow is not None])
        if repeated:
            met |= self._already(session, node, [f for t, f in chosen.items() if t not in met])
        stops = [f.id for t, f in chosen.items() if f.end_recurring and t in met]
        if stops:
            session.rows(self._stop_recurring, ids=uuids(stops))
        return [
            met.get((finish.id, finish.batch))
            if chosen[finish.id, finish.batch] is finish
            else None
            for finish in finishes
        ]

    def finish_one(self, session: Statements, node: int, finish: Finish) -> None:
        """Write one final outcome in the caller's transaction; raises ``LeaseLost``."""
        if not finish.ending.terminal:
            raise InvalidArgument(
                f"{finish.ending.name.lower()} cannot be written in your transaction, since the "
                "task goes on; finish it there with done, failed or cancelled, or return the "
                "outcome",
                field="finish",
            )
        (state,) = self.finish(session, node, [finish], [finish.batch], repeated=False)
        if state is None:
            raise LeaseLost(finish.id)

    def finish_at_once(
        self, session: Statements, node: int, finishes: Sequence[Finish], over: Sequence[int]
    ) -> list[Stored | None]:
        """What is ``single``, by that one statement."""
        if not finishes or len({finish.id for finish in finishes}) < len(finishes):
            return self.finish(session, node, finishes, over, repeated=False)
        ordered = sorted(finishes, key=_id_of)
        states = self._endings.finish(session, node, ordered, over)
        if ordered == finishes:
            return states
        by_id = {finish.id: state for finish, state in zip(ordered, states, strict=True)}
        return [by_id[finish.id] for finish in finishes]

    def end(
        self, session: Statements, node: int, ends: Sequence[End], *, lost: bool
    ) -> dict[Token, Stored]:
        """As :meth:`Endings.end`, for rescue."""
        return self._endings.end(session, node, ends, lost=lost)

    def reset(
        self, session: Statements, node: int, finishes: Sequence[Finish], *, lost: bool = False
    ) -> dict[Token, Stored]:
        """Let tasks wait again, in the caller's transaction; ``lost`` as in ``end``.

        Locked first, then judged: a cancel in between has left its reason in the row.
        """
        by_token = {(finish.id, finish.batch): finish for finish in finishes}
        rows = session.rows(
            self._lock,
            node=node,
            ids=uuids(finish.id for finish in finishes),
            batches=whole(finish.batch for finish in finishes),
        )
        cancelled: list[End] = []
        waiting: list[tuple[Finish, int]] = []
        for task_id, batch, attempt, reason in rows:
            finish = by_token[task_id, batch]
            if reason is None:
                waiting.append((finish, attempt))
            else:
                end = _end_of(finish)
                cancelled.append(end._replace(state=int(Stored.CANCELLED), reason=reason))
        met = self.end(session, node, cancelled, lost=lost) if cancelled else {}
        if waiting:
            self._wait_again(session, node, [finish for finish, _ in waiting])
            self._keep_attempts(session, node, waiting)
        return met | {(finish.id, finish.batch): _meant(finish) for finish, _ in waiting}

    def _wait_again(self, session: Statements, node: int, finishes: Sequence[Finish]) -> None:
        changed = [f for f in finishes if f.ending is Ending.AGAIN and f.params is not None]
        new_params = {finish.id for finish in changed}
        session.rows(
            self._reset,
            node=node,
            ids=uuids(finish.id for finish in finishes),
            batches=whole(finish.batch for finish in finishes),
            endings=whole(int(finish.ending) for finish in finishes),
            delays=[float(finish.delay) for finish in finishes],
            keeps=[finish.keep_from and finish.ending is Ending.PARK for finish in finishes],
            new_params=[finish.id in new_params for finish in finishes],
        )
        if changed:
            session.rows(
                self._new_params,
                ids=uuids(finish.id for finish in changed),
                params=[finish.params for finish in changed],
            )

    def _keep_attempts(
        self, session: Statements, node: int, waiting: Iterable[tuple[Finish, int]]
    ) -> None:
        kept = [(f, n) for f, n in waiting if f.ending in {Ending.RETRY, Ending.AGAIN}]
        if not kept:
            return
        session.rows(
            self._remember,
            node=node,
            ids=uuids(finish.id for finish, _ in kept),
            attempts=whole(attempt for _, attempt in kept),
            outcomes=[finish.ending.name.lower() for finish, _ in kept],
            batches=whole(finish.batch for finish, _ in kept),
            agos=[finish.ago for finish, _ in kept],
            reasons=[finish.reason for finish, _ in kept],
            errors=[finish.payload for finish, _ in kept],
        )

    def go_on(self, session: Statements, follows: Sequence[NewTask]) -> None:
        """Insert what follows what has ended; what it meets is no reason not to end.

        An earlier try that is only now known to have committed has inserted it.
        """
        if follows:
            # The token that was accepted was its fence.
            plain = [follow._replace(on_conflict="return", fence=None) for follow in follows]
            self._inserting.careful(session, plain, repeated=False)

    def _already(
        self, session: Statements, node: int, refused: Sequence[Finish]
    ) -> dict[Token, Stored]:
        """Those of the refused that an earlier try had written, by what history shows."""
        if not refused:
            return {}
        said = {(finish.id, finish.batch): finish for finish in refused}
        rows = session.rows(
            self._written,
            node=node,
            ids=uuids(finish.id for finish in refused),
            batches=whole(finish.batch for finish in refused),
        )
        found = {(row[0], row[1]): Stored(row[2]) for row in rows}
        return {t: state for t, state in found.items() if state in _may_lead_to(said[t].ending)}


def _may_lead_to(ending: Ending) -> set[Stored]:
    """What history may show of an outcome; a task asked to stop is cancelled by a retry, too."""
    if ending <= Ending.CANCELLED:
        return {Stored(int(ending))}
    return {Stored.SCHEDULED, Stored.CANCELLED}


def _id_of(finish: Finish) -> str:
    return finish.id


def _end_of(finish: Finish) -> End:
    return End(
        finish.id,
        finish.batch,
        int(finish.ending),
        finish.payload,
        finish.reason,
        finish.ago,
    )


def _meant(finish: Finish) -> Stored:
    """The state the outcome leads to, unless a cancel reason turns it into another."""
    if finish.ending <= Ending.CANCELLED:
        return Stored(int(finish.ending))
    return Stored.PARKED if finish.ending is Ending.PARK else Stored.SCHEDULED
