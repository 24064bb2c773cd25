"""Which characters standard output has: whether text can be shown there, and what shows instead."""

from __future__ import annotations

import sys


def can_show(text: str) -> bool:
    """Whether the encoding of standard output has these characters."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def showable(text: str) -> str:
    """Text in the characters that standard output has, others as their codes."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
