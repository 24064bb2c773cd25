"""A person decides: the flow asks, is suspended, and goes on with the answer.

    python examples/human_in_the_loop.py

In a terminal the question is asked right there, field by field. Elsewhere a second thread answers
it through the client, as a web page or a chat bot would. Other ways to answer:

    kitaru executions input ID --wait review --value '{"approve": true, "note": "Nice."}'
"""

from __future__ import annotations

import sys
import threading
import time

from pydantic import BaseModel

import kitaru


class Review(BaseModel):
    """What the reviewer says."""

    approve: bool
    note: str = ""


@kitaru.checkpoint(type="llm_call")
def draft(topic: str, note: str) -> str:
    return f"About {topic}{f' ({note})' if note else ''}"


@kitaru.flow
def publish(topic: str) -> str:
    text = draft(topic, "")
    while True:
        review = kitaru.wait(
            name="review", question=f"Publish '{text}'?", schema=Review, timeout=600
        )
        if review.approve:
            return f"published: {text}"
        text = draft(topic, review.note)


def answer(exec_id: str, reviews: list[Review]) -> None:
    """Give the reviews one by one, whenever the flow asks."""
    executions = kitaru.KitaruClient().executions
    for review in reviews:
        while not (asked := executions.pending_waits(exec_id)):
            time.sleep(0.02)
        print(f"{asked[0].question} {review.note or 'yes'}")
        executions.input(exec_id, wait=asked[0].wait_id, value=review)


if __name__ == "__main__":
    handle = publish.run("tea")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        reviews = [Review(approve=False, note="green tea, please"), Review(approve=True)]
        threading.Thread(target=answer, args=(handle.exec_id, reviews), daemon=True).start()
    print(handle.wait())
