"""What stands for a process of `tests.warm`: it hands over its streams, then ends as that ends.

`python -I -S tests/shadow.py SOCKET ARGUMENTS`; it loads nothing that it can do without. Signals
are passed on; when it is killed, so is the process it stands for.
"""

import _socket
import marshal
import os
import signal
import sys

FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Have the arguments run, and end as they do."""
    conn = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    conn.connect(sys.argv[1])
    request = marshal.dumps((os.getcwd(), dict(os.environ), sys.argv[2:]))
    streams = b"".join(fd.to_bytes(4, sys.byteorder) for fd in range(3))
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)
    conn.sendmsg([len(request).to_bytes(4, "big")], [rights])
    conn.sendall(request)
    for number in FORWARDED:
        signal.signal(number, lambda number, _: conn.send(bytes([number])) and None)
    for fd in range(3):  # whoever has the other ends is to see those of the process alone
        os.close(fd)
    answer = conn.recv(4)
    code = int.from_bytes(answer, "big", signed=True) if answer else 1
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


main()
