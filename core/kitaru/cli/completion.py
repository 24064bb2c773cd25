"""`kitaru completion`: shells complete commands, options, and what the store has.

Prints the script, or adds it to the file that the shell reads: between two marks of its own in a
file that is the user's, so that doing it again renews it and changes nothing else.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from kitaru.cli import files, output
from kitaru.cli.command import Answer, Command
from kitaru.errors import KitaruUsageError

SHELLS = ("bash", "zsh", "fish")
BEGIN = "# --- begin of kitaru completion ---"
END = "# --- end of kitaru completion ---"
#: zsh has no `compdef` before its completion is set up, which a bare ~/.zshrc leaves undone.
_BEFORE = {"zsh": "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }\n"}


#: bash breaks words at `:` and `=`, as in `latest:failed`. The program gets whole words, and bash
#: what of an answer stands behind the last break.
_BASH = r"""
_kitaru_completion() {
    local IFS=$'\n' line=$COMP_LINE words=() part number last prefix="" response type value
    for ((number = 0; number <= COMP_CWORD; number++)); do
        part=${COMP_WORDS[number]}
        if [[ $number -gt 0 && -n $part && $line == "$part"* ]]; then
            words[-1]+=$part
        else
            line=${line#"${line%%[![:space:]]*}"}
            words+=("$part")
        fi
        line=${line#"$part"}
    done
    last=${words[-1]}
    if [[ $last != "$part" ]]; then
        [[ $last == -*=* ]] && last=${last#*=}
        prefix=${last%"${last##*[:=]}"}
    fi
    response=$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((${#words[@]} - 1)) \
        _KITARU_COMPLETE=bash_complete "$1")
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                value=${value#"$prefix"}
                COMPREPLY+=("${value/#\'"$prefix"/\'}")
                ;;
        esac
    done <<< "$response"
}
complete -o nosort -F _kitaru_completion kitaru
"""


@click.command("completion", cls=Command)
@click.argument("shell", type=click.Choice(SHELLS))
@click.option("--install", is_flag=True, help="Add it to the file that the shell reads.")
def completion(*, shell: str, install: bool) -> Answer:
    """Let a shell complete commands, options, ids and names.

    \b
    Example:
      kitaru completion bash --install
      kitaru completion fish
    """
    script = _script(shell)
    if not install:
        return Answer(
            json=lambda: {"item": {"shell": shell, "script": script}}, text=lambda: script
        )
    path = _place(shell)
    changed = _install(path, _BEFORE.get(shell, "") + script, is_own=shell == "fish")
    item = {"shell": shell, "file": str(path), "changed": changed}
    return Answer(json=lambda: {"item": item}, text=lambda: _told(item))


def _script(shell: str) -> str:
    if shell == "bash":
        return _BASH.strip()
    from click.shell_completion import get_completion_class

    from kitaru.cli import kitaru

    cls = get_completion_class(shell)
    assert cls is not None
    return cls(kitaru, {}, "kitaru", "_KITARU_COMPLETE").source().strip()


def _place(shell: str) -> Path:
    """The file that an interactive shell reads when it starts."""
    home = Path.home()
    if shell == "fish":
        settings = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        return settings / "fish" / "completions" / "kitaru.fish"
    if shell == "zsh":
        return Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
    return home / ".bashrc"


def _install(path: Path, script: str, *, is_own: bool) -> bool:
    """Put the script into the file; says whether that changed it."""
    try:
        before = path.read_bytes().decode() if path.exists() else ""
    except UnicodeDecodeError:
        raise _cannot(path, "is not UTF-8 text") from None
    after = f"{script}\n" if is_own else _with_block(before, f"{BEGIN}\n{script}\n{END}\n", path)
    if after != before:
        files.replace(path, after)
    return after != before


def _with_block(text: str, block: str, path: Path) -> str:
    if text.count(BEGIN) != text.count(END) or text.count(BEGIN) > 1:
        raise _cannot(path, f"does not have one {BEGIN!r} with its {END!r}")
    if BEGIN in text:
        head, _, rest = text.partition(BEGIN)
        return head + block + rest.partition(END)[2].removeprefix("\n")
    gap = "\n" if text and not text.endswith("\n") else ""
    return text + gap + block


def _cannot(path: Path, why: str) -> KitaruUsageError:
    return KitaruUsageError(
        f"{path} {why}. It was left as it is: correct it and try again, or add what "
        "`kitaru completion` prints yourself."
    )


def _told(item: dict[str, Any]) -> str:
    did = "Added completion to" if item["changed"] else "Completion is already in"
    lines = [f"{did} {item['file']}"]
    if item["changed"]:
        lines.append(f"  Next: start {item['shell']} again")
    return "\n".join(map(output.line, lines))
