"""Holds ports of 127.0.0.1 for the servers of a test.

ports.py COUNT: prints the ports in one line, and holds them until its standard input ends.

The ports are outside the range that the system gives to connections. A port of that range could be
taken before the server listens, and would be refused to the server for a minute after the connection
has ended. A held port is bound, so no other process that holds ports gets it. SO_REUSEADDR lets a
server that sets it as well (the bridge, asyncio and PostgreSQL do) listen there, stop, and listen
again. Connections to the port are refused while no server listens.
"""

import pathlib
import random
import socket
import sys

held = []


def candidates():
    """Yields ports below the range of connections, in random order. Then, or if there are too few, 0 for any port."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(10240, first)
    yield from random.sample(ports, len(ports)) if len(ports) > 1000 else ()
    while True:
        yield 0


def hold(count):
    """Returns `count` different ports, which this process holds until it ends."""
    found, ports = [], candidates()
    while len(found) < count:
        one = socket.socket()
        try:
            # SO_REUSEADDR is set later: with it, a port that another process holds could be bound.
            one.bind(("127.0.0.1", next(ports)))
        except OSError:
            one.close()
            continue
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.append(one)
    held.extend(found)
    return [one.getsockname()[1] for one in found]


if __name__ == "__main__":
    print(*hold(int(sys.argv[1])), flush=True)
    sys.stdin.read()
