"""Release notes from a real git history, with a person's approval before anything is written.

    python examples/release_notes.py [REPOSITORY] [REVISIONS]

Reads the commits of a range, ranks each kind of change in a checkpoint of its own (they run side
by side), drafts the notes, asks for approval and puts the approved text on top of the notes file.
It needs git, and no model, key or network. Killed at any point, it goes on with
`kitaru executions resume` and repeats nothing that is recorded.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydantic import BaseModel, Field

import kitaru

MAX_COMMITS = 2000
#: Areas that get a section of their own; the commits of all others share one.
MOST_AREAS = 8
GIT_SECONDS = 120
USAGE = "usage: python examples/release_notes.py [REPOSITORY] [REVISIONS]"
VERSION = r"v?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?"
#: How much of the draft goes along with the question; all of it is in the artifact.
SHOWN = 4000


# --- values: what passes between checkpoints, rebuilt from the record by these declarations -------


class Approval(BaseModel):
    """What a person answers."""

    approve: bool
    version: str = Field(
        "", pattern=f"^({VERSION})?$", description="such as 1.4.0; empty takes the proposed one"
    )
    edits: str | None = Field(None, description="text to publish instead of the draft")


@dataclass(frozen=True)
class Commit:
    """One commit of the range."""

    sha: str
    author: str
    subject: str
    breaking: bool


@dataclass(frozen=True)
class History:
    """The commits of a range, newest first; `released` is the last version tag before HEAD."""

    repository: str
    revisions: str
    released: str | None
    commits: list[Commit]


@dataclass(frozen=True)
class Group:
    """Commits of one kind."""

    title: str
    repository: str
    commits: list[Commit]


@dataclass(frozen=True)
class Change:
    """A commit as the notes show it; `lines` counts added and removed ones."""

    text: str
    area: str
    sha: str
    lines: int


@dataclass(frozen=True)
class Section:
    """The changes of one kind, the largest first."""

    title: str
    changes: list[Change]


@dataclass(frozen=True)
class Draft:
    """Notes that wait for approval."""

    version: str
    day: str
    text: str


@dataclass(frozen=True)
class Outcome:
    """What became of the notes; `path` is `None` when they were rejected."""

    status: str
    version: str
    path: str | None
    commits: int


# --- checkpoints ----------------------------------------------------------------------------------


@kitaru.checkpoint(type="tool_call")
def read_history(repository: str, revisions: str) -> History:
    """The commits of a range; by default since the last tag, or all when there is none."""
    root = git(repository, "rev-parse", "--show-toplevel").strip()
    if git(root, "rev-list", "--all", "--max-count=1") == "":
        raise ValueError(f"{root} has no commits yet. Commit something first.")
    newest_first = ("--sort=-version:refname", "--sort=-creatordate")
    tags = git(root, "tag", "--merged", "HEAD", *newest_first).split()
    revisions = revisions or (f"{tags[0]}..HEAD" if tags else "HEAD")
    commits = read_commits(root, revisions)
    released = next((tag for tag in tags if re.fullmatch(VERSION, tag)), None)
    print(f"{len(commits)} commits in {revisions} of {root}")
    return History(root, revisions, released, commits)


@kitaru.checkpoint(type="tool_call")
def rank_changes(group: Group) -> Section:
    """Measure the commits of one kind and put the largest first."""
    shas = [commit.sha for commit in group.commits]
    sizes = measure(group.repository, shas)
    changes = []
    for commit in group.commits:
        header = parse(commit.subject)
        lines, folder = sizes[commit.sha]
        area = folder if header.scope in ("", group.title) else header.scope
        changes.append(Change(header.text, area, commit.sha[:8], lines))
    changes.sort(key=lambda change: -change.lines)
    kitaru.log(commits=len(changes), lines=sum(change.lines for change in changes))
    return Section(group.title, changes)


@kitaru.checkpoint
def draft_notes(history: History, sections: list[Section]) -> Draft:
    """Put the sections into words, and keep the text as an artifact."""
    authors = sorted({commit.author for commit in history.commits})
    lines = [f"{len(history.commits)} commits by {', '.join(authors)} ({history.revisions})."]
    for section in sections:
        lines += ["", f"### {section.title}", ""]
        for change in section.changes:
            area = f"**{change.area}**: " if change.area else ""
            lines.append(f"- {area}{change.text} ({change.sha}, {change.lines} lines)")
    # A model can polish the text here: the result of this checkpoint is recorded, so the model is
    # not asked again when the execution is resumed, and a replay from here asks it anew.
    text = "\n".join(lines) + "\n"
    version = next_version(history.released, [section.title for section in sections])
    kitaru.save("release_notes_draft", text, type="output", tags=["markdown"])
    print(f"Draft of {version}:\n\n{text}")
    return Draft(version, date.today().isoformat(), text)


@kitaru.checkpoint(type="tool_call")
def write_notes(path: str, notes: str) -> str:
    """Put the notes on top of the file.

    The code of a checkpoint can run a second time, when the process dies before its result is
    recorded. So this one recognises its own work, and the file changes as a whole or not at all.
    """
    file = Path(path)
    earlier = file.read_text(encoding="utf-8") if file.exists() else ""
    if earlier.startswith(notes):
        return path
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f".{file.name}.new")
    with new.open("w", encoding="utf-8") as stream:
        stream.write(notes + ("\n" + earlier if earlier else ""))
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(new, file)
    return path


# --- the flow -------------------------------------------------------------------------------------


@kitaru.flow
def release_notes(
    repository: str = ".", revisions: str = "", output: str = "RELEASE_NOTES.md"
) -> Outcome:
    """Draft release notes, have them approved, write them.

    Args:
        repository: a folder in a git work tree.
        revisions: a range such as `v1.2.0..HEAD`; by default everything since the last tag.
        output: the file to write, from the top of the repository when it is relative.
    """
    history = read_history(repository, revisions)
    sections = rank_changes.map(group_commits(history)).result()
    draft = draft_notes(history, sections)
    answer = kitaru.wait(
        name="approve",
        question=f"Publish {len(history.commits)} changes as {draft.version}?",
        schema=Approval,
        timeout=600,
        metadata={
            "proposed_version": draft.version,
            "draft_begins": draft.text[:SHOWN],
            "draft_artifact": "release_notes_draft",
        },
    )
    version = answer.version or draft.version
    if not answer.approve:
        return Outcome("rejected", version, None, len(history.commits))
    text = answer.edits or draft.text
    notes = f"## {version} ({draft.day})\n\n{text.strip()}\n"
    path = write_notes(str(Path(history.repository, output)), notes)
    return Outcome("written", version, path, len(history.commits))


# --- sorting and naming, without effects ----------------------------------------------------------

#: title -> conventional prefixes, first verbs; in the order of the notes.
KINDS: dict[str, tuple[str, str]] = {
    "Features": ("feat feature", "add allow enable implement introduce support"),
    "Fixes": ("fix bugfix hotfix revert", "avoid correct fix handle prevent repair revert stop"),
    "Speed": ("perf", "accelerate cache optimise optimize reduce speed"),
    "Removals": ("remove", "delete deprecate drop remove"),
    "Documentation": ("doc docs", "document explain readme"),
    "Maintenance": (
        "build chore ci deps refactor style test tests",
        "bump clean format merge move refactor rename reorganise simplify test update upgrade",
    ),
}
BREAKING, OTHER = "Breaking changes", "Other changes"
PREFIXES = {prefix: title for title, (prefixes, _) in KINDS.items() for prefix in prefixes.split()}
#: `feat(core)!: text`, and also `core: text`
HEADER = re.compile(r"(?P<prefix>[\w/.-]+)(\((?P<scope>[^)]*)\))?(?P<breaking>!)?:\s+(?P<text>.+)")


@dataclass(frozen=True)
class Header:
    """The first line of a commit's message, taken apart; a prefix that is no kind is a scope."""

    kind: str | None
    scope: str
    text: str
    breaking: bool


