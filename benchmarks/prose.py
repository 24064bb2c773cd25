"""The words of docs/performance.md; its figures come from elsewhere."""

from __future__ import annotations

HEAD = """
# Performance

<!-- made by `python3 dev bench --record` from docs/performance.json: change benchmarks/ instead -->

What Kitaru costs, beside the least that the same work can cost and beside other systems. One
command measures everything in one run on one machine, and writes this page.
"""

TITLES = {
    "sequential": "Steps one after the other",
    "models": "Asking a model",
    "fan_out": "Steps beside each other",
    "at_once": "Executions beside each other",
    "resume": "Resuming a long flow",
    "crash": "From a crash to going on",
    "startup": "Starting",
    "answers": "From an answer to going on",
    "logs": "Logs",
    "artifacts": "Artifacts",
    "queries": "Looking at many executions",
    "size": "Size of the store",
    "mcp": "The MCP server",
}

SHORT = """
The floor is what the machine gives at the least: for steps plain SQLite, one row and one commit
each, in WAL mode at `synchronous=FULL`; for processes a Python that does nothing. `x` is how many
times the floor. The peers are not equally durable: see
[below](#who-makes-what-durable-and-when).
"""

AIMS = "An aim is reached when the median is within it. Ratios are to the floor of the same run."

CASES = {
    "sequential": """
A checkpoint takes a number and returns a short text. The floor writes a row of the same payload
in a commit of its own. Inside the flow is from before the first step to behind the last. FULL
pushes each commit to the disk; NORMAL leaves that to the system, and is never Kitaru's default. A
peer runs at its own default and is held to the floor at FULL.
""",
    "models": """
A model that is scripted, in a process of its own on the same machine, answers at once. The floor
is the provider's SDK alone, with one client for all calls. Beside it stands the same with a bare
row committed behind each answer: a processor that waits for the disk is slower afterwards, and the
SDK with it. In a flow each `kitaru.llm` is a durable call of its own: question, answer, tokens and
cost are on disk before the flow goes on. In a checkpoint each is counted on disk at once, and the
price of the checkpoint is in the figures.
""",
    "fan_out": """
A hundred steps that sleep, all at once: on threads with `map` and `max_workers=100`, and as async
checkpoints in one `gather`. The floor is a hundred plain threads that sleep, and one commit.
""",
    "at_once": """
Concurrent results in one process share commits, so many executions together can do more steps a
second than there are commits. The second floor shows what sharing could bring: ten rows in each
commit. Several processes on one store take turns at writing; as many processes that write bare
rows, under SQLite's own lock, stand beside them.
""",
    "resume": """
The flow runs again from the top and gets its recorded results. It is driven in the process that
resumes it, on a store that was opened before. The floor reads and decodes as many rows. A peer that
keeps its whole state in its last checkpoint, as LangGraph does, has to read only that one.
""",
    "crash": """
A driver is killed in the middle of its flow. Both ways of resuming start a new process that loads
the flow's code, gets the record back and goes on; the command is a process more.
""",
    "startup": """
Whole processes, with the interpreter's own share. Import means `from kitaru import checkpoint,
flow, wait`, since `import kitaru` alone loads next to nothing. The MCP server is started, asked
for its tools, and idle; beside it stands the smallest server that the same SDK makes. A server that
a peer needs is up before.
""",
    "answers": """
A driver holds on to a question. The answer is given by its own process, or by another one that is
up already. From the call of `input` to the next line of the flow.
""",
    "logs": """
What a checkpoint prints is recorded with its result. The floor prints the same lines into a file.
`kitaru executions logs --follow` is a process that reads while a driver writes; reading the same
lines once, without following, stands beside it.
""",
    "artifacts": """
Saving is a whole checkpoint: the value is on disk when it returns. The floor is a new file of as
many random bytes with one `fsync`. Kitaru keeps a digest beside each value, and checks it on
loading.
""",
    "queries": """
The stores are generated, with calls, logs, artifacts and metadata as months of use would leave
them. The floor is a bare table with the needed columns and indexes.
""",
    "size": """
The difference between a short and a long run, with nothing left in the WAL: name, input digest,
result, times and attempts of a step. The floor is a table with a name and a value.
""",
    "mcp": """
A light client over the server's pipes calls three tools. The floor is a tool that greets, on the
smallest server of the same SDK. The store has a hundred thousand executions.
""",
}

DURABILITY = """
A step is worth as much as what is left of it after a power failure. This is what each system syncs,
and when, as it ran here.
"""

OWN = {
    "bare SQLite, FULL": "One `fsync` of the WAL in each commit, one commit for each step.",
    "bare SQLite, NORMAL": "No sync in a commit: a power failure can take the last commits.",
    "Kitaru, FULL": "The default. A step's result is committed and its WAL synced before the step "
    "returns; results that are ready together share a commit.",
    "Kitaru, NORMAL": "A named choice. It survives a crash of the process; a power failure can "
    "take the last steps, which then run again.",
}

AGAIN = """
## Run it again

<!-- not-run: it takes minutes -->
```console
$ python3 dev peers                # once: the peers and matplotlib, in an environment of their own
$ python3 dev bench                # everything; a case by its name: sequential, resume, startup, …
$ python3 dev bench --compare      # a quick run's ratios beside the ones on this page
$ python3 dev bench --record       # everything, and this page
$ python3 dev bench --record CASE  # that case of the page alone, with a date of its own
```

Without the peers the rest is measured, and a line says what is left out. `--rounds N` measures more
often, `--json FILE` keeps the figures. `python -m benchmarks.scale`, `benchmarks.counts` and
`benchmarks.servers` go further into many at once, statistics, and the MCP server.

How it is measured: each side of a case is a process of its own that stays up. In each round every
side does the same work once, or several times where it is short, and the order changes from round
to round. A figure is the median of the rounds, with the least and the most. A ratio is made
within each round, and its median is shown. A peer that is slow takes part in fewer rounds, and
a peer's servers stand still while others are measured. All files lie on one disk; nothing is
measured in memory.
"""

NOT = """
## What these figures are not

- **Not your machine's.** The disk decides what a commit costs: compare ratios, not milliseconds.
- **Not quiet.** The machine is shared, and its cores are few. The spread shows how much that
  matters.
- **Not a network's.** Nothing here talks to another machine. Systems made for many machines pay
  for what this page does not use.
- **Not an agent's.** A model's answer takes seconds. The steps here do nothing, so that only the
  price of keeping them is left.
- **Not the peers' best.** Each runs as its own documents recommend for local work, at its default
  durability. Other settings or databases give other figures.
- **Not a promise.** The tests hold no time to a limit. `python3 dev test` prints a quick run's
  ratios beside these, as information.
"""
