"""Holds ports of 127.0.0.1 for the servers of a test, until its standard input ends.

ports.py COUNT: prints the ports in one line.

A port that is merely free is anybody's until its server listens there: another process may be
given it for a connection of its own. These are bound and nobody else is given them, yet as
SO_REUSEADDR goes on Linux a server that sets it too (ours does) can listen there, and stop and
listen again. Until then connections to them are refused.
"""

import socket
import sys

held = [socket.socket() for _ in range(int(sys.argv[1]))]
for one in held:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in held), flush=True)
sys.stdin.read()