def parse(subject: str) -> Header:
    """Take a commit's first line apart."""
    found = HEADER.fullmatch(subject)
    if found is None:
        return Header(None, "", subject, False)
    kind = PREFIXES.get(found["prefix"].lower())
    scope = found["scope"] or ("" if kind else found["prefix"])
    return Header(kind, scope, found["text"], found["breaking"] is not None)


def group_commits(history: History) -> list[Group]:
    """The commits by kind, the most important first; those of no kind by area, where they say it.

    It depends on nothing but the recorded history, so it groups the same way on each resume.
    """
    marked = [(commit, kind_of(commit), parse(commit.subject).scope) for commit in history.commits]
    areas = Counter(area for _, kind, area in marked if area and kind is None)
    own = [area for area, _ in areas.most_common(MOST_AREAS)]
    found: dict[str, list[Commit]] = {title: [] for title in (BREAKING, *KINDS, *own, OTHER)}
    for commit, kind, area in marked:
        found[kind or (area if area in own else OTHER)].append(commit)
    return [Group(title, history.repository, some) for title, some in found.items() if some]


def kind_of(commit: Commit) -> str | None:
    """The kind of a commit: by its prefix, else by its first verb."""
    if commit.breaking:
        return BREAKING
    header = parse(commit.subject)
    first = re.split(r"\W+", header.text.lower(), maxsplit=1)[0]
    by_verb = (title for title, (_, verbs) in KINDS.items() if is_form_of(first, verbs.split()))
    return header.kind or next(by_verb, None)


