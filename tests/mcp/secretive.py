"""A flow with a secret under a secret's key wherever there can be one; run in a copy of this file.

The secret comes with the environment, so that this text does not have it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import kitaru
from kitaru import checkpoint, flow

SECRET = os.environ["KITARU_TEST_API_KEY"]
NESTED = {"config": [{"API-Key": SECRET, "deep": {"password": [SECRET, {"again": SECRET}]}}]}


@dataclass
class Login:
    user: str = "me"
    password: str = field(default=SECRET)


@checkpoint
def login(password: str, config: Any) -> Login:
    kitaru.log(access_token=SECRET, config=NESTED)
    kitaru.save("session", {"authorization": f"Bearer {SECRET}"}, type="context")
    kitaru.save("api_key", SECRET)
    kitaru.save("long", [NESTED] * 300)
    return Login()


@checkpoint
def talk() -> str:
    kitaru.log(nothing=1)
    return "done"


@flow
def secretive(password: str = SECRET, config: Any = None, fails: bool = False) -> dict[str, Any]:
    login(password, NESTED)
    pin = kitaru.wait(
        name="api_key", question="Which key?", schema=str, metadata={"secret": SECRET}, timeout=60
    )
    code = kitaru.wait(name="private_key", question="A number?", schema=int, timeout=60)
    talk()
    if fails:
        raise ValueError("no luck")
    return {"token": pin, "code": code, "config": NESTED, "credentials": Login()}
