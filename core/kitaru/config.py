"""Settings: where the store is, how durable it is, and every named limit.

The store's home is the first of: an explicit argument, `KITARU_HOME`, the nearest `.kitaru/`
folder upward from the working directory, the user data folder. SDK, CLI and MCP server all ask
`find_home`, so they agree by construction.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kitaru.errors import KitaruUsageError

DATABASE_NAME = "kitaru.db"
PROJECT_FOLDER = ".kitaru"
RUNNER_LOGS = "runners"
DEFAULT_STACK = "local"
LOCAL_STACK_TYPE = "local"

#: A runner's right to drive an execution ends this long after it last renewed it.
LEASE_SECONDS = 15.0
LEASE_RENEW_SECONDS = 5.0
#: What a driver that may live has left to renew a lease that has run out: the clock may jump.
LATE_SECONDS = 0.2
#: A call that runs longer than this is recorded as running by itself.
STARTED_AFTER_SECONDS = 0.02
#: How often a driver looks after its running calls, and for a cancellation.
TICK_SECONDS = 0.05
#: How often a process looks for changes in the store while some flow of it waits for one; at
#: first so often, as what was asked by one program may be answered by another at once.
POLL_SECONDS = 0.02
FIRST_POLL_SECONDS = 0.005
#: The longest that a waiting call rests between two looks of its own.
REST_SECONDS = 0.5
#: How long a wait polls before it lets go, unless it says otherwise.
WAIT_TIMEOUT_SECONDS = 600.0
#: How long `kitaru.sleep` holds its process before it lets go, unless it says otherwise.
SLEEP_TIMEOUT_SECONDS = 60.0
#: How long an async flow holds back results for one that ended earlier when it was recorded.
TURN_SECONDS = 5.0
#: Rounds of an async flow's loop without rest, after which it hands out results all the same.
TURN_ROUNDS = 1000
#: How long a script that is interrupted lets its flows come to their next durable call.
EXIT_GRACE_SECONDS = 1.5
#: How long it may take after that to leave those that have not come to one.
EXIT_LAST_SECONDS = 0.4
#: How long captured lines of a running call may stay in memory.
LOG_FLUSH_SECONDS = 0.5
#: A runner process that has not stopped this long after a cancellation ends itself.
CANCEL_GRACE_SECONDS = 10.0
#: How long a client waits for a runner to import the flow and take the execution.
RUNNER_START_SECONDS = 60.0
#: How many runners of a worker live at a time, unless it is told otherwise.
WORKER_LIMIT = 4
#: How often those who watch an execution look whether its driver lives, without a change.
LOOK_SECONDS = 1.0
#: The shortest time between two looks of those who watch its calls.
WATCH_SECONDS = 0.1
#: How often a worker looks for changes in the store, and, without any, for dead drivers.
WORKER_POLL_SECONDS = 0.2
WORKER_LOOK_SECONDS = 1.0
#: How long a worker leaves an execution alone that it could not take up or that died, at first
#: and at most; doubled from one time to the next.
WORKER_PAUSE_SECONDS = 1.0
WORKER_PAUSE_MAX_SECONDS = 300.0
#: What goes to a log store at a time at most, how long its backend may take for each step of an
#: answer, and how long a worker that ends waits for the batch that is under way.
LOG_STORE_LINES = 500
LOG_STORE_BYTES = 1_000_000
LOG_STORE_TIMEOUT_SECONDS = 10.0
LOG_STORE_LEAVE_SECONDS = 1.0
#: Checkpoints of one execution that run at the same time.
MAX_WORKERS = 16
#: First pause before a checkpoint is tried again, its growth and its ceiling, in seconds.
RETRY_DELAY_SECONDS = 1.0
RETRY_BACKOFF = 2.0
RETRY_DELAY_MAX_SECONDS = 60.0
#: The longest pause that a service may ask for with its `retry_after`.
RETRY_AFTER_MAX_SECONDS = 300.0
#: How often a request to a model is repeated after a failure that may pass.
LLM_RETRIES = 4
#: Of an answer that streams: the most characters without a newline that are one line of the log.
LLM_LINE_CHARACTERS = 160
#: Larger values (in bytes) are told by size and digest in an export, unless it is raw.
EXPORT_VALUE_BYTES = 256 * 1024
#: About how long one transaction of a pruning may last, and others wait for it.
PRUNE_BATCH_SECONDS = 0.03
#: The longest time that an option may name: a century.
MAX_SECONDS = 100 * 366 * 86_400.0
#: Values longer than this (in bytes) are stored in chunks beside their row.
INLINE_BYTES = 32 * 1024
CHUNK_BYTES = 1024 * 1024
#: Text limits, in characters.
MAX_NAME = 128
MAX_IDEMPOTENCY_KEY = 200
MAX_LOG_MESSAGE = 64 * 1024
MAX_TRACEBACK = 32 * 1024
MAX_FAILURE_MESSAGE = 8 * 1024
INPUTS_SHOWN = 300
#: Listings.
DEFAULT_PAGE = 20
MAX_PAGE = 200
ENDED_PAGE = 50
#: Lines and artifacts of one execution may be asked for in larger pieces.
MAX_ROWS = 1_000_000
#: The longest that one question for statistics may take.
STATISTICS_SECONDS = 30.0
#: Lines that are read at a time by those who follow an execution.
FOLLOW_PAGE = 1000
#: Of a recorded value: characters shown at a time, and bytes of one that is shown at all, of
#: which an image's may be sent.
VIEW_CHARACTERS = 20_000
MAX_VIEW_CHARACTERS = 1_000_000
MAX_VIEW_BYTES = 16 * 1024 * 1024
MAX_IMAGE_BYTES = 1024 * 1024

#: How environment variables say yes and no, in any letter case.
YES = ("1", "true", "t", "yes", "y", "on")
NO = ("0", "false", "f", "no", "n", "off")

Durability = Literal["full", "normal"]


@dataclass(frozen=True, slots=True)
class Home:
    """The folder that holds a store, and why it was chosen."""

    path: Path
    source: str

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.path / DATABASE_NAME


def find_home(explicit: str | os.PathLike[str] | None = None) -> Home:
    """Find the store's home.

    Args:
        explicit: a folder that wins over everything else.

    Raises:
        KitaruUsageError: the folder named is empty text or a file, or a server is named.
    """
    if explicit is not None:
        if not isinstance(explicit, str | os.PathLike):
            raise KitaruUsageError(f"The store's home is {explicit!r:.60}; name a folder.")
        return _named(os.fspath(explicit), "explicit argument")
    if os.environ.get("KITARU_SERVER_URL"):
        # Going on with a local store would put executions where nobody looks for them.
        raise KitaruUsageError(
            "KITARU_SERVER_URL is set, but this version works on local stores only. Unset it; "
            "KITARU_HOME names the store."
        )
    if "KITARU_HOME" in os.environ:
        return _named(os.environ["KITARU_HOME"], "KITARU_HOME")
    try:
        here = Path.cwd()
    except FileNotFoundError:
        raise KitaruUsageError(
            "The working directory no longer exists, so no project folder can be looked for. "
            "Change to another directory, or set KITARU_HOME."
        ) from None
    for folder in (here, *here.parents):
        if (folder / PROJECT_FOLDER).is_dir():
            _refuse_foreign(folder / PROJECT_FOLDER)
            return Home(folder / PROJECT_FOLDER, f"project folder {folder}")
    import platformdirs

    return Home(Path(platformdirs.user_data_dir("kitaru", appauthor=False)), "user data folder")


def _refuse_foreign(path: Path) -> None:
    """Refuse a store that another user has left on the way up; root may use anybody's."""
    if not hasattr(os, "geteuid") or os.geteuid() in (0, path.stat().st_uid):
        return
    raise KitaruUsageError(
        f"The nearest project folder has a store of another user, {path}, who chooses what code "
        f"its executions run. To use it all the same, name it: KITARU_HOME='{path}'."
    )


