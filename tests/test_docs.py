"""The documents are true: every example in README.md, docs/ and the docstrings is run.

The blocks of one document run in order in one folder, each in a process of its own.

- A ```python block is run as a script, with a fresh store. When it begins with `# file: NAME` it
  is kept under that name, for later blocks to import or to run.
- In a ```console block, each line that begins with `$ ` is run by bash. It must succeed, and the
  lines after it, if any, must be what it prints (`...` stands for anything). The console blocks of
  a document share one store.
- Models that are asked are those of `examples/model_server.py`.
- `<!-- not-run: REASON -->` on the line before a block leaves it out (its file is still kept).
"""

from __future__ import annotations

import doctest
import functools
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import kitaru
import kitaru_mcp
from examples.model_server import ModelServer, scripted
from kitaru.models import ExecutionStatus, legal_actions
from kitaru_mcp import replies
from tests import tool_table, warm

ROOT = Path(__file__).resolve().parent.parent
SDK = ROOT / "core" / "kitaru"
SECONDS = 120
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
RUN_DOCTESTS = f"""
import doctest, importlib, sys
outcome = doctest.testmod(importlib.import_module(sys.argv[1]), optionflags={FLAGS})
sys.exit(outcome.failed > 0 or outcome.attempted == 0)
"""

FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,})(?P<language>\w*)")
NOT_RUN = re.compile(r"\s*<!-- not-run:(?P<reason>.*)-->\s*")
FILE = re.compile(r"# file: (?P<name>[\w./-]+)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block; `reason` says why it is not run."""

    line: int
    language: str
    text: str
    reason: str | None


def blocks_of(text: str) -> Iterator[Block]:
    """The python and console blocks of a document."""
    lines = iter(enumerate(text.splitlines(), start=1))
    previous = ""
    for number, line in lines:
        if opening := FENCE.match(line):
            indent, ticks, language = opening["indent"], opening["ticks"], opening["language"]
            body = []
            for _, inner in lines:
                if inner.strip() == ticks:
                    break
                body.append(inner.removeprefix(indent) + "\n")
            else:
                raise AssertionError(f"line {number}: this block has no end")
            marked = NOT_RUN.fullmatch(previous)
            if language in ("python", "console"):
                reason = marked["reason"].strip() if marked else None
                yield Block(number, language, "".join(body), reason)
        previous = line


def commands_of(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with the output shown for it."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        length = 1
        while length < len(lines) and lines[length - 1].endswith("\\\n"):
            length += 1
        yield "".join(lines[:length]), "".join(lines[length:])


def read(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


@functools.cache
def models() -> dict[str, str]:
    """The settings by which all models are on a server here, until this process ends."""
    return ModelServer(scripted()).settings()


def run(command: list[str], folder: Path, home: Path) -> str:
    """Run a command as a reader would and return what it prints."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("KITARU_")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    result = subprocess.run(
        command,
        cwd=folder,
        env=kept | models() | {"PATH": path, "KITARU_HOME": str(home), "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    if result.returncode:
        raise AssertionError(f"exit code {result.returncode}\n{result.stdout}")
    return result.stdout


def run_console(text: str, folder: Path, home: Path) -> None:
    commands = [*commands_of(text)]
    assert commands, "a console block has a line that begins with '$ '"
    for command, shown in commands:
        printed = run(["bash", "-c", command], folder, home)
        if shown.strip() and not doctest.OutputChecker().check_output(shown, printed, FLAGS):
            raise AssertionError(f"$ {command}shown:\n{shown}printed:\n{printed}")


def run_block(block: Block, folder: Path, homes: Path) -> None:
    named = FILE.match(block.text) if block.language == "python" else None
    script = folder / (named["name"] if named else f"block_{block.line}.py")
    if named:
        script.parent.mkdir(parents=True, exist_ok=True)
        script.write_text(block.text)
    if block.reason is not None:
        assert block.reason, "not-run needs a reason"
    elif block.language == "console":
        run_console(block.text, folder, homes / "console")
    else:
        script.write_text(block.text)
        run([*warm.command(), str(script)], folder, homes / f"line-{block.line}")


def run_document(text: str, folder: Path) -> None:
    """Run all blocks of a document; an error says at which line the block begins."""
    work, homes = folder / "work", folder / "homes"
    work.mkdir()
    homes.mkdir()
    for block in blocks_of(text):
        try:
            run_block(block, work, homes)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            raise AssertionError(f"block at line {block.line}: {error}") from None


DOCUMENTS = [
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    if path.exists()
]
DOCTESTED = [
    ".".join(path.relative_to(SDK.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(SDK.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_document(document: str, tmp_path: Path):
    run_document(read(document), tmp_path)


@pytest.mark.parametrize("name", DOCTESTED)
def test_docstrings(name: str, tmp_path: Path):
    script = tmp_path / "run_doctests.py"
    script.write_text(RUN_DOCTESTS)
    run([*warm.command(), str(script), name], tmp_path, tmp_path / "home")


def test_the_table_of_statuses_is_the_one_of_the_code():
    nouns, _, _ = read("docs/concepts.md").partition("## The journal")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", nouns, re.MULTILINE)
    shown = {status: re.findall(r"`(\w+)`", actions) for status, actions in rows}
    assert shown.keys() == {*ExecutionStatus}
    for status, actions in shown.items():
        assert sorted(actions) == sorted(legal_actions(ExecutionStatus(status)))


def test_every_public_name_has_a_line():
    text = "\n".join(map(read, DOCUMENTS))
    names = [name for name in dir(kitaru) if name != "__version__"]
    assert [name for name in names if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize("name", ["flow", "checkpoint", "wait"])
def test_every_option_has_a_row(name: str):
    rows = re.findall(r"^\| `(\w+)` \|", read("docs/authoring.md"), re.MULTILINE)
    options = [*inspect.signature(getattr(kitaru, name)).parameters]
    assert [option for option in options if option not in {*rows, "fn"}] == []


def test_the_table_of_tools_is_the_one_of_the_registry():
    shown = tool_table.shown(read("docs/mcp.md"))
    assert shown == tool_table.rendered(), "renew it: python -m tests.tool_table"


def rows_of(document: str, section: str) -> str:
    """The lines of one section of a document."""
    _, found, rest = read(document).partition(f"# {section}\n")
    assert found, f"{document} has no section {section!r}"
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def test_every_option_of_the_server_has_a_row(tmp_path: Path):
    helped = run([sys.executable, "-m", "kitaru_mcp.server", "--help"], tmp_path, tmp_path)
    rows = re.findall(
        r"^\| (`--.*?) \|", rows_of("docs/mcp.md", "The server's options"), re.MULTILINE
    )
    shown = {option for row in rows for option in re.findall(r"--[\w-]+", row)}
    assert shown == {*re.findall(r"(?<!\w)--[a-z][\w-]+", helped)}


def test_every_code_word_of_an_error_has_a_row():
    rows = re.findall(r"^\| `(\w+)` \|", rows_of("docs/mcp.md", "Errors"), re.MULTILINE)
    sources = [path.read_text() for path in Path(kitaru_mcp.__path__[0]).rglob("*.py")]
    raised = {word for text in sources for word in re.findall(r'failure\(\s*"(\w+)"', text)}
    assert sorted(rows) == sorted({*raised, *(word for _, word in replies._CODES)})


def test_the_readme_names_the_server_as_its_registry_does():
    assert f"<!-- mcp-name: {json.loads(read('server.json'))['name']} -->" in read("README.md")


def test_links_lead_somewhere():
    for document in DOCUMENTS:
        for link in re.findall(r"\]\(([^)]+)\)", read(document)):
            name, _, section = link.partition("#")
            if "://" in name:
                continue
            target = (ROOT / document).parent / name if name else ROOT / document
            assert target.exists(), f"{document}: {link}"
            assert not section or section in sections(target), f"{document}: {link}"


def sections(document: Path) -> set[str]:
    """What a Markdown document's headings are linked by."""
    titles = re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


# --- the runner itself ----------------------------------------------------------------------------


GOOD = """
```python
# file: greet.py
def greet(name): return f"hello {name}"
```
Then
```python
import os
from greet import greet
assert greet("you") == "hello you" and not os.path.exists(os.environ["KITARU_HOME"])
os.mkdir(os.environ["KITARU_HOME"])
```
1. and
   ```console
   $ python -c 'import greet; print(greet.greet("a")); \\
   print(1)'
   hello ...
   1
   $ touch "$KITARU_HOME"
   ```
```console
$ test -e "$KITARU_HOME"
```
<!-- not-run: it cannot succeed -->
```console
$ false
```
````text
```python
raise SystemExit("shown, not run")
```
````
"""


def test_a_true_document_passes(tmp_path: Path):
    run_document(GOOD, tmp_path)


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ("\n```python\n1 / 0\n```", "block at line 2: exit code 1"),
        ("```console\n$ false\n```", "exit code 1"),
        ("```console\n$ echo one\ntwo\n```", "shown:\ntwo\nprinted:\none"),
        ("```console\necho one\n```", "begins with"),
        ("<!-- not-run: -->\n```python\n1 / 0\n```", "needs a reason"),
        ("```python\n1", "line 1: this block has no end"),
    ],
)
def test_an_untrue_document_fails(document: str, complaint: str, tmp_path: Path):
    with pytest.raises(AssertionError, match=re.escape(complaint)):
        run_document(document, tmp_path)
