"""Completion in a real bash, and for zsh and fish in the words their scripts send."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kitaru
from kitaru.cli import completion
from tests.cli.conftest import Cli
from tests.support import until

SCRIPTS = Path(sys.executable).parent


@kitaru.checkpoint
def research(topic: str) -> str:
    kitaru.save("sources", [topic], type="context")
    return topic


@kitaru.flow
def asking(topic: str = "dogs") -> bool:
    research(topic)
    return bool(kitaru.wait(name="approve", question="Publish\n it?", timeout=0))


@kitaru.flow
def quick() -> int:
    return 1


@pytest.fixture
def waiting(home: Path) -> str:
    """The id of an execution that waits; another one has completed."""
    quick.run().wait()
    exec_id = asking.run().exec_id
    executions = kitaru.KitaruClient().executions
    until(lambda: executions.pending_waits(exec_id), "it asks")
    return exec_id


def run(shell: str, line: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Complete the last word of a line, as the shell's script asks for it."""
    words = line.split(" ")
    about = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    if shell == "fish":
        about["COMP_CWORD"] = words[-1]
    return subprocess.run(
        [sys.executable, "-m", "kitaru.cli"],
        env=os.environ | about | {"_KITARU_COMPLETE": f"{shell}_complete"} | env,
        capture_output=True,
        text=True,
        timeout=60,
    )


def completed(line: str, shell: str = "zsh") -> dict[str, str]:
    """The values for the last word, each with its help."""
    result = run(shell, line)
    assert (result.returncode, result.stderr) == (0, "")
    parts = result.stdout.split("\n")
    return dict(zip(parts[1::3], parts[2::3], strict=False))


def test_what_the_store_has_is_completed_with_words_about_it(waiting: str):
    ids = completed("kitaru executions get ")
    assert ids[waiting] == "waiting asking"
    assert "completed quick" in ids.values()
    assert "latest" in ids
    assert completed(f"kitaru executions get {waiting[:9]}") == {waiting: "waiting asking"}
    assert completed(f"kitaru executions get {waiting[3:9]}") == {waiting: "waiting asking"}
    assert "latest\\:failed" in completed("kitaru executions logs latest:f") or "latest:failed" in (
        completed("kitaru executions logs latest:f")
    )
    assert completed("kitaru executions list --flow a") == {"asking": "_"}
    assert completed("kitaru executions list --status c") == {"completed": "_", "cancelled": "_"}
    assert completed("kitaru stack use ") == {"local": "active"}
    assert completed("kitaru executions list --stack l") == {"local": "active"}
    before = f"kitaru executions input {waiting} --wait "
    assert completed(before) == {"approve": "Publish it?"}
    assert completed(f"{before}x") == {}
    for option in ("replay {} --from", "logs {} --checkpoint"):
        line = f"kitaru executions {option.format(waiting)} "
        assert completed(line) == {"research": "completed"}
    assert completed(f"kitaru artifacts list {waiting} --producing-call r") == {
        "research": "completed"
    }
    both = {f"{waiting}/research/sources": "context", f"{waiting}/research": "step_output"}
    assert completed(f"kitaru artifacts get {waiting}/r") == both
    assert completed(f"kitaru artifacts get {waiting[:9]}") == both
    assert completed(f"kitaru artifacts get {waiting}/research/") == {
        f"{waiting}/research/sources": "context"
    }


def test_commands_and_options_are_completed():
    assert "executions" in completed("kitaru ex")
    assert completed("kitaru cost --by m") == {"model": "_"}
    assert {"get", "list", "input"} <= completed("kitaru executions ").keys()
    assert "--interactive" in completed("kitaru executions input --i")
    assert completed("kitaru executions run agent.p") == {"agent.p": "_"}
    assert run("zsh", "kitaru executions run agent.p").stdout.startswith("file\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completing_makes_no_store_and_never_fails(home: Path, shell: str):
    for line in (
        "kitaru executions get kr-",
        "kitaru executions input kr-1 --wait ",
        "kitaru artifacts get kr-1/a",
        "kitaru executions get 'a \"b",
    ):
        result = run(shell, line)
        assert (result.returncode, result.stderr) == (0, ""), line
        assert not (home / "kitaru.db").exists()
    (home / "kitaru.db").write_text("this is no database" * 100)
    for env in ({}, {"KITARU_HOME": "/proc/nowhere"}, {"KITARU_DURABILITY": "bogus"}):
        result = run(shell, "kitaru executions get kr-1", **env)
        assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "", "")


