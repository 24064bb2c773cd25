"""What drivers do, as rules: calls, questions, sleeps, ends, leases, shared commits."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from kitaru import codec, config, ids
from kitaru.errors import KitaruLeaseError
from kitaru.models import CallStatus, ExecutionStatus
from kitaru.store import Transaction, artifacts, due, executions, journal, leases, waits
from kitaru.store.journal import AttemptRecord
from kitaru.store.logs import LogRecord
from tests.core.test_codec import same
from tests.store.model import SECOND, Call, Outcome, Question
from tests.store.stage import (
    FLOWS,
    MOST_RUNS,
    VALUES,
    Broken,
    Hand,
    Stage,
    encoded,
    failure,
    saves,
    some,
    values,
    which,
)


class Drivers(Stage):
    """The rules of drivers; one that has lost its lease tries all the same."""

    @precondition(lambda self: len(self.model.runs) < MOST_RUNS)
    @rule(number=st.integers(0, len(FLOWS) - 1), n=values, desk=which)
    def start(self, number: int, n: int, desk: int) -> None:
        self.start_one(number, n=n, desk=desk)

    @precondition(lambda self: self.hands)
    @rule(
        hand=which,
        name=st.sampled_from(["draft", "推敲"]),
        value=values,
        saved=saves,
        outcome=st.sampled_from(["completed", "completed", "failed", "tried", "begun"]),
        shared=some,
    )
    def checkpoint(
        self,
        hand: int,
        name: str,
        value: int,
        saved: list[tuple[str, int]],
        outcome: Outcome,
        shared: bool,
    ) -> None:
        driver = self.hand(hand)
        run = driver.run
        seq, old = next(run.open_calls("checkpoint"), (0, None))
        if old is None:
            seq = next(n for n in itertools.count(1) if n not in run.calls)
            old = Call(ids.call_id(name, seq + 1), "checkpoint")
        call = Call(old.call_id, "checkpoint", saved=[(each, VALUES[n]) for each, n in saved])
        if outcome == "begun":
            call.saved = old.saved
        elif outcome in ("completed", "failed"):
            call.end(
                outcome, value=VALUES[value], failure="it broke" if outcome == "failed" else None
            )
        settles = [n for n, c in run.calls.items() if c.status == "failed" and n != seq]
        line = f"{call.call_id} {outcome}"
        driver.ledger.line(LogRecord(self.clock.now, "INFO", line, call_id=None))
        driver.ledger.merge_metadata({"last": call.call_id, "seen": {str(seq): True}})
        tried = (AttemptRecord(CallStatus.FAILED, self.clock.now, failure=failure("once")),)

        def work(conn: Transaction) -> None:
            attempts = tried if outcome == "tried" else ()
            self.put(conn, driver, seq, call, attempts=attempts)
            journal.settle(conn, driver.ledger.lease.execution, settles)
            if outcome != "begun":
                new = encoded(call.saved, self.clock.now)
                artifacts.replace(conn, driver.ledger.lease.execution, seq, new=new)

        if self.write(driver, work, shared=shared):
            run.calls[seq] = call
            run.lines.append(line)
            run.metadata["last"] = call.call_id
            run.metadata.setdefault("seen", {})[str(seq)] = True
            for each in settles:
                run.calls[each].settled = True

    @precondition(lambda self: self.hands)
    @rule(hand=which, schema=st.sampled_from([None, {"type": "boolean"}]))
    def ask(self, hand: int, schema: Any) -> None:
        driver = self.hand(hand)
        run = driver.run
        waiting = [(seq, c) for seq, c in run.open_calls("wait") if not c.is_answered]
        seq = next(n for n in itertools.count(1) if n not in run.calls)
        call = Call(ids.call_id("approve", seq + 1), "wait", question=Question())
        if len(waiting) > 1 or any(c.status == "pending" for _, c in waiting):
            seq, old = waiting[0]
            call = Call(old.call_id, "wait", question=Question())

        def work(conn: Transaction) -> None:
            self.put(conn, driver, seq, call)
            execution = driver.ledger.lease.execution
            asked = waits.Question(seq, call.call_id, "approve", "Go on?", schema, {"at": seq})
            waits.ask(conn, execution, asked)
            now = executions.at(conn, execution)
            if now.status is ExecutionStatus.WAITING:
                executions.note(conn, now, "Waiting.")
            else:
                executions.advance(conn, now, "wait", reason="Waiting.")

        if self.write(driver, work, shared=True):
            run.calls[seq] = call
            if run.status != "waiting":
                run.move("wait", self.clock.now)

    @precondition(lambda self: self.hands)
    @rule(hand=which, seconds=st.sampled_from([0, 1, 100]))
    def sleep(self, hand: int, seconds: int) -> None:
        driver = self.hand(hand)
        run = driver.run
        seq = next(n for n in itertools.count(1) if n not in run.calls)
        call = Call(ids.call_id("sleep", seq + 1), "sleep")
        call.due_at = self.clock.now + seconds * SECOND
        if self.write(driver, lambda conn: self.put(conn, driver, seq, call), shared=True):
            run.calls[seq] = call

    @precondition(lambda self: self.hands)
    @rule(hand=which)
    def take_what_came(self, hand: int) -> None:
        """Answers and ends of sleeps become records."""
        driver = self.hand(hand)
        run, now = driver.run, self.clock.now
        ready = [(seq, call) for seq, call in run.open_calls("wait") if call.is_answered]
        ready += [
            (seq, call)
            for seq, call in run.open_calls("sleep")
            if call.due_at is None or call.due_at <= now
        ]
        if ready:
            self.take_outcome(driver, *ready[0])

    def take_outcome(self, driver: Hand, seq: int, old: Call) -> None:
        """A wait or a sleep has come to its end."""
        run = driver.run
        value = None if old.question is None else old.question.answer
        call = Call(old.call_id, old.kind, question=old.question, due_at=old.due_at)
        call.end("completed", value=value)
        left = [each for each in run.pending() if each is not old]
        execution = driver.ledger.lease.execution

        def work(conn: Transaction) -> None:
            self.put(conn, driver, seq, call)
            row = executions.at(conn, execution)
            asked = waits.pending(conn, execution, exec_id=row.exec_id)
            assert len(asked) == len(left)
            if row.status is ExecutionStatus.WAITING and not asked:
                executions.advance(conn, row, "continue")

        if self.lease_error(driver) is None and old.question is not None:
            with driver.ledger.store.snapshot() as conn:
                data = waits.read_answer(conn, execution, seq, what=call.call_id)
            assert data is not None
            assert same(codec.decode(data), value)
        if self.write(driver, work, shared=True):
            run.calls[seq] = call
            if run.status == "waiting" and not left:
                run.move("continue", self.clock.now)

    @precondition(lambda self: self.hands)
    @rule(hand=which)
    def let_go(self, hand: int) -> None:
        """A driver that has nothing to do but to wait leaves."""
        driver = self.hand(hand)
        run = driver.run
        seqs = [seq for seq, call in run.open_calls("wait", "sleep") if call.status == "running"]
        if not seqs or any(run.open_calls("checkpoint")):
            return
        left: list[bool] = []

        def work(conn: Transaction) -> None:
            execution = driver.ledger.lease.execution
            waits.let_go(conn, execution, seqs)
            if driver.ledger.cancelled or due.is_due(conn, execution):
                return
            row = executions.at(conn, execution)
            if row.status is ExecutionStatus.RUNNING:
                executions.advance(conn, row, "wait", reason="Sleeping.")
            leases.revoke(conn, execution)
            left.append(True)

        if self.write(driver, work, shared=True):
            goes = run.is_blocked(self.clock.now) and not run.cancel_requested
            assert bool(left) == goes
            if goes:
                if run.status == "running":
                    run.move("wait", self.clock.now)
                run.revoke()
                self.hands.remove(driver)

    @precondition(lambda self: self.hands)
    @rule(hand=which, action=st.sampled_from(["complete", "fail"]), value=values)
    def finish(self, hand: int, action: str, value: int) -> None:
        driver = self.hand(hand)
        run, result = driver.run, VALUES[value] if action == "complete" else "it failed"
        error = self.lease_error(driver)
        data = codec.encode(result) if action == "complete" else None
        told = failure(result) if action == "fail" else None
        with self.expecting(KitaruLeaseError if error else None, error or ""):
            driver.ledger.finish(action, result=data, failure=told)
        self.hands.remove(driver)
        if error is None:
            run.finish(action, self.clock.now, value=result)

    @precondition(lambda self: self.hands)
    @rule(hand=which, how=st.sampled_from(["renew", "release", "die", "fail"]))
    def driver_moment(self, hand: int, how: str) -> None:
        """It renews its lease, stops in order, dies without a word, or a write of its fails."""
        driver = self.hand(hand)
        run = driver.run
        if how == "die":
            self.hands.remove(driver)
        elif how == "renew" and self.write(driver, driver.ledger.renew, shared=True):
            run.held_until = self.clock.now + int(config.LEASE_SECONDS * SECOND)
        elif how == "release":
            execution = driver.ledger.lease.execution
            if self.write(driver, lambda conn: leases.release(conn, execution), shared=False):
                run.let_go()
                self.hands.remove(driver)
        elif how == "fail" and self.lease_error(driver) is None:
            with self.expecting(Broken), driver.ledger.commit() as conn:
                self.spoil(conn, driver.ledger.lease.execution)
                raise Broken

    @precondition(lambda self: len(self.hands) > 1)
    @rule(hands=st.tuples(which, which), fails=some)
    def together(self, hands: tuple[int, int], fails: bool) -> None:
        """Drivers of one process share a commit; what one of them may not write, the other may."""
        one, other = (self.hands[n % len(self.hands)] for n in hands)
        chosen = [one] if one is other else [one, other]
        database = one.ledger.store
        with contextlib.ExitStack() as stack:
            works: list[Callable[[Transaction], None]] = []
            for driver in chosen:
                begin = stack.enter_context(driver.ledger.gathered())

                def work(
                    conn: Transaction,
                    begin: Callable[[Transaction], None] = begin,
                    lease: leases.Lease = driver.ledger.lease,
                ) -> None:
                    begin(conn)
                    leases.renew(conn, lease)

                works.append(work)

            def broken(conn: Transaction) -> None:
                self.spoil(conn, one.ledger.lease.execution)
                raise Broken

            errors = database.all_together([*works, broken] if fails else works)
        for driver, error in zip(chosen, errors, strict=False):
            wanted = self.lease_error(driver)
            assert (wanted or "") in str(error or "")
            assert (error is None) == (wanted is None)
            if wanted:
                self.hands.remove(driver)
            else:
                driver.run.held_until = self.clock.now + int(config.LEASE_SECONDS * SECOND)
        assert not fails or isinstance(errors[-1], Broken)
