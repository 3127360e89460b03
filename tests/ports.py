"""Holds ports of 127.0.0.1 for the servers of a test.

ports.py COUNT: prints the ports in one line, and holds them until its standard input ends.

They are none of those that the system gives to connections: one of these may be taken between
the moment at which it was free and the one at which the server listens, and stays refused to
the server for a minute after the connection has ended. A held port is bound, so that no other
process that holds ports has it too. SO_REUSEADDR lets a server that sets it as well (the bridge,
asyncio and PostgreSQL do) listen there, stop, and listen again. Until then connections to the
port are refused.
"""

import pathlib
import random
import socket
import sys

held = []


def candidates():
    """Ports below those of connections, in a random order; 0, which is any, where there are too few."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = range(10240, first)
    yield from random.sample(ports, len(ports)) if len(ports) > 1000 else ()
    while True:
        yield 0


def hold(count):
    """COUNT ports, all different, which this process holds until it ends."""
    found, ports = [], candidates()
    while len(found) < count:
        one = socket.socket()
        try:
            # Without the option: with it, a port that another process holds would do.
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
