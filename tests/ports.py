"""Holds ports of 127.0.0.1 for the servers of a test.

ports.py COUNT: prints the ports in one line, and holds them until its standard input ends.

The system may give a port that is merely free to any connection before the server listens
there. A held port is bound, and the system gives it to no other process. SO_REUSEADDR lets a
server that sets it too (the bridge, asyncio and PostgreSQL do) listen there, stop, and listen
again. Until then connections to the port are refused.
"""

import socket
import sys

held = []


def hold(count):
    """COUNT ports, all different, which this process holds until it ends."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", 0))
    held.extend(sockets)
    return [one.getsockname()[1] for one in sockets]


if __name__ == "__main__":
    print(*hold(int(sys.argv[1])), flush=True)
    sys.stdin.read()
