"""A bridge under test: its process, its configuration for a run under faults, and the faults of its
disk and its clock, which a preloaded library (torture/faults.c) makes."""

import mmap
import os
import struct
import subprocess

# The indexes of the numbers in the control file.
DISK_ERROR, SYNC_DELAY, CLOCK_ERROR = range(3)
CONTROL_SIZE = 32


def configuration(*, port, admin, store, log, pepay, key, secret, targets, store_settings=""):
    """Returns the text of the configuration file. All ports are of 127.0.0.1.

    `targets` has the port and the lines of the section of each target, by name. `store_settings` are
    lines of the section of the store.
    """
    text = f"""
[server]
listen = "127.0.0.1:{port}"
admin_listen = "127.0.0.1:{admin}"
[store]
url = "{store}"
payload_retention = "1m"
dead_retention = "5m"
{store_settings}
[log]
filter = "{log}"
[pepay]
api_key = "{key}"
api_url = "http://127.0.0.1:{pepay}"
[streams.commerce]
reconcile_interval = "5s"
hold_limit = "10m"
ping_interval = "2s"
backoff_max = "2s"
[webhooks.default]
secrets = ["{secret}"]
"""
    for name, (target, settings) in targets.items():
        text += f"""
[targets.{name}]
url = "http://127.0.0.1:{target}/"
retry_min = "100ms"
{settings}
"""
    return text


class InjectedFaults:
    """The faults of one process; at first there are none. The disk that fails is `folder`."""

    def __init__(self, library, folder, control):
        control.write_bytes(bytes(CONTROL_SIZE))
        with open(control, "r+b") as file:
            self.control = mmap.mmap(file.fileno(), CONTROL_SIZE)
        self.environment = {"LD_PRELOAD": library, "FAULTS_FOLDER": str(folder), "FAULTS_CONTROL": str(control)}

    def set(self, which, value):
        self.control[which * 8 : which * 8 + 8] = struct.pack("<q", value)


def spawn(command, folder, log, environment=None):
    """Starts a process in `folder`, with its output in the file `log` there. It inherits no settings of a bridge."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("PEPAY_")}
    with open(folder / log, "ab") as output:
        return subprocess.Popen(command, env=own | (environment or {}), cwd=folder, stdout=output, stderr=output)
