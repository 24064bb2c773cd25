"""The table of tools in docs/mcp.md, made from the registry.

`python -m tests.tool_table` writes it between its two marks; a test compares the two. Nothing else
of the page is touched.
"""

from __future__ import annotations

import re
from pathlib import Path

from kitaru_mcp.parameters import Parameter
from kitaru_mcp.registry import Effect
from kitaru_mcp.tools import TOOLS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "mcp.md"
BEGIN = "<!-- tools: made by `python -m tests.tool_table` -->"
END = "<!-- /tools -->"


def rendered() -> str:
    """The table, one line for each tool."""
    rows = [
        f"| `{tool.name}` | {_first_sentence(tool.description)} "
        f"| {', '.join(map(_argument, tool.parameters)) or 'none'} | {_effect(tool.effect)} |"
        for tool in TOOLS
    ]
    lines = ["| Tool | What it does | Arguments | Effect |", "|---|---|---|---|", *rows]
    return "".join(f"{line}\n" for line in lines)


def shown(page: str) -> str:
    """The table that stands in a page."""
    return _parts(page)[1]


def _parts(page: str) -> tuple[str, str, str]:
    """What stands before the table, the table, what stands after it."""
    before, _, rest = page.partition(f"{BEGIN}\n")
    table, ended, after = rest.partition(f"{END}\n")
    assert ended, f"{PAGE.name} has lost the marks of its table: {BEGIN} and {END}"
    return before, table, after


def _argument(parameter: Parameter) -> str:
    return f"**`{parameter.name}`**" if parameter.required else f"`{parameter.name}`"


def _effect(effect: Effect) -> str:
    if effect.read_only:
        return "reads"
    does = "runs code" if effect.open_world else "for good"
    return f"{does}, asks first" if effect.destructive else does


def _first_sentence(text: str) -> str:
    first = text.partition(". ")[0].rstrip(".")
    escaped = re.sub(r"[|<>*]", r"\\\g<0>", first)
    return re.sub(r'\w+=(?:"\w+"|\w+)|\w+_\w+', r"`\g<0>`", escaped)


def main() -> None:
    """Write the table into the page."""
    before, _, after = _parts(PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(f"{before}{BEGIN}\n{rendered()}{END}\n{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
