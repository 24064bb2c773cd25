"""A flow with a secret under a secret's key wherever there can be one; run in a copy of this file.

The secret comes with the environment, so that this text does not have it. Another one, registered,
stands in text of any kind.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import kitaru
from kitaru import checkpoint, flow

SECRET = os.environ["KITARU_TEST_API_KEY"]
REGISTERED = kitaru.get_secret("canary")["VALUE"]
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
    kitaru.log(nothing=1, said=REGISTERED, **{REGISTERED: 1})
    print(f"it is {REGISTERED}")
    kitaru.save("said", {"text": f"<{REGISTERED}>"})
    return f"done {'.' * 580} {REGISTERED}"


@flow
def secretive(password: str = SECRET, config: Any = None, fails: bool = False) -> dict[str, Any]:
    login(password, NESTED)
    pin = kitaru.wait(
        name="api_key",
        question=f"Which key, {REGISTERED}?",
        schema=str,
        metadata={"secret": SECRET, "said": REGISTERED},
        timeout=60,
    )
    code = kitaru.wait(name="private_key", question="A number?", schema=int, timeout=60)
    talk()
    if fails:
        raise ValueError(f"no luck {'.' * 280} {REGISTERED}")
    return {
        "said": REGISTERED,
        "token": pin,
        "code": code,
        "config": NESTED,
        "credentials": Login(),
    }
