"""What a mutant is: code that keeps a promise, and what stands there instead."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A promise, by the text of the code that keeps it and what stands there instead."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str:
        """The file's text without the promise.

        Raises:
            ValueError: the code is not there, or several times: the mutant has to be renewed.
        """
        if (count := text.count(self.old)) != 1:
            raise ValueError(f"Mutant {self.name}: {self.path} has its text {count} times.")
        return text.replace(self.old, self.new)
