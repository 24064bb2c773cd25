"""The scripted model: what a command that it runs finds, and that it ends with it."""

from __future__ import annotations

import subprocess
import sys

from tests.examples.test_patterns import EXAMPLES

ASK = """
import openai
asked = openai.OpenAI().chat.completions.create(
    model="gpt-5-nano", messages=[{"role": "user", "content": "One line about dogs."}]
)
print(asked.choices[0].message.content)
"""


def test_a_command_finds_all_models_on_the_server_and_gives_its_exit_code():
    server = [sys.executable, str(EXAMPLES / "model_server.py"), "--"]
    asked = subprocess.run(
        [*server, sys.executable, "-c", ASK], capture_output=True, text=True, timeout=60
    )
    assert (asked.stdout, asked.stderr) == ("Dogs keep us company.\n", "")
    failed = subprocess.run([*server, sys.executable, "-c", "exit(3)"], timeout=60)
    assert failed.returncode == 3
