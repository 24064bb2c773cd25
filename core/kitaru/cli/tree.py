"""How an execution looks on a terminal while it is watched: a tree of its calls, as high as fits.

What is under way is always there as far as there is room, then what has ended last; the rest is
only counted, and forgotten here. Imported only when there is a terminal to draw on.
"""

from __future__ import annotations

import datetime

from rich.console import Console, OverflowMethod, RenderableType
from rich.constrain import Constrain
from rich.text import Text
from rich.tree import Tree

from kitaru import answers, clock
from kitaru.cli import characters, output, style, views
from kitaru.client.watching import Progress
from kitaru.models import CallStatus, Execution, PendingWait
from kitaru.timeline import Call, Usage, duration, state

#: How many ended calls are remembered, and how many failed attempts of a call are told.
_KEPT, _TRIES = 200, 3
#: Lines that are not calls: the heading, what is above, the end, and the cursor's.
_FRAME = 4
_SIGNS = {
    CallStatus.COMPLETED: "✓",
    CallStatus.FAILED: "✗",
    CallStatus.CANCELLED: "–",  # noqa: RUF001
    CallStatus.RUNNING: "●",
    CallStatus.PENDING: "○",
}
_ASCII_SIGNS = dict(zip(_SIGNS, "+x-*.", strict=True))


class View:
    """What has been seen of an execution, and how that is drawn."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen
        self._signs = _SIGNS if characters.can_show("".join(_SIGNS.values())) else _ASCII_SIGNS
        self.execution: Execution | None = None
        self._calls: dict[str, Call] = {}
        self._note: str | None = None
        self._forgotten = 0

    def see(self, progress: Progress) -> None:
        """Take in what has changed."""
        calls = self._calls | {call.call_id: call for call in progress.calls}
        if len(calls) > 2 * _KEPT:
            done = [key for key, call in calls.items() if call.status is CallStatus.COMPLETED]
            for key in done[:-_KEPT]:
                del calls[key]
                self._forgotten += 1
        if progress.note or progress.execution != self.execution:
            self._note = progress.note
        # Replaced as one: drawing goes on beside this.
        self._calls, self.execution = calls, progress.execution

    def draw(self) -> RenderableType:
        """The tree as it is now."""
        execution, calls = self.execution, self._calls
        if execution is None:
            return Text("")
        tree = Tree(self._head(execution), guide_style="dim")
        waits = {wait.name: wait for wait in execution.pending_waits}
        note = [self._text(("yellow", self._note), wraps=True)] if self._note is not None else []
        shown, room = [], self._screen.height - _FRAME - self._height(note, depth=1)
        latest = [*calls.values()][::-1]
        for call in sorted(latest, key=lambda call: call.ended_at is not None):
            notes = self._notes(call, waits.get(call.call_id))
            height = self._height(notes, depth=2)
            if height >= room:
                break
            room -= 1 + height
            shown.append((call, notes))
        hidden = len(calls) + self._forgotten - len(shown)
        if hidden:
            tree.add(self._text(("dim", f"{hidden:,} more above")))
        order = {call_id: place for place, call_id in enumerate(calls)}
        for call, notes in sorted(shown, key=lambda each: order[each[0].call_id]):
            branch = tree.add(self._line(call))
            for each in notes:
                branch.add(each)
        for each in note:
            tree.add(each)
        return Constrain(tree, self._width())

    def _head(self, execution: Execution) -> Text:
        status = views.status(execution)
        parts = [("bold", execution.flow_name), ("", execution.exec_id)]
        parts += [(style.STATUSES.get(status, ""), status)]
        took = _elapsed(execution.started_at, execution.ended_at)
        parts += [("dim", took)]
        if used := Usage.of(execution.llm_usage_summary):
            parts.append(("dim", used.told))
        return self._text(*parts)

    def _line(self, call: Call) -> Text:
        status = state(call.kind, call.status)
        colour = style.STATUSES.get(status, "")
        sign = "?" if status == "waiting" else self._signs[call.status]
        parts = [(colour, sign), ("", call.call_id)]
        if call.kind not in ("checkpoint", call.name) and status != "waiting":
            parts.append(("dim", f"{call.kind} {call.child_exec_id or ''}".rstrip()))
        if call.status is not CallStatus.COMPLETED:
            parts.append((colour, status))
        if call.reused:
            parts.append(("dim", "reused"))
        else:
            parts.append(("dim", _elapsed(call.started_at, call.ended_at)))
        if len(call.attempts) > 1:
            parts.append(("dim", f"{len(call.attempts)} attempts"))
        if call.usage:
            parts.append(("dim", call.usage.told))
        return self._text(*parts)

    def _notes(self, call: Call, wait: PendingWait | None) -> list[Text]:
        """What stands below a call: failed attempts, and an open question with how to answer it."""
        if wait is not None and self.execution is not None:
            answer = answers.input_line(self.execution.exec_id, wait.name)
            question = [self._text(("magenta", wait.question))] if wait.question else []
            return [*question, self._text(("dim", answer), wraps=True)]
        tries = [
            (number, each)
            for number, each in enumerate(call.attempts, 1)
            if each.failure is not None
        ]
        if len(call.attempts) == 1:
            return [self._text(("red", each.failure.message)) for _, each in tries if each.failure]
        return [
            self._text(("dim", f"attempt {number}"), ("red", each.failure.message))
            for number, each in tries[-_TRIES:]
            if each.failure
        ]

    def _width(self) -> int:
        # Not to the edge: the ^C that a terminal shows must not begin another line.
        return max(self._screen.width - 3, 1)

    def _height(self, texts: list[Text], *, depth: int) -> int:
        """How many lines texts take that stand so deep in the tree."""
        width = max(self._width() - 4 * depth, 1)
        return sum(len(each.wrap(self._screen, width)) for each in texts)

    def _text(self, *parts: tuple[str, str], wraps: bool = False) -> Text:
        """Parts of one line, each in its style; what does not fit is cut, or goes on below."""
        cut: OverflowMethod = "ellipsis" if characters.can_show("…") else "crop"
        line = Text(no_wrap=not wraps, overflow="fold" if wraps else cut)
        for look, part in parts:
            if part:
                line.append("  " if line else "").append(output.line(part), look)
        return line


def _elapsed(start: datetime.datetime | None, end: datetime.datetime | None) -> str:
    if start is None:
        return ""
    until = end or clock.from_us(clock.now_us())
    seconds = max((until - start).total_seconds(), 0)
    # What is under way is drawn once a second.
    return duration(seconds) if end or seconds >= 60 else f"{int(seconds)}s"