def test_fish_gets_the_words_about_a_value(waiting: str):
    result = run("fish", f"kitaru executions get {waiting[:8]}")
    assert result.stdout == f"plain,{waiting}\twaiting asking\n"


def in_bash(home: Path, words: list[str], line: str = "") -> list[str]:
    """What a bash that has read the user's file offers for the last word."""
    array = " ".join(f"'{word}'" for word in words)
    script = (
        f"PS1=x; source ~/.bashrc; COMP_WORDS=({array}); COMP_CWORD={len(words) - 1}; "
        f"COMP_LINE='{line}'; "
        "$(complete -p kitaru | sed 's/.*-F //; s/ kitaru//') kitaru; printf '%s\\n' "
        '"${COMPREPLY[@]}"'
    )
    result = subprocess.run(
        ["bash", "--norc", "-c", script.replace("$(complete", "eval $(complete")],
        env=os.environ | {"HOME": str(home), "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return result.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_real_bash_completes_after_the_script_was_installed(
    cli: Cli, waiting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    cli.good("completion", "bash", "--install")
    assert in_bash(tmp_path, ["kitaru", "executions", "get", waiting[:8]]) == [waiting]
    assert in_bash(tmp_path, ["kitaru", "executions", "res"]) == ["resume"]
    kitaru.flow(lambda: 1, name="two words").run().wait()
    flows = in_bash(tmp_path, ["kitaru", "executions", "list", "--flow", "two"])
    assert flows == ["'two", "words'"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_what_bash_breaks_at_colons_and_equal_signs_is_one_word(
    cli: Cli, waiting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    cli.good("completion", "bash", "--install")
    kitaru.flow(lambda: 1, name="a:b c").run().wait()

    def offered(line: str) -> list[str]:
        words = [part for word in line.split(" ") for part in re.split("([:=])", word)]
        return in_bash(tmp_path, words, line)

    assert offered("kitaru executions get latest:fa") == ["failed"]
    assert offered("kitaru executions logs latest:asking --checkpoint r") == ["research"]
    assert offered("kitaru executions list --flow=ask") == ["asking"]
    assert offered("kitaru executions list --flow a:b") == ["'b", "c'"]


def test_bash_gets_names_that_it_would_run_in_quotes(home: Path):
    kitaru.flow(lambda: 1, name="$(reboot)").run().wait()
    result = run("bash", "kitaru executions list --flow $")
    assert result.stdout == "plain,'$(reboot)'\n"


@pytest.mark.parametrize(
    ("shell", "file"),
    [("bash", ".bashrc"), ("zsh", ".zshrc"), ("fish", ".config/fish/completions/kitaru.fish")],
)
def test_installing_changes_one_file_and_only_once(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shell: str, file: str
):
    for name in ("ZDOTDIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / file
    if shell == "bash":
        path.write_text("alias a=b")  # without its last newline
        path.chmod(0o640)
    script = cli.good("completion", shell)
    assert cli.good("completion", shell, "--install").startswith(f"Added completion to {path}\n")
    once = path.read_text()
    assert script in once
    assert cli.json("completion", shell, "--install").item == {
        "shell": shell,
        "file": str(path),
        "changed": False,
    }
    assert path.read_text() == once
    if shell == "fish":
        return
    # A later version's script takes the place of this one, and the user's lines stay.
    path.write_text(once.replace(script, "old\n") + "export LATER=1\n")
    cli.good("completion", shell, "--install")
    assert path.read_text() == once + "export LATER=1\n"
    if shell == "bash":
        assert once.startswith("alias a=b\n# --- begin of kitaru")
        assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_cannot_be_understood_is_left_as_it_is(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    for damaged in (f"{completion.BEGIN}\n".encode(), b"\xff\n"):
        (tmp_path / ".bashrc").write_bytes(damaged)
        refused = cli.json("completion", "bash", "--install")
        assert refused.code == 1
        assert "It was left as it is" in refused.error["message"]
        assert (tmp_path / ".bashrc").read_bytes() == damaged


@pytest.mark.parametrize("shell", [shell for shell in ("zsh", "fish") if shutil.which(shell)])
def test_the_script_is_one_that_the_shell_reads(cli: Cli, shell: str):
    script = cli.good("completion", shell)
    subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=60)


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_a_real_fish_completes_after_the_script_was_installed(
    cli: Cli, waiting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    path = cli.json("completion", "fish", "--install").item["file"]
    asked = f"source {path}; complete -C 'kitaru executions get {waiting[:8]}'"
    shown = subprocess.run(
        ["fish", "-c", asked], capture_output=True, text=True, check=True, timeout=60
    )
    assert shown.stdout == f"{waiting}\twaiting asking\n"
