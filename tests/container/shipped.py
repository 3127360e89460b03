"""Checks settings of docker-compose.yml and the Dockerfile whose faults show only after hours.

shipped.py COMPOSE_FILE DOCKERFILE
"""

import re
import sys

import yaml

compose = yaml.safe_load(open(sys.argv[1], encoding="utf-8"))
dockerfile = open(sys.argv[2], encoding="utf-8").read()
bridge = compose["services"]["bridge"]
UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


def seconds(text):
    parts = re.findall(r"(\d+)(ms|s|m|h)", text)
    assert parts and "".join(number + unit for number, unit in parts) == text, f"{text} is no duration"
    return sum(int(number) * UNITS[unit] for number, unit in parts)


def check(what, holds):
    if not holds:
        sys.exit(what)


# server.shutdown_grace is 25 s unless the file says otherwise.
grace = seconds(bridge["environment"].get("PEPAY_BRIDGE__SERVER__SHUTDOWN_GRACE", "25s"))
check("stop_grace_period has to be longer than server.shutdown_grace", seconds(bridge.get("stop_grace_period", "10s")) >= grace + 5)
health = bridge["healthcheck"]
check("the health check of the compose file is too seldom", seconds(health["interval"]) <= 30)
check("the health check of the compose file gives up too late", seconds(health["interval"]) * health["retries"] <= 120)
check("the health check of the compose file begins too late", seconds(health["start_period"]) <= 120)
for option, most in {"interval": 30, "timeout": 30, "start-period": 120}.items():
    found = re.search(rf"--{option}=(\S+)", dockerfile)
    check(f"the health check of the image has no sensible {option}", found and seconds(found[1]) <= most)
check("the volume of the database is not kept", any(str(one).startswith("data:/data") for one in bridge["volumes"]))
check("the volume of the database is not declared", "data" in (compose.get("volumes") or {}))
folders = [one for one in bridge["volumes"] if isinstance(one, dict)]
check("secrets are not mounted as a folder", any(one["target"] == "/run/secrets" and one["read_only"] for one in folders))
for key, value in bridge["environment"].items():
    check(f"{key} does not name a file of the mounted folder", not key.endswith("_FILE") or value.startswith("/run/secrets/"))
print("container: ok: grace period, health checks and volumes of the shipped files")
