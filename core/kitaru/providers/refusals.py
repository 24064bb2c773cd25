"""What an SDK raises, as one kind of failure: what is said of it, and whether to come back."""

from __future__ import annotations

import email.utils
from collections.abc import Mapping
from typing import Any

from kitaru import clock, redaction
from kitaru.errors import KitaruError
from kitaru.providers.access import Access
from kitaru.providers.answer import Failed

_TRANSIENT = (408, 409, 425, 429)
#: Who is out of money is told so with the status of who is too fast.
_FINAL_CODES = ("insufficient_quota", "billing_hard_limit_reached")
_LONGEST = 500
#: Packages whose errors are of the way to a provider.
_TRANSPORTS = ("httpx", "httpx2", "httpcore", "httpcore2", "ssl", "anyio")

#: What a transport says of a key or an address that it cannot send anything with.
_NEVER_SENT = {"InvalidURL", "LocalProtocolError", "UnsupportedProtocol"}


def failed(exc: Exception, sdk: Any, access: Access) -> Failed:
    """What to say of an error, and whether the same request may succeed later."""
    if isinstance(exc, (Failed, KitaruError)):
        raise exc
    if isinstance(exc, sdk.APIStatusError):
        return _refused(exc, access)
    kinds = {type(exc).__name__, type(exc.__cause__).__name__}
    if wrong := kinds & _NEVER_SENT:
        told = f"it was never asked: the key or the address cannot be right ({', '.join(wrong)})"
        return Failed(f"{told}; {access.address_setting} says where it is", is_transient=False)
    if isinstance(exc, sdk.APITimeoutError):
        told = "it did not answer in time"
        return Failed(told, is_transient=True, is_billed=_is_sent(exc))
    if isinstance(exc, sdk.APIConnectionError):
        return Failed(_unreached(exc, access), is_transient=True, is_billed=_is_sent(exc))
    if isinstance(exc, sdk.APIResponseValidationError):
        return Failed("what it answered is not what its SDK knows", is_transient=False)
    if isinstance(exc, sdk.APIError):  # told in the middle of a stream
        return Failed(_said(exc, access), is_transient=not _is_final(exc), is_billed=True)
    root = type(exc).__module__.partition(".")[0]
    if root in _TRANSPORTS or isinstance(exc, OSError):
        told = f"the answer broke off ({type(exc).__name__})"
        return Failed(told, is_transient=True, is_billed=True)
    if isinstance(exc, ValueError) and not isinstance(exc, UnicodeError):
        told = "an event of its stream is no JSON"
        return Failed(told, is_transient=True, is_billed=True)
    # The SDK refuses an argument, or fails in itself.
    return Failed(f"{type(exc).__name__}: {_said(exc, access)}", is_transient=False)


def _is_sent(exc: Exception) -> bool:
    """Whether a request may have come to where it was sent."""
    cause = exc.__cause__ or exc.__context__
    return not type(cause).__name__.startswith(("Connect", "Pool"))


def _unreached(exc: Exception, access: Access) -> str:
    cause = exc.__cause__ or exc.__context__
    why = f" ({type(cause).__name__})" if cause is not None else ""
    return f"it cannot be reached{why}; {access.address_setting} says where it is"


def _refused(exc: Any, access: Access) -> Failed:
    status = int(exc.status_code)
    headers = exc.response.headers
    should = headers.get("x-should-retry")
    # A stream that breaks off with an error began as 200.
    transient = status in _TRANSIENT or status >= 500 or status < 400
    transient = should == "true" or (transient and should != "false" and not _is_final(exc))
    asked = _retry_after(headers) if transient else None
    said = f"HTTP {status}: {_said(exc, access)}" if status >= 400 else _said(exc, access)
    code = status if status >= 400 else None
    return Failed(
        said,
        is_transient=transient,
        status_code=code,
        retry_after=asked,
        is_billed=code is None,
    )


def _is_final(exc: Any) -> bool:
    return _body(exc).get("code") in _FINAL_CODES


def _body(exc: Any) -> Mapping[str, Any]:
    """What a provider says of an error, whether its SDK has unwrapped it or not."""
    body = getattr(exc, "body", None)
    inner = body.get("error", body) if isinstance(body, Mapping) else {}
    return inner if isinstance(inner, Mapping) else {}


def _said(exc: Any, access: Access) -> str:
    message = _body(exc).get("message") or getattr(exc, "message", None) or str(exc)
    text = " ".join(str(message).split())
    if access.provider != "ollama":  # its key is a word
        text = text.replace(access.key, redaction.MASK)
    if access.base_url is not None:
        text = text.replace(access.base_url, "its address")
    text = redaction.recordable(text)  # before anything is cut off
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds a provider asks for, as `Retry-After` or in milliseconds."""
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:
            return max(float(milliseconds) / 1000, 0.0)
        if (said := headers.get("retry-after")) is None:
            return None
        try:
            return max(float(said), 0.0)
        except ValueError:
            date = email.utils.parsedate_to_datetime(said)
            return max((clock.to_us(date) - clock.now_us()) / 1_000_000, 0.0)
    except (ValueError, TypeError):  # neither a number nor a date
        return None
