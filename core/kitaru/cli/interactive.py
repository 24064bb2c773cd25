"""`kitaru executions input --interactive`: a person goes through open questions and decides each.

The conversation goes to standard error, so that standard output carries the outcome alone. An
answer is typed as in a flow's own terminal: field by field, and again while it does not fit. A
question that is answered elsewhere meanwhile is told and left. Nothing is decided by default.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from kitaru import asking, config, prompts, render
from kitaru.cli import output, style, views
from kitaru.cli.command import Answer, listed, say
from kitaru.errors import KitaruError, KitaruNotFoundError, KitaruStateError
from kitaru.terminal import LineCutError, Lines

if TYPE_CHECKING:
    from kitaru.client import KitaruClient
    from kitaru.models import ArtifactView, Execution, PendingWait

Did = Literal["answered", "aborted", "skipped", "closed"]


class _Quit(Exception):
    """The person wants no more questions."""


class _Closed(Exception):
    """The question is not open any more: somebody else was quicker."""


@dataclass
class _Outcome:
    """What became of one question."""

    exec_id: str
    wait: str
    action: Did
    status: str
    continues_by_itself: bool


@dataclass
class _Sitting:
    """One person's way through some questions; `sweeps` offers to resume after each answer."""

    client: KitaruClient
    sweeps: bool
    lines: Lines = field(default_factory=Lines)
    done: list[_Outcome] = field(default_factory=list)
    seen: int = -1

    def decide(self, wait: PendingWait, title: str) -> None:
        """Show a question and ask what to do until that is done."""
        try:
            self._check_open(wait)
            if self.done:
                self.lines.forget()  # such as the rest of a text that was pasted as an answer
            _say(_question(self.client, wait, title))
            while not self._act(wait):
                pass
        except _Closed:
            self.lines.forget()  # what is half typed was meant for this question
            _say(f"\n{output.line(wait.wait_id)} is not open any more: it was closed elsewhere.\n")
            self._note(wait, "closed")

    def _act(self, wait: PendingWait) -> bool:
        typed = self._line("Action [c=continue, a=abort, s=skip, q=quit]: ", wait)
        match typed.strip().lower():
            case "c" | "continue":
                return self._answer(wait)
            case "a" | "abort":
                return self._abort(wait)
            case "s" | "skip":
                self._note(wait, "skipped")
                return True
            case "q" | "quit":
                raise _Quit
        _say("Type c, a, s or q.\n")
        return False

    def _answer(self, wait: PendingWait) -> bool:
        dialogue = asking.answer(wait.schema, wait=wait.wait_id)
        text = f"Type {prompts.ABORT} to abort instead.\n{next(dialogue)}"
        while True:
            line = self._line(text, wait)
            if line.strip() == prompts.ABORT:
                return self._abort(wait)
            try:
                text = dialogue.send(line)
            except StopIteration as end:
                value = json.loads(end.value)
                break
        exec_id = _exec_id(wait)
        try:
            found, continues = self.client.executions.answer(
                exec_id, wait=wait.wait_id, value=value
            )
        except (KitaruNotFoundError, KitaruStateError):
            raise _Closed from None
        self._note(wait, "answered", found, continues=continues)
        did = "Resolved wait input for execution"
        _say(f"{views.outcome(did, found, continues=continues)}\n")
        if found.pending_waits:
            names = ", ".join(each.name for each in found.pending_waits)
            _say(f"It waits for another answer: {output.line(names)}\n")
        elif continues:
            _say("It continues by itself.\n")
        elif self.sweeps:
            self._offer_resume(exec_id)
        return True

    def _offer_resume(self, exec_id: str) -> None:
        typed = self._line("Next [r=resume it, Enter=leave it]: ").strip().lower()
        if typed not in ("r", "resume"):
            return
        try:
            found = self.client.executions.resume(exec_id)
        except KitaruError as exc:  # the other questions can still be answered
            _say(f"Error: {render.safe_message(str(exc))}\n")
            return
        _say(f"{views.outcome('Resumed execution', found)}\n")
        self.done[-1].status, self.done[-1].continues_by_itself = str(found.status), True

    def _abort(self, wait: PendingWait) -> bool:
        exec_id = _exec_id(wait)
        sure = self._line(f"Abort it? This cancels execution {exec_id}. [y/N]: ", wait)
        if sure.strip().lower() not in ("y", "yes"):
            return False
        try:
            found = self.client.executions.abort_wait(exec_id, wait=wait.wait_id)
        except (KitaruNotFoundError, KitaruStateError):
            raise _Closed from None
        _say(f"{views.outcome('Aborted wait for execution', found)}\n")
        self._note(wait, "aborted", found)
        return True

    def _line(self, prompt: str, wait: PendingWait | None = None) -> str:
        """The next line that is typed, unless the wait is closed before."""
        _say(prompt)
        while True:
            try:
                line = self.lines.next(config.POLL_SECONDS)
            except LineCutError as exc:
                _say(f"{exc}\n{prompt}")
                continue
            if line is not None:
                return line
            if wait is not None:
                self._check_open(wait)

    def _check_open(self, wait: PendingWait) -> None:
        version = self.client.version()
        if version == self.seen:
            return
        try:
            if wait not in self.client.executions.pending_waits(_exec_id(wait)):
                raise _Closed
        except KitaruNotFoundError:
            raise _Closed from None
        self.seen = version

    def _note(
        self,
        wait: PendingWait,
        did: Did,
        found: Execution | None = None,
        *,
        continues: bool | None = None,
    ) -> None:
        exec_id, status = _exec_id(wait), "deleted"
        try:
            found = found or self.client.executions.summary(exec_id)
            status = str(found.status)
            if continues is None:
                continues = self.client.executions.goes_on(found)
        except KitaruNotFoundError:  # whoever closed the question has deleted its execution
            continues = True
        self.done.append(_Outcome(exec_id, wait.name, did, status, continues))
        self.seen = -1


