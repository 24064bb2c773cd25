"""What tools, resources and prompts work with: the store's client, the server's rights, the call.

A `Desk` is the server's, a `Call` is one request's. Neither knows what a tool does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Set
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anyio
from mcp import MCPError
from mcp.server.context import ServerRequestContext
from mcp.types import (
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    CallToolRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequests,
    InputRequiredResult,
)
from mcp.types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from kitaru.errors import KitaruError
from kitaru_mcp.policy import Policy
from kitaru_mcp.pulse import Pulse

if TYPE_CHECKING:
    from kitaru.client import KitaruClient

#: Stands for the store's folder while other paths are looked for.
_HOME = "\0"
#: An absolute path of more than one part.
_PATH = re.compile(r"(?<![\w./:\0])(?:/[^\s/'\"`:,;()<>\[\]{}]+){2,}/?")
_FORM = {
    "type": "object",
    "properties": {"confirm": {"type": "boolean", "description": "Go ahead?", "default": True}},
}
#: How clients say that they cannot ask after all; any other error may be a person's refusal.
_CANNOT_ASK = (METHOD_NOT_FOUND, INVALID_REQUEST)


class Desk:
    """The client of one store, and the server's rights.

    The client is made when it is first needed, so that the server's first answer is not kept
    waiting for the store's code.

    Args:
        home: the store's folder; None to find it.
        policy: the server's rights.
        offered: the names of the tools that clients may call.
    """

    def __init__(self, *, home: str | None, policy: Policy, offered: Set[str]) -> None:
        self._home = home
        self.policy = policy
        self.offered = offered
        #: Set when the input has ended: what waits for something answers with what it has.
        self.is_ending = False
        self.pulse = Pulse(self._version)
        self._questions: set[anyio.CancelScope] = set()

    @cached_property
    def client(self) -> KitaruClient:
        """The store's client."""
        from kitaru.client import KitaruClient

        return KitaruClient(home=self._home)

    def _version(self) -> int:
        try:
            return self.client.version()
        except (KitaruError, OSError):  # whoever waits reads next, and hears what is wrong
            return -1

    def presentable(self, text: str) -> str:
        """A message without paths that are nobody's business: the store's stay, and flows' short.

        Args:
            text: the message.
        """
        try:
            home = str(self.client.home.path)
        except KitaruError:  # its own message is what is shown
            return text
        text = text.replace(home, _HOME)
        for root in self.policy.roots:
            text = text.replace(f"{root}{os.sep}", "")
        text = _PATH.sub(lambda path: f"…/{path[0].rstrip('/').rpartition('/')[2]}", text)
        return text.replace(_HOME, home)

    @contextmanager
    def asking(self) -> Iterator[None]:
        """While a person is asked; left early when no answer can come any more."""
        with anyio.CancelScope() as question:
            self._questions.add(question)
            if self.is_ending:
                question.cancel()
            try:
                yield
            finally:
                self._questions.discard(question)

    def end(self) -> None:
        """The input has ended."""
        self.is_ending = True
        self.pulse.end()
        for question in self._questions:
            question.cancel()


class NotConfirmed(KitaruError):
    """What cannot be undone was neither agreed to by a person nor confirmed by the call."""


class PersonAsked(Exception):
    """The call ends here: its client asks a person, and then calls again with the answer."""

    def __init__(self, result: InputRequiredResult) -> None:
        super().__init__()
        self.result = result


class Call:
    """One call of a tool.

    Args:
        desk: the server's.
        context: the SDK's view of the request.
        params: the request.
    """

    def __init__(
        self, desk: Desk, context: ServerRequestContext[Any], params: CallToolRequestParams
    ) -> None:
        self.desk = desk
        self.context = context
        self._params = params

    @property
    def client(self) -> KitaruClient:
        """The store's client."""
        return self.desk.client

    @property
    def responses(self) -> dict[str, Any]:
        """What a person answered, when the call was made again for that."""
        return dict(self._params.input_responses or {})

    @property
    def tool_use_id(self) -> str | None:
        """The client's own id of this call: the same one when it repeats it."""
        meta: Any = self.context.meta or {}
        found = meta.get("claudecode/toolUseId")
        return found if isinstance(found, str) and found else None

    async def progress(self, done: float, message: str) -> None:
        """Tell the client how far the call is, where it asked for that."""
        await self.context.session.report_progress(done, None, message)

    async def confirm(self, question: str, *, about: str, confirmed: bool) -> None:
        """Let a person decide where the client can ask one; else `confirmed` has to be given.

        Args:
            question: what is to happen.
            about: the id of what it happens to; an answer counts for nothing else.
            confirmed: the call's argument `confirm`.

        Raises:
            NotConfirmed: nobody agreed.
            PersonAsked: the client is to ask, and to call again.
        """
        answer = await self._answer(question, about) if self._can_ask else None
        if answer is None:
            if not confirmed:
                raise NotConfirmed(
                    f"Nothing was done. {question} If that is wanted, call again with confirm=true."
                )
        elif answer.action != "accept" or (answer.content or {}).get("confirm", True) is not True:
            raise NotConfirmed(
                f"Nothing was done: the person was asked and did not agree ({answer.action}). "
                "Do not call again unless they ask for it."
            )

    @property
    def _can_ask(self) -> bool:
        capabilities = self.context.session.client_capabilities
        found = capabilities.elicitation if capabilities else None
        return found is not None and (found.form is not None or found.url is None)

    async def _answer(self, question: str, about: str) -> ElicitResult | None:
        """What the person answered; None where the client turns out to be unable to ask."""
        if self.context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            return await self._asked(question)
        answer = self.responses.get(f"confirm {about}")
        if isinstance(answer, ElicitResult):
            return answer
        form = ElicitRequestFormParams(message=question, requested_schema=_FORM)
        asked: InputRequests = {f"confirm {about}": ElicitRequest(params=form)}
        raise PersonAsked(InputRequiredResult(input_requests=asked))

    async def _asked(self, question: str) -> ElicitResult | None:
        session, request_id = self.context.session, self.context.request_id
        reason = "left before they answered"
        with self.desk.asking():
            try:
                return await session.elicit_form(question, _FORM, related_request_id=request_id)
            except MCPError as error:
                if error.code in _CANNOT_ASK:
                    return None
                reason = f"gave error {error.code}"
            except ValidationError:
                reason = "gave an answer that is none"
        raise NotConfirmed(
            f"Nothing was done: the client was to ask a person, and {reason}. Tell them; "
            "call again to have them asked again."
        )
