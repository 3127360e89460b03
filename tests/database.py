"""A PostgreSQL cluster of its own."""

import os
import pathlib
import shutil
import subprocess

SCHEMA = "pepay_bridge"


def programs():
    """The folder of the server's programs, of the newest version that is installed."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    return found[-1] if found else None


class Server:
    """The cluster. Neither initdb nor the server runs as root."""

    def __init__(self, folder, port):
        self.folder, self.port, self.bin = folder, port, programs()
        folder.mkdir()
        self.wrapper = []
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
            self.wrapper = ["runuser", "-u", "postgres", "--"]

    def make(self):
        self.run("initdb", "--pgdata", "data", "--username", "postgres", "--auth", "trust", "--encoding", "UTF8")

    def start(self):
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=100 "
            "-c log_min_messages=warning"
        )
        self.run("pg_ctl", "--pgdata", "data", "--wait", "--log", "log", "--options", options, "start")

    def stop(self):
        """As a crash: nothing is written on the way out."""
        self.run("pg_ctl", "--pgdata", "data", "--mode", "immediate", "--wait", "stop", check=False)

    def run(self, program, *arguments, check=True):
        command = [*self.wrapper, str(self.bin / program), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")

    def ask(self, statement):
        """The rows of a statement, each a list of texts. Directly, past every proxy."""
        address = f"postgres://postgres@127.0.0.1:{self.port}/postgres?connect_timeout=5"
        command = [str(self.bin / "psql"), "--no-psqlrc", "--tuples-only", "--no-align", "--dbname", address]
        command += ["--set", "ON_ERROR_STOP=1", "--command", statement]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return [line.split("|") for line in done.stdout.splitlines()]
