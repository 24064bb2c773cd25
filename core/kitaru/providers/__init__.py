"""Providers of models: one question in a provider's own terms, and its answer in ours.

Each goes through the provider's own SDK, which is an extra; its retries are turned off, for ours
are recorded. What is told of an error never holds the key it was made with.
"""

from __future__ import annotations

from kitaru.providers.access import Access, find_access
from kitaru.providers.answer import Answer, Ask, Failed, Listener
from kitaru.providers.asking import ask, ask_async

__all__ = ["Access", "Answer", "Ask", "Failed", "Listener", "ask", "ask_async", "find_access"]
