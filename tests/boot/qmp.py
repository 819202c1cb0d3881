#!/usr/bin/env python3
"""Speaks QMP (docs/interop/qmp-spec) with a VM's QEMU.

usage: qmp.py SOCKET run COMMAND [JSON-ARGUMENTS]   one command; prints what it returns
       qmp.py SOCKET save FILE                      stops the machine and writes its whole state to FILE
       qmp.py SOCKET load FILE                      reads it back (QEMU was started with -incoming defer) and lets it run
       qmp.py SOCKET forward PORT                   a port of 127.0.0.1 that leads to the machine's PORT; prints its number
"""
import json
import re
import socket
import sys
import time


class QmpError(Exception):
    """QEMU refused a command, or did not do in time what it was asked."""


class Qmp:
    def __init__(self, path, timeout=60):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        self.sock.connect(path)
        self.file = self.sock.makefile("rw")
        self.events = []
        self._read()
        self.run("qmp_capabilities")

    def _read(self):
        line = self.file.readline()
        if not line:
            raise QmpError("QEMU closed the connection")
        return json.loads(line)

    def run(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = self._read()
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise QmpError(f"{command}: {answer['error']['desc']}")
            else:
                return answer["return"]

    def wait_event(self, matches):
        """Waits for the first event for which matches(event) is true, those already seen included."""
        while True:
            for event in self.events:
                if matches(event):
                    self.events.remove(event)
                    return event
            self.events.append(self._read())

    def human(self, line):
        """A command that has no QMP form. Prints nothing when it goes well."""
        return self.run("human-monitor-command", **{"command-line": line})

    def wait_migrated(self):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            state = self.run("query-migrate")
            if state.get("status") == "completed":
                return
            if state.get("status") in ("failed", "cancelled"):
                raise QmpError(f"migration: {state}")
            time.sleep(0.02)
        raise QmpError("migration did not end within 120 s")


def mapped_ram(qmp):
    # Pages at fixed places in the file: a restore reads only those in use.
    qmp.run("migrate-set-capabilities", capabilities=[{"capability": "mapped-ram", "state": True}])


def save(qmp, path):
    qmp.run("stop")
    mapped_ram(qmp)
    qmp.run("migrate-set-parameters", **{"max-bandwidth": 0})
    qmp.run("migrate", uri=f"file:{path}")
    qmp.wait_migrated()


def load(qmp, path):
    mapped_ram(qmp)
    qmp.run("migrate-incoming", uri=f"file:{path}")
    qmp.wait_migrated()
    qmp.run("cont")


def forwards(qmp):
    """Host port of each forwarded guest port, as `info usernet` lists them."""
    rows = re.findall(r"TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+(\d+)", qmp.human("info usernet"))
    return {int(guest): int(host) for host, guest in rows}


def forward(qmp, guest):
    if guest not in forwards(qmp):
        said = qmp.human(f"hostfwd_add net tcp:127.0.0.1:0-:{guest}")
        if said:
            raise QmpError(said.strip())
    return forwards(qmp)[guest]


def main(path, verb, *words):
    qmp = Qmp(path)
    if verb == "run":
        result = qmp.run(words[0], **(json.loads(words[1]) if len(words) > 1 else {}))
        print(json.dumps(result, indent=1))
    elif verb == "save":
        save(qmp, *words)
    elif verb == "load":
        load(qmp, *words)
    elif verb == "forward":
        print(forward(qmp, int(words[0])))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    try:
        main(*sys.argv[1:])
    except (QmpError, OSError) as error:
        sys.exit(f"qmp.py: {sys.argv[2]}: {error}")
