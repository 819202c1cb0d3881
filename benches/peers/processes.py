"""What the processes of a system weigh, and what they have used."""

import os
import time


def _table():
    """pid → (parent, control group)"""
    table = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as stat, open(f"/proc/{name}/cgroup") as cgroup:
                parent = int(stat.read().rsplit(")", 1)[1].split()[1])
                table[int(name)] = (parent, cgroup.read())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return table


def of_units(units):
    """The processes of these units, and what has come of them (a login of sshd's is in a scope of its own)."""
    table = _table()
    found = {pid for pid, (_, cgroup) in table.items() if any(f"/{unit}" in cgroup for unit in units)}
    grown = True
    while grown:
        more = {pid for pid, (parent, _) in table.items() if parent in found and pid not in found}
        found |= more
        grown = bool(more)
    return sorted(found)


def memory(pids):
    """{"pss", "private": MB}: shared pages are divided by how many share them, so the sum is what the machine is short of."""
    total = {"pss": 0, "private": 0}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as rollup:
                for line in rollup:
                    key, figure, *_ = line.split()
                    if key == "Pss:":
                        total["pss"] += int(figure)
                    elif key in ("Private_Clean:", "Private_Dirty:"):
                        total["private"] += int(figure)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return {key: kilobytes / 1024 for key, kilobytes in total.items()}


def cpu(pids):
    """pid → seconds of CPU, by the process's own clock (nanoseconds; /proc counts in hundredths)."""
    used = {}
    for pid in pids:
        try:
            used[pid] = time.clock_gettime((~pid << 3) | 2)
        except OSError:
            continue
    return used


def cpu_between(before, after):
    """Seconds; a process that has come in between counts whole."""
    return sum(seconds - before.get(pid, 0) for pid, seconds in after.items())


def holder(pids, tty):
    """Which of them has the tty open. (By its number: of what systemd has kept over a restart, the name is gone with the sandbox.)"""
    number = os.stat(tty).st_rdev
    for pid in pids:
        try:
            if any(os.stat(f"/proc/{pid}/fd/{fd}").st_rdev == number for fd in os.listdir(f"/proc/{pid}/fd")):
                return pid
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None
