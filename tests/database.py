"""A PostgreSQL cluster for one test, and PgBouncer."""

import os
import pathlib
import shutil
import signal
import subprocess
import time

SCHEMA = "pepay_bridge"


def programs():
    """Returns the folder with the programs of the newest installed server; None if there is none."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    return found[-1] if found else None


class Server:
    """The cluster. initdb and the server refuse to run as root."""

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

    def follow(self, primary, is_synchronous=True):
        """Becomes a standby of `primary`: a synchronous one, or an asynchronous one."""
        conninfo = f"host=127.0.0.1 port={primary.port} user=postgres application_name=standby"
        self.run("pg_basebackup", "--pgdata", "data", "--write-recovery-conf", "--checkpoint", "fast", "--dbname", conninfo)
        self.start()
        if is_synchronous:
            primary.ask("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
            primary.ask("SELECT pg_reload_conf()")
        self.run("pg_isready", "--host", "127.0.0.1", "--port", str(self.port), "--timeout", "10")
        end = time.monotonic() + 30
        follows = [["streaming", "sync" if is_synchronous else "async"]]
        while primary.ask("SELECT state, sync_state FROM pg_stat_replication") != follows:
            if time.monotonic() > end:
                raise RuntimeError("the standby does not follow")
            time.sleep(0.1)

    def stop_following(self):
        """Ends the replication, as a broken network does."""
        self.ask("ALTER SYSTEM SET primary_conninfo = ''")
        self.ask("SELECT pg_reload_conf()")
        end = time.monotonic() + 30
        while self.ask("SELECT count(*) FROM pg_stat_wal_receiver") != [["0"]]:
            if time.monotonic() > end:
                raise RuntimeError("the standby still follows")
            time.sleep(0.1)

    def promote(self):
        self.run("pg_ctl", "--pgdata", "data", "--wait", "promote")

    def lose(self):
        """Loses the machine and its disk: kills the server and deletes its data."""
        os.kill(int((self.folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        shutil.rmtree(self.folder / "data", ignore_errors=True)

    def stop(self):
        """Stops the server as a crash does: it writes nothing while it ends."""
        self.run("pg_ctl", "--pgdata", "data", "--mode", "immediate", "--wait", "stop", check=False)

    def run(self, program, *arguments, check=True):
        command = [*self.wrapper, str(self.bin / program), *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")

    def ask(self, statement):
        """Returns the rows of a statement, each a list of texts. The connection passes no proxy."""
        address = f"postgres://postgres@127.0.0.1:{self.port}/postgres?connect_timeout=5"
        command = [str(self.bin / "psql"), "--no-psqlrc", "--tuples-only", "--no-align", "--dbname", address]
        command += ["--set", "ON_ERROR_STOP=1", "--command", statement]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=30)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return [line.split("|") for line in done.stdout.splitlines()]


class Pooler:
    """PgBouncer in transaction mode before the server."""

    def __init__(self, folder, port, server):
        self.folder, self.port, self.process = folder, port, None
        self.wrapper = server.wrapper
        folder.mkdir()
        if self.wrapper:
            shutil.chown(folder, "postgres")
        text = f"""
[databases]
postgres = host=127.0.0.1 port={server.port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 40
max_client_conn = 1000
server_login_retry = 1
logfile = {folder}/pgbouncer.log
pidfile = {folder}/pgbouncer.pid
"""
        (folder / "pgbouncer.ini").write_text(text)

    def start(self):
        command = [*self.wrapper, shutil.which("pgbouncer"), "--quiet", str(self.folder / "pgbouncer.ini")]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL)

    def stop(self):
        """Ends PgBouncer by the pid in its file: it may be a child of the program that changes the user."""
        pid = self.folder / "pgbouncer.pid"
        if self.process and self.process.poll() is None and pid.exists():
            os.kill(int(pid.read_text()), signal.SIGTERM)
            self.process.wait(10)
