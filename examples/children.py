"""Flows that run flows: each child is an execution of its own, linked to its parent.

    python examples/children.py

A child is started once, however often its parent is driven; it can be looked at, retried and
replayed by itself, and it is cancelled with its parent.
"""

from __future__ import annotations

import kitaru


@kitaru.checkpoint(type="tool_call")
def inspect(repository: str) -> int:
    return len(repository)


@kitaru.checkpoint(type="llm_call")
def summarize(findings: dict[str, int]) -> str:
    return ", ".join(f"{name}: {count} findings" for name, count in findings.items())


@kitaru.flow
def audit(repository: str) -> int:
    return inspect(repository)


@kitaru.flow
def audit_all(repositories: list[str]) -> str:
    children = {name: audit.run(name) for name in repositories}  # all of them start at once
    return summarize({name: child.wait() for name, child in children.items()})


if __name__ == "__main__":
    handle = audit_all.run(["core", "website", "docs"])
    print(handle.wait())
    for each in kitaru.KitaruClient().executions.list(flow="audit"):
        print(f"{each.exec_id} is a child of {each.parent_exec_id}: {each.status}")
