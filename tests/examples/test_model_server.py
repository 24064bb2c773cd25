"""The scripted model: what a command that it runs finds, and that it ends with it."""

from __future__ import annotations

import socket
import subprocess
import sys

from examples.model_server import ModelServer, Reply
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


def test_a_request_that_breaks_off_is_none(capfd):
    with ModelServer(lambda request: Reply("never")) as server:
        address = ("127.0.0.1", int(server.address.rpartition(":")[2]))
        with socket.create_connection(address, timeout=60) as asking:
            asking.sendall(b"POST /v1/messages HTTP/1.1\r\nContent-Length: 9\r\n\r\n{")
            asking.shutdown(socket.SHUT_WR)
            assert asking.recv(1) == b""
        assert server.requests == []
    assert capfd.readouterr().err == ""