def is_form_of(word: str, verbs: list[str]) -> bool:
    """Whether a word is one of the verbs, also as `adds`, `added` or `fixes`."""
    return any(word.removesuffix(end) in verbs for end in ("", "s", "es", "d", "ed"))


def next_version(released: str | None, titles: list[str]) -> str:
    """The version after `released` that such changes ask for."""
    if released is None:
        return "0.1.0"
    prefix = "v" if released.startswith("v") else ""
    major, minor, patch = (int(part) for part in re.findall(r"\d+", released)[:3])
    if BREAKING in titles and major > 0:
        return f"{prefix}{major + 1}.0.0"
    if BREAKING in titles or "Features" in titles:
        return f"{prefix}{major}.{minor + 1}.0"
    return f"{prefix}{major}.{minor}.{patch + 1}"


# --- git ------------------------------------------------------------------------------------------


def read_commits(root: str, revisions: str) -> list[Commit]:
    """The commits of a range without merges, newest first."""
    if revisions.startswith("-"):
        raise ValueError(f"revisions is {revisions!r}: a range does not begin with '-'.")
    which = ("-z", "--no-merges", f"--max-count={MAX_COMMITS + 1}")
    form = "--format=%H%x00%aN%x00%s%x00%B"
    fields = git(root, "log", *which, form, "--end-of-options", revisions, "--").split("\0")
    commits = []
    for sha, author, subject, message in zip(*(fields[n::4] for n in range(4)), strict=False):
        breaking = parse(subject).breaking or "BREAKING CHANGE:" in message
        commits.append(Commit(sha, author, subject, breaking))
    if not commits:
        raise ValueError(f"There are no changes in {revisions} of {root}. Give another range.")
    if len(commits) > MAX_COMMITS:
        raise ValueError(f"{revisions} has more than {MAX_COMMITS} commits. Give a shorter range.")
    return commits


def measure(root: str, shas: list[str]) -> dict[str, tuple[int, str]]:
    """How many lines each commit changed, and the top folder most of them are in."""
    which = ("--stdin", "--no-walk=unsorted", "--format=%x00%H")
    form = ("--numstat", "--no-renames", "--no-ext-diff", "--no-textconv")
    output = git(root, "log", *which, *form, stdin="\n".join(shas) + "\n")
    sizes = {}
    for block in output.split("\0")[1:]:
        sha, *files = block.split()[:1] + [line for line in block.splitlines()[1:] if line]
        folders: dict[str, int] = {}
        for line in files:
            added, removed, path = line.split("\t", 2)
            # Binary files have "-" for their counts.
            count = sum(int(part) for part in (added, removed) if part.isdigit())
            folder = path.strip('"').partition("/")[0] if "/" in path else ""
            folders[folder] = folders.get(folder, 0) + count
        top = max(folders, key=lambda name: folders[name], default="")
        sizes[sha] = (sum(folders.values()), top)
    return sizes


def git(folder: str, *arguments: str, stdin: str = "") -> str:
    """The output of a git command in a folder; no shell, no prompts, no colours."""
    # Inside a git hook these would point at another repository than `folder`.
    others = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
    environment = {key: value for key, value in os.environ.items() if key not in others}
    settings = ["-c", "core.quotePath=off", "-c", "log.showSignature=false", "-c", "color.ui=off"]
    try:
        done = subprocess.run(
            ["git", "-C", folder, *settings, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=GIT_SECONDS,
            env=environment | {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"},
        )
    except FileNotFoundError:
        raise RuntimeError("git was not found. Install it, then retry the execution.") from None
    if done.returncode != 0:
        reason = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ValueError(f"git {arguments[0]} failed in {folder}: {reason[0]}")
    return done.stdout


def main(arguments: list[str]) -> int:
    """Run the flow from the command line; in a terminal the question is asked there."""
    if len(arguments) > 2 or any(argument.startswith("-") for argument in arguments):
        print(USAGE, file=sys.stderr)
        return 2
    try:
        handle = release_notes.run(*arguments)
        print(f"Execution {handle.exec_id}")
        outcome = handle.wait()
    except kitaru.KitaruError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{outcome.status}: {outcome.version} {outcome.path or ''}".rstrip())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
