"""What clients do, as rules: answers, cancellations, new drives, removals, listings."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from kitaru import clock, launch
from kitaru.errors import KitaruError, KitaruStateError, KitaruWaitValidationError
from kitaru.models import ExecutionStatus
from kitaru.store import executions, waits
from tests.store.model import SECOND, Run
from tests.store.stage import FLOWS, MOST_RUNS, Stage, answers, some, which


class Clients(Stage):
    """The rules of clients, each through one of two handles."""

    @precondition(lambda self: self.model.runs)
    @rule(run=which, desk=which, value=answers, wait=which)
    def answer(self, run: int, desk: int, value: Any, wait: int) -> None:
        chosen = self.pick(run)
        asked = chosen.pending()
        name = asked[wait % len(asked)].call_id if asked else "approve"
        error: type[KitaruError] | None = None
        text = ""
        with self.desk(desk)._open().snapshot() as conn:
            found = executions.find(conn, chosen.exec_id)
            open_ = waits.pending(conn, found.id, exec_id=chosen.exec_id)
        schema = next((each.schema for each in open_ if each.name == name), None)
        if not chosen.may("input"):
            error, text = KitaruStateError, self.illegal(chosen, "input")
        elif not asked:
            error, text = KitaruStateError, "has no open wait"
        elif not (value is None if schema is None else isinstance(value, bool)):
            error, text = KitaruWaitValidationError, "is still open"
        with self.expecting(error, text):
            self.desk(desk).executions.input(chosen.exec_id, wait=name, value=value)
        if error is None:
            question = asked[wait % len(asked)].question
            assert question is not None
            question.status, question.answer = "answered", value

    @precondition(lambda self: self.model.runs)
    @rule(run=which, desk=which, action=st.sampled_from(["cancel", "abort"]))
    def stop(self, run: int, desk: int, action: str) -> None:
        chosen = self.pick(run)
        asked = chosen.pending()
        error, text = None, ""
        if not chosen.may(action):
            error, text = KitaruStateError, self.illegal(chosen, action)
        elif action == "abort" and not asked:
            error, text = KitaruStateError, "has no open wait"
        client = self.desk(desk).executions
        with self.expecting(error, text):
            if action == "cancel":
                client.cancel(chosen.exec_id)
            else:
                client.abort_wait(chosen.exec_id, wait=asked[0].call_id if asked else "approve")
        if error is None:
            chosen.stop(action, self.clock.now)

    @precondition(lambda self: self.model.runs)
    @rule(run=which, desk=which, action=st.sampled_from(["resume", "retry"]))
    def go_on(self, run: int, desk: int, action: str) -> None:
        chosen, database = self.pick(run), self.databases[desk % 2]
        flow = next(each for each in FLOWS if each.name == chosen.flow)
        error, text = None, ""
        if not chosen.may(action):
            error, text = KitaruStateError, self.illegal(chosen, action)
        elif action == "resume":
            blocked = chosen.status == "waiting" and chosen.is_blocked(self.clock.now)
            if blocked or chosen.is_held(self.clock.now):
                error, text = KitaruStateError, f"Cannot resume execution {chosen.exec_id}"
        lease = None
        with self.expecting(error, text):
            lease = getattr(launch, action)(database, flow, chosen.exec_id)
        if lease is not None:
            if action == "retry":
                chosen.retry(self.clock.now)
            else:
                chosen.move("resume", self.clock.now)
                chosen.take(self.clock.now)
            self.take(chosen, lease, flow, database)

    @precondition(lambda self: 0 < len(self.model.runs) < MOST_RUNS)
    @rule(run=which, desk=which, call=which)
    def replay(self, run: int, desk: int, call: int) -> None:
        chosen, database = self.pick(run), self.databases[desk % 2]
        flow = next(each for each in FLOWS if each.name == chosen.flow)
        error, text, seq = None, "", 0
        selector = "nothing"
        if not chosen.may("replay"):
            error, text = KitaruStateError, self.illegal(chosen, "replay")
        elif not chosen.calls:
            error, text = KitaruStateError, "has no recorded calls"
        elif call % 7 == 0:
            error, text = KitaruStateError, "has no call 'nothing'"
        else:
            seq = sorted(chosen.calls)[call % len(chosen.calls)]
            selector = chosen.calls[seq].call_id
        lease = None
        with self.expecting(error, text):
            lease = launch.start_replay(
                database, flow, chosen.exec_id, from_=selector, overrides={}, flow_inputs={}
            )
        if lease is not None:
            copied = chosen.copied(seq)
            new = Run(
                lease.exec_id,
                flow.name,
                chosen.inputs,
                flow.tags,
                flow.run_options.get("stack", "local"),
                self.clock.now,
                calls=copied,
                original=chosen.exec_id,
            )
            new.take(self.clock.now)
            self.model.runs.append(new)
            self.touched = new
            self.take(new, lease, flow, database)

    @precondition(lambda self: self.model.runs)
    @rule(runs=st.lists(which, min_size=1, max_size=2), desk=which)
    def delete(self, runs: list[int], desk: int) -> None:
        chosen = {run.exec_id: run for run in map(self.pick, runs)}
        going = list(chosen.values())
        kept = self.model.needed(going)
        running = [run for run in going if not run.status.is_finished]
        error, text = None, ""
        if running:
            error, text = KitaruStateError, f"{running[0].exec_id}: it is {running[0].status}."
        elif kept:
            error, text = KitaruStateError, "may read it"
        with self.expecting(error, text):
            self.desk(desk).executions.delete(*chosen)
        if error is None:
            self.model.remove(going)
            self.touched = None

    @rule(age=st.sampled_from([0, 20, 4000]), keep_failed=some, dry=some, desk=which)
    def prune(self, age: int, keep_failed: bool, dry: bool, desk: int) -> None:
        limit = self.clock.now - age * SECOND
        going = [
            run
            for run in self.model.runs
            if run.ended_at is not None
            and run.ended_at < limit
            and not (keep_failed and run.status == "failed")
        ]
        kept = self.model.needed(going)
        found = self.desk(desk).executions.prune(
            timedelta(seconds=age), keep_failed=keep_failed, dry_run=dry
        )
        going = [run for run in going if run.exec_id not in kept]
        assert found.count == len(going)
        assert set(found.kept) == kept
        if not dry:
            self.model.remove(going)
            self.touched = None

    @rule(
        flow=st.sampled_from([None, "first", "second", "third"]),
        status=st.none() | st.sampled_from(ExecutionStatus),
        stack=st.sampled_from([None, "local", "far"]),
        tags=st.sampled_from([(), ("nightly",), ("nightly", "ไทย"), ("no",)]),
        since=st.sampled_from([None, 5, 100]),
        limit=st.integers(1, 4),
        desk=which,
    )
    def listing(self, desk: int, limit: int, since: int | None, **where: Any) -> None:
        """Filters and pages, and the counts that statistics give for them."""
        tags = where["tags"]
        start = None if since is None else self.clock.now - since * SECOND
        wanted = [
            run
            for run in self.model.newest_first()
            if where["flow"] in (None, run.flow)
            and where["status"] in (None, run.status)
            and where["stack"] in (None, run.stack)
            and set(tags) <= set(run.tags)
            and (start is None or run.created_at >= start)
        ]
        client = self.desk(desk).executions
        options = {**where, "since": None if start is None else clock.from_us(start)}
        found: list[str] = []
        cursor = None
        while cursor is not None or not found:
            page = client.list(limit=limit, cursor=cursor, **options)
            found += [each.exec_id for each in page]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == [run.exec_id for run in wanted]
        counted = client.statistics(["flow", "status"], **options)
        assert {
            (group.keys["flow_name"], group.keys["status"]): group.execution_count
            for group in counted.groups
        } == {
            (run.flow, run.status.value): sum(
                (each.flow, each.status) == (run.flow, run.status) for each in wanted
            )
            for run in wanted
        }