def can_ask() -> bool:
    """Whether a person can type at standard input; reading a terminal needs POSIX."""
    is_there = sys.stdin is not None and style.is_terminal(sys.stdin)
    return is_there and sys.platform != "win32"


def go_through(client: KitaruClient, asked: Sequence[PendingWait], *, sweeps: bool) -> Answer:
    """Ask what to do about each question, in this order.

    Args:
        client: the store's.
        asked: the questions.
        sweeps: whether they are of all executions.
    """
    sitting = _Sitting(client, sweeps)
    interrupted, error = False, None
    try:
        for number, wait in enumerate(asked, start=1):
            sitting.seen = -1
            sitting.decide(wait, f"[{number}/{len(asked)}]")
    except (EOFError, _Quit) as exc:
        _say("\n" if isinstance(exc, EOFError) else "")
    except KeyboardInterrupt:
        _say("\n")
        interrupted = True
    except KitaruError as exc:  # what was decided before is told all the same
        error = exc
    return Answer(
        json=lambda: listed([render.shown(vars(each)) for each in sitting.done]),
        text=lambda: _summary(sitting.done, left=len(asked) - len(sitting.done)),
        error=error,
        interrupted=interrupted,
    )


def _summary(done: Sequence[_Outcome], *, left: int) -> str:
    if not done and not left:
        return "No execution waits for an answer."
    counts = Counter(each.action for each in done)
    told = [f"{counts[did]} {did}" for did in ("answered", "aborted", "skipped") if counts[did]]
    told += [f"{counts['closed']} closed elsewhere"] if counts["closed"] else []
    told += [f"{left} left open"] if left else []
    text = f"Open questions: {', '.join(told)}."
    stopped = [each.exec_id for each in done if not each.continues_by_itself]
    for exec_id in dict.fromkeys(stopped):
        text += f"\nContinue it with: kitaru executions resume {exec_id}"
    return text


def _question(client: KitaruClient, wait: PendingWait, title: str) -> str:
    """All that is shown of a question before somebody decides."""
    found = client.executions.summary(_exec_id(wait))
    schema = render.shown_value(wait.schema, masks=False)
    since = output.moment(wait.entered_waiting_at)
    pairs = [
        ("Execution", found.exec_id),
        ("Flow", found.flow_name),
        ("Status", views.status(found)),
        ("Wait name", wait.name),
        ("Wait ID", wait.wait_id),
        ("Question", wait.question or "not set"),
        ("Waiting since", f"{since} ({render.age(wait.entered_waiting_at)} ago)"),
        ("JSON schema", "none, a go-ahead is enough" if schema is None else _json(schema)),
    ]
    if found.status_reason and not found.status_reason.startswith("Waiting for"):
        pairs.append(("Reason", found.status_reason))  # such as an answer that was refused
    if wait.metadata:
        pairs.append(("Metadata", _json(render.shown(wait.metadata))))
    text = f"\n{output.fields(title, pairs)}\n"
    if context := client.executions.context_of(found.exec_id):
        text += "  Context:\n" + "".join(f"    {_preview(view)}\n" for view in context)
        text += "    All of one: kitaru artifacts get ID\n"
    return text


def _preview(view: ArtifactView) -> str:
    ref = view.artifact
    kind = "result" if ref.save_type == "step_output" and ref.kind is None else ref.kind
    value = view.note or "" if view.text is None else view.text
    rest = f"… ({view.total} characters)" if view.next_offset is not None else ""
    return f"{output.line(f'{ref.artifact_id} ({kind}): {value}')}{rest}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _exec_id(wait: PendingWait) -> str:
    return wait.wait_id.partition("/")[0]


def _say(text: str) -> None:
    say(text, err=True, end="")
