#!/usr/bin/env python3
"""Measures console servers side by side, on a machine on which they are installed. `run` makes such a machine and starts this.

usage: bench.py [--systems "NAME…"] [--what "NAME…"] [--rounds N] --out FILE.json
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import traceback

import client
import measure
import system
import systems
from book import Book


def words(known):
    def judge(text):
        chosen = text.split()
        for word in chosen:
            if word not in known:
                raise argparse.ArgumentTypeError(f"there is no '{word}'; there are: {' '.join(known)}")
        return [word for word in known if word in chosen] or known

    return judge


def make_keys():
    os.makedirs(system.KEYS, exist_ok=True)
    for number in range(system.MOST_PORTS):
        if not os.path.exists(f"{system.KEYS}/{number}"):
            system.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "peers", "-f", f"{system.KEYS}/{number}")


def machine():
    with open("/proc/cpuinfo") as cpuinfo:
        model = next((line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")), "unknown")
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.strip()
    return {"cpu": model, "cores": os.cpu_count(), "kernel": platform.release(), "architecture": platform.machine(), "ssh client": ssh}


def main():
    names = [kind.name for kind in systems.ALL]
    parser = argparse.ArgumentParser(usage=__doc__.partition("usage: ")[2])
    parser.add_argument("--systems", type=words(names), default=names)
    parser.add_argument("--what", type=words(measure.NAMES), default=measure.NAMES)
    parser.add_argument("--rounds", type=int, help="at most so many of each, for a quick look")
    parser.add_argument("--out", required=True)
    options = parser.parse_args()

    make_keys()
    client.copy_programs(["ssh", "console", "conman", "socat"])
    chosen = [kind() for kind in systems.ALL if kind.name in options.systems]
    # ser2net asks for its addresses as only a machine with a network has them (AI_ADDRCONFIG). This one is for documentation.
    subprocess.run(["ip", "address", "replace", "192.0.2.1/32", "dev", "lo"], check=True)
    # What Debian has started on installation.
    for kind in systems.ALL:
        for unit in kind.units:
            if unit.endswith(".service"):
                subprocess.run(["systemctl", "stop", unit], capture_output=True)
    book, load, began, times = Book(options.rounds), [os.getloadavg()[0]], time.time(), {}
    broken = []
    for name in options.what:
        start = time.monotonic()
        try:
            measure.module(name).run(chosen, book)
        except Exception:  # what the other measurements found is worth keeping
            traceback.print_exc()
            broken.append(name)
        times[name] = round(time.monotonic() - start, 1)
        load.append(os.getloadavg()[0])
        print(f"{name}: {times[name]} s", file=sys.stderr)
    result = {
        "began": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(began)) + " UTC",
        "machine": machine(),
        "load": load,
        "systems": {each.name: {"title": each.title, "encrypted": each.encrypted, "versions": each.versions()} for each in chosen},
        "what": options.what,
        "seconds": times,
        "figures": book.figures,
        "notes": book.notes,
    }
    with open(options.out, "w") as out:
        json.dump(result, out, indent=1)
    if broken:
        sys.exit(f"broken off: {' '.join(broken)}")


if __name__ == "__main__":
    main()
