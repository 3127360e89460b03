"""A TCP proxy between one replica and the database. It is a separate process, so that it is fast.

It passes bytes, and reads commands from the lines of its standard input: `delay SECONDS`, `cut` (resets
every connection and accepts none), `swallow to server` and `swallow to replica` (leaves connections open
and passes nothing in that direction), `swallow writer` (passes nothing in both directions of the writing
connection), `reset` (resets every connection), `to PORT` (connects to the server at that port from then
on), `heal`.
"""

import asyncio
import subprocess
import sys

DIRECTIONS = ("to server", "to replica")
# The application name of a replica's writing connection.
WRITER = b"pepay-bridge writer"


class Proxy:
    """The process of a proxy, for the program that starts it."""

    def __init__(self, port, server_port):
        self.port = port
        command = [sys.executable, __file__, str(port), str(server_port)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # It prints a line once it listens.
        self.process.stdout.readline()

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()


class Half(asyncio.Protocol):
    """One of the two connections of a pair. Its bytes are passed to the other one."""

    def __init__(self, state, direction):
        self.state, self.direction = state, direction
        self.other, self.transport, self.waiting = None, None, []
        # The application name is in the first message of a connection.
        self.is_first, self.is_writer = True, False

    def connection_made(self, transport):
        self.transport = transport
        self.state.halves.add(self)
        if self.direction == DIRECTIONS[0]:
            self.state.accepted(self)

    def data_received(self, data):
        if self.is_first and self.direction == DIRECTIONS[0]:
            self.is_writer = WRITER in data
        self.is_first = False
        if self.state.delay:
            asyncio.get_running_loop().call_later(self.state.delay, self.pass_on, data)
        else:
            self.pass_on(data)

    def pass_on(self, data):
        if self.other is None or self.is_swallowed():
            self.waiting.append(data)
        elif not self.other.transport.is_closing():
            self.other.transport.write(data)

    def is_swallowed(self):
        swallowed, is_writer = self.state.swallowed, self.is_writer or self.other.is_writer
        return self.direction in swallowed or (is_writer and "writer" in swallowed)

    def resume(self):
        waiting, self.waiting = self.waiting, []
        for data in waiting:
            self.pass_on(data)

    def connection_lost(self, _):
        self.state.halves.discard(self)
        if self.other is not None:
            self.other.transport.abort()


class State:
    def __init__(self, server_port):
        self.server_port = server_port
        self.halves, self.swallowed, self.connecting = set(), set(), set()
        self.delay, self.refuses = 0, False

    def accepted(self, half):
        if self.refuses:
            half.transport.abort()
            return
        task = asyncio.ensure_future(self.connect(half))
        self.connecting.add(task)
        task.add_done_callback(self.connecting.discard)

    async def connect(self, half):
        far = Half(self, DIRECTIONS[1])
        try:
            await asyncio.get_running_loop().create_connection(lambda: far, "127.0.0.1", self.server_port)
        except OSError:
            half.transport.abort()
            return
        half.other, far.other = far, half
        if half.transport.is_closing():
            far.transport.abort()
        half.resume()
        far.resume()

    def reset(self):
        for half in list(self.halves):
            half.transport.abort()

    def obey(self, line):
        match line.split(maxsplit=1):
            case ["delay", seconds]:
                self.delay = float(seconds)
            case ["cut"]:
                self.refuses = True
                self.reset()
            case ["swallow", direction]:
                self.swallowed.add(direction)
            case ["to", port]:
                self.server_port = int(port)
            case ["reset"]:
                self.reset()
            case ["heal"]:
                self.delay, self.refuses, self.swallowed = 0, False, set()
                for half in list(self.halves):
                    half.resume()


async def main(port, server_port):
    loop, state = asyncio.get_running_loop(), State(server_port)
    await loop.create_server(lambda: Half(state, DIRECTIONS[0]), "127.0.0.1", port)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print("listening", flush=True)
    # The proxy ends when its starter ends.
    while line := await orders.readline():
        state.obey(line.decode().strip())


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
