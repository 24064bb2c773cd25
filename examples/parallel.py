"""Steps side by side: `map` over a list, `product` over combinations, futures for single calls.

    python examples/parallel.py

One page cannot be read at the first try. Only that one is read again; the others are not touched.
"""

from __future__ import annotations

import kitaru

PAGES = {"home": "welcome to the shop", "about": "we sell tea", "contact": "write to us"}


@kitaru.checkpoint(type="tool_call", retries=2, retry_delay=0.01, retry_on=ConnectionError)
def fetch(page: str) -> str:
    call = kitaru.current_checkpoint()
    if page == "about" and call is not None and call.attempt == 1:
        raise ConnectionError(f"{page} did not answer")
    return PAGES[page]


@kitaru.checkpoint(type="llm_call")
def translate(text: str, language: str) -> str:
    return f"{language}({text})"


@kitaru.checkpoint
def count_words(texts: list[str]) -> int:
    return sum(len(text.split()) for text in texts)


@kitaru.flow
def site(languages: list[str]) -> list[str]:
    texts = fetch.map(PAGES).result()
    words = count_words.submit(texts)  # counts while the translations are made
    translated = translate.product(texts, languages, max_workers=4).result()
    return [f"{words.result()} words", *translated]


if __name__ == "__main__":
    handle = site.run(["de", "fr"])
    print("\n".join(handle.wait()))
    for call in kitaru.KitaruClient().executions.get(handle.exec_id).checkpoints:
        if call.name == "fetch":
            print(f"{call.call_id}: {len(call.attempts)} attempt(s)")