_pinned: dict[str, Path] = {}


def _named(value: str, source: str) -> Home:
    # A relative name keeps its first meaning when the process changes its directory.
    path = _pinned.get(value)
    if path is None:
        path = _pinned.setdefault(value, Path(value).expanduser().absolute())
    # Not with `Path`, to which a folder that may not be entered is an error of its own.
    if not value.strip() or (os.path.exists(path) and not os.path.isdir(path)):
        raise KitaruUsageError(
            f"The store's home from {source} is {value!r}, which is not a folder. "
            "Name a folder; it is made when needed."
        )
    return Home(path, source)


def durability() -> Durability:
    """How hard each commit is pushed to disk: `full` unless `KITARU_DURABILITY=normal`.

    Raises:
        KitaruUsageError: the setting is neither `full` nor `normal`.
    """
    value = os.environ.get("KITARU_DURABILITY", "full").strip().lower()
    if value == "full":
        return "full"
    if value == "normal":
        return "normal"
    raise KitaruUsageError(f"KITARU_DURABILITY is {value!r}; use 'full' or 'normal'.")


def allow_network_home() -> bool:
    """Whether `KITARU_ALLOW_NETWORK_HOME=1` permits a store on a network file system.

    Raises:
        KitaruUsageError: the setting is neither yes nor no.
    """
    return env_flag("KITARU_ALLOW_NETWORK_HOME") is True


def env_flag(variable: str) -> bool | None:
    """What an environment variable says, yes or no; `None` when it is not set.

    Raises:
        KitaruUsageError: it says neither.
    """
    text = os.environ.get(variable)
    if text is None:
        return None
    word = text.strip().lower()
    if word not in YES + NO:
        raise KitaruUsageError(
            f"{variable} is {text!r:.60}; use one of {', '.join(YES)} or one of {', '.join(NO)}."
        )
    return word in YES
