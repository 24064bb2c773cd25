"""What Kitaru promises, and which trials try to break each promise.

docs/guarantees.md is made of this and of a run's outcomes: `python3 dev chaos --record`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Promise:
    """A promise in plain words, how it is attacked, and the trials that do it."""

    text: str
    attack: str
    trials: tuple[str, ...]


PROMISES: dict[str, tuple[Promise, ...]] = {
    "Crashes and power": (
        Promise(
            "What was acknowledged is there after its process was killed.",
            "Kill at random moments, and at every single I/O call of a script that uses the "
            "whole store; compare with what was acknowledged.",
            (
                "kill-chain",
                "kill-fan",
                "kill-tasks",
                "kill-family",
                "kill-asks",
                "kill-polls",
                "kill-calls",
            ),
        ),
        Promise(
            "A recorded checkpoint never runs again; one that was under way runs at most once "
            "more for each crash.",
            "Each run leaves a line in a file outside the store; count the lines after the kills.",
            ("kill-chain", "kill-fan", "kill-tasks", "kill-family"),
        ),
        Promise(
            "A model's recorded answer is never asked for again, and each answer is counted once.",
            "Kill flows of every kind between and inside their requests; compare what the model's "
            "server has been asked and has told with what the store has on record.",
            ("models",),
        ),
        Promise(
            "A resumed execution has the result and the journal of an undisturbed one.",
            "Random programs on simulated drivers that die, stall and overtake each other at "
            "transactions which a seed chooses.",
            ("simulation",),
        ),
        Promise(
            "What was acknowledged is there after a power failure.",
            "Record every write and sync of a real run; build the files that a power cut could "
            "leave, with unsynced writes lost, reordered and torn; open them.",
            ("power",),
        ),
        Promise(
            "Ctrl-C and SIGTERM hand work back in order, and quickly.",
            "Signals at random moments to scripts, runners, the worker and the server.",
            ("stop",),
        ),
    ),
    "Disks and files": (
        Promise(
            "An I/O error is an error with a path and a next step, never damage.",
            "Fail one call after the other: EIO, ENOSPC, short writes, failing syncs; once, and "
            "from then on.",
            ("fail-calls",),
        ),
        Promise(
            "On a full disk what is recorded can be read, and work goes on once there is room.",
            "Fill the disk under flows and a running server, read everything, make room.",
            ("full-disk", "full-tmpfs"),
        ),
        Promise(
            "Damage is noticed before a value is used.",
            "Overwrite 32 random bytes of the database, or of its WAL; read every value.",
            ("rot", "rot-wal"),
        ),
        Promise(
            "A read-only folder can be inspected, and a write says why it cannot be.",
            "Another user reads a copy in which nothing may be written, with and without a WAL.",
            ("read-only",),
        ),
        Promise(
            "An old store is upgraded wholly or not at all, by one process.",
            "Kill the upgrade from every released schema at every I/O call; let eight processes "
            "open an old store at once.",
            ("upgrades", "upgrade-crowd"),
        ),
        Promise(
            "The WAL stays bounded, and no question holds it up.",
            "Hold a reader open during a great many commits, then let it end; time how long each "
            "question holds a state of the store.",
            ("readers", "reads"),
        ),
    ),
    "Ownership": (
        Promise(
            "No execution is driven by two at once, and none is forgotten.",
            "Eight processes claim from one heap; pairs of runners race for one execution.",
            ("claims", "races"),
        ),
        Promise(
            "A driver that was stopped past its lease writes nothing when it wakes.",
            "SIGSTOP, let another finish, SIGCONT; compare the store row by row.",
            ("zombies",),
        ),
        Promise(
            "A clock that jumps starts nothing twice and loses no timer.",
            "Shift the system's clock under running drivers: hours, a day back, a leap second.",
            ("clocks",),
        ),
        Promise(
            "Processes of Kitaru never meet «database is locked».",
            "Eight processes write as fast as they can.",
            ("writers",),
        ),
        Promise(
            "SQLite's WAL-reset fault is not met, on engines that have it.",
            "Writers beside everything in Kitaru that moves the WAL, under the store's lock; and "
            "the same in plain SQLite without the lock.",
            ("wal-reset",),
        ),
        Promise(
            "A fork does no harm.",
            "Fork a process with an open store and running flows; use what was inherited.",
            ("forks",),
        ),
    ),
    "Values and code": (
        Promise(
            "A value comes back equal and of the same type, or is refused when it is recorded.",
            "Generated values: NaN, surrogates, NUL, big integers, odd keys, depth, subclasses.",
            ("values",),
        ),
        Promise(
            "Text of every kind is kept exactly, and shown so that it harms nobody.",
            "Surrogates, NUL, writing from right to left, emoji, two forms of one letter: in "
            "names, inputs, answers and lines, by SDK, CLI and MCP.",
            ("texts",),
        ),
        Promise(
            "Changed code is noticed, and not replayed wrongly.",
            "Rename, reorder, insert, remove, change arguments, types and loops; and harmless "
            "changes, which must pass.",
            ("divergence",),
        ),
        Promise(
            "Store and client do what their model says, whatever the order.",
            "Random sequences of actions, crashes and reopenings beside a plain model.",
            ("model",),
        ),
        Promise(
            "Size changes nothing but time.",
            "A 100 MB artifact, 10,000 checkpoints in one flow, 100,000 log lines, a database of "
            "more than 1 GiB.",
            ("huge-artifact", "long-flow", "many-lines", "big-store"),
        ),
    ),
    "Abuse": (
        Promise(
            "No call crashes, hangs or floods the MCP server.",
            "Calls made from each tool's schema, wrong types, odd text, broken frames.",
            ("calls", "frames"),
        ),
        Promise(
            "An assistant starts only flows under the folders that were allowed.",
            "Hostile targets: other modules, links, `..`, odd bytes, paths swapped meanwhile; an "
            "audit hook sees what is imported.",
            ("targets",),
        ),
        Promise(
            "What flows print and how they die never reaches the protocol.",
            "Flows that print megabytes, close standard output, crash the interpreter.",
            ("framing",),
        ),
        Promise(
            "Nothing in the database is ever executed by reading it.",
            "Plant payloads in every column; read everything by SDK, CLI and MCP.",
            ("planted",),
        ),
        Promise(
            "Nothing listens or calls out, and every file is its owner's.",
            "Python reports each socket that is opened; stores are made without a umask, found in "
            "folders of others, and in folders that all may write.",
            ("sockets", "private"),
        ),
        Promise(
            "A registered secret is never shown.",
            "A canary on many paths; search the logs, the answers and the files for it.",
            ("canary",),
        ),
    ),
    "The tests themselves": (
        Promise(
            "A protection that is gone turns a test red.",
            "Switch off one at a time in a copy of the project: fencing, syncs, the lock, digests, "
            "the comparison of code and record, transactions and more.",
            ("mutants",),
        ),
    ),
}
