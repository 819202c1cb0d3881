#!/usr/bin/env python3
"""Conducts the soak, inside of a container in which the package has been installed: conduct.py MINUTES SEED

Sets up sixteen ports, runs forty seats and three lanes of faults on them for MINUTES, lets all clients disconnect, and judges.
Prints events as they happen, then a table. Exits 1 if any check failed. See tests/boot/README.md.
"""
import json
import os
import pwd
import re
import shutil
import socket
import sys
import threading
import time

import judge
import measure
from bed import CLI, COUNT, LOGS, SOAK, SPARED, Bed
from faults import BLOWS, PLUGS, WEATHER, Lane
from seats import SEATS, Client, Seat

# KiB by which a port process may have grown in the end: memory that the allocator does not return. (240 sessions of watchers leave
# nothing, 240 searches 1.2 MB, most of it by the first hundred: measured.) And descriptors: none.
PSS_MOST = 1024
# A device waits for its port, if that is killed, frozen or starved; else it must not have to.
STALLED_MOST = 30
# Messages at err and above that the faults explain: their text, and which faults (`None`: it takes none).
EXPLAINED = [
    # polkitd, about a client that left before it had an answer; people do that.
    (r"^Error converting subject to JS object: Process \d+ terminated", None),
    (r"No space left on device", {"disk-full", "disk-full-long"}),
    (r"bytes are not in the log", {"disk-full-long", "disk-full"}),
    (r"Too many open files|login failed: .*os error 24", {"crowd"}),
    (r"the login helper closed the connection", {"kill-auth"}),
    (r"^(memory allocation|no memory for|.*Cannot allocate memory|the log: .*OS can't spawn worker thread)", {"enomem"}),
]
LEAVE_SECONDS = 120


def set_up(bed):
    os.makedirs(LOGS, exist_ok=True)
    size = 48 + 6 * int(bed.minutes)
    bed.must("mount", "-t", "tmpfs", "-o", f"size={size}m,mode=0755", "soaklog", LOGS)
    bed.must("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{SOAK}/key")
    for user, group in (("alice", "dialout"), ("bob", "sudo")):
        bed.must("useradd", "--create-home", "--groups", group, user)
        os.makedirs(f"/home/{user}/.ssh", mode=0o700)
        shutil.copy(f"{SOAK}/key.pub", f"/home/{user}/.ssh/authorized_keys")
        found = pwd.getpwnam(user)
        for path in (f"/home/{user}/.ssh", f"/home/{user}/.ssh/authorized_keys"):
            os.chown(path, found.pw_uid, found.pw_gid)
    force = "/run/systemd/system/console-logrotate.service.d"
    os.makedirs(force)
    with open(f"{force}/force.conf", "w", encoding="utf-8") as file:
        file.write("[Service]\nExecStart=\nExecStart=/usr/sbin/logrotate --force --state ")
        file.write("/var/lib/consoleserver/logrotate/status /usr/lib/consoleserver/logrotate.conf\n")
    bed.configure()
    bed.plug_all()


def weigh(bed):
    """Memory of each port process, once it has had a client and has none."""

    def empty(port):
        status = bed.show(port.unit, "StatusText")
        return ", 0 attached" in status and not connections(port), f"{status!r}, {connections(port)} connections"

    weights = {}
    for port in bed.ports:
        bed.wait(LEAVE_SECONDS, "the weighing", port.name, "no client to be attached", lambda port=port: empty(port))
        weights[port.name] = measure.weigh(bed.pid(port.unit))
    return weights


def connections(port):
    words = ["ss", "-H", "-tn", "state", "established", f"( sport = :{port.tcp} )"]
    return len(Bed.run(*words)[1].splitlines())


def warm_up(bed):
    """Every port has had several clients at once before its memory is measured, so that what they leave does not count as a leak."""
    for port in bed.ports:
        bed.players[port.name].ask("talk")
    for port in bed.ports:
        # As many as the limit of unauthenticated clients admits; only the crowded port has more at once later.
        clients = [Client(bed.ssh(port.tcp)) for _ in range(9)]
        for client in clients:
            if not client.read(60, b"line" if port.kind != "raw" else b"\x00"):
                bed.fail("the beginning", port.name, "a session", f"{client.out[-200:]!r} {client.err[-200:]!r}")
        for client in clients:
            client.end()
        # A search is what costs a port most memory (1 MB), and the allocator keeps it.
        for command in ("status",) if port.kind == "raw" else ("log -n 50", "grep --since 1m line"):
            bed.wait(60, "the beginning", port.name, f"`{command}` to answer", lambda port=port, c=command: bed.answers(port, c))


def judge_logs(bed):
    rows = {}
    for port in bed.ports:
        deadline = time.monotonic() + 30
        while True:
            try:
                rows[port.name] = judge.judge(port.said, port.logs, port.kind == "raw")
                break
            except judge.Mismatch as wrong:
                # The last output may not have arrived yet.
                if wrong.where == "the end of the log" and time.monotonic() < deadline:
                    time.sleep(1)
                    continue
                tell_mismatch(bed, port, wrong)
                break
    return rows


def tell_mismatch(bed, port, wrong):
    begin, end = judge.when(port.said, wrong.pos)
    faults = "; ".join(map(str, bed.around(begin or 0, (end or time.time()) + 5))) or "none"
    at = time.strftime("%H:%M:%S", time.localtime(begin or 0))
    about = f"the log, of what the device said at {at} (byte {wrong.pos}); faults then: {faults}"
    bed.fail(about, port.name, f"{wrong.expected!r}", f"{wrong.seen!r} at {wrong.where}")


def judge_losses(bed, rows):
    bed.look()
    for port in bed.ports:
        counted = port.lost + port.lost_before
        if port.name in rows and rows[port.name]["lost"] != counted:
            bed.fail("the count of what was lost", port.name, f"{counted} bytes missing, as its STATUS said", rows[port.name]["lost"])
        if port.name in rows and counted and not any(fault.kind.startswith("disk-full") for fault in bed.faults):
            bed.fail("what was lost", port.name, "nothing, for the disk was never full", counted)


def judge_the_judge(bed):
    """The judge must reject a log in which a byte is missing, one is wrong and one record is doubled."""
    for port in (bed.ports[0], bed.ports[3]):
        spoilt = f"{SOAK}/spoilt"
        for what in ("missing", "other", "double"):
            shutil.rmtree(spoilt, ignore_errors=True)
            shutil.copytree(port.logs, spoilt)
            # The newest may have just begun.
            path = max((part for part in judge.parts(spoilt) if not part.endswith(".gz")), key=os.path.getsize)
            with open(path, "rb") as file:
                lines = file.read().split(b"\n")
            middle = next(n for n in range(len(lines) // 2, len(lines)) if len(lines[n]) > 40 and b" # " not in lines[n][:33])
            line = lines[middle]
            spoil = {"missing": [line[:-1]], "other": [line[:-1] + bytes([line[-1] ^ 1])], "double": [line, line]}
            lines[middle : middle + 1] = spoil[what]
            with open(path, "wb") as file:
                file.write(b"\n".join(lines))
            try:
                found = judge.judge(port.said, spoilt, port.kind == "raw")
            except judge.Mismatch:
                continue
            counted = port.lost + port.lost_before
            if found["lost"] == counted:
                bed.fail("the judge", port.name, f"to see that in {os.path.basename(path)} a byte or record is {what}", found)


def judge_weights(bed, before, after):
    for number, port in enumerate(bed.ports):
        one, other = before[port.name], after[port.name]
        if number < SPARED and one["pid"] != other["pid"]:
            bed.fail("the end", port.name, f"process {one['pid']}, which nothing has killed", other["pid"])
        if other["pss"] > one["pss"] + PSS_MOST:
            bed.fail("the end", port.name, f"at most {PSS_MOST} kB more than {one['pss']} kB", f"{other['pss']} kB")
        if other["fds"] > one["fds"]:
            bed.fail("the end", port.name, f"{one['fds']} descriptors, as at the start", other["fds"])


def judge_devices(bed):
    figures = {port.name: bed.players[port.name].ask("figures") for port in bed.ports}
    for port in bed.ports:
        mine = figures[port.name]
        if mine["hang_ups"]:
            bed.fail("the end", port.name, "a line that the port never closes", f"closed {mine['hang_ups']} times")
        if mine["stalled"] > STALLED_MOST:
            bed.fail("the end", port.name, f"no device that waits longer than {STALLED_MOST} s", f"{mine['stalled']} s")
    return figures


def judge_system(bed):
    for port in bed.ports:
        bed.wait(60, "the end", port.name, "an answer by SSH", lambda port=port: bed.answers(port))
        words = ("consolectl", "log", port.name, "-n", "5")
        status, said = bed.run(*words)
        if status != 0:
            bed.fail("the end", port.name, f"`{' '.join(words)}` to answer", f"exit status {status}: {said}")
    status, said = bed.run(*bed.ssh(CLI, "status"))
    if status != 0:
        bed.fail("the end", "-", "the admin CLI to answer", f"exit status {status}: {said}")
    bed.wait(90, "the end", "-", "no login helper left", lambda: (not measure.named("console-auth"), measure.named("console-auth")))
    failed = bed.run("systemctl", "--failed", "--plain", "--no-legend")[1].strip()
    if failed:
        bed.fail("the end", "-", "no failed unit", failed)


def judge_journal(bed):
    said = bed.must("journalctl", "--quiet", "--boot", "--priority", "err", "--output", "json")
    for line in said.splitlines():
        entry = json.loads(line)
        message = entry.get("MESSAGE") or ""
        message = bytes(message).decode(errors="replace") if isinstance(message, list) else message
        at = int(entry["__REALTIME_TIMESTAMP"]) / 1e6
        kinds = {fault.kind for fault in bed.around(at, at, slack=60)}
        if not any(re.search(pattern, message) and (faults is None or kinds & faults) for pattern, faults in EXPLAINED):
            who = entry.get("_SYSTEMD_UNIT") or entry.get("UNIT") or entry.get("_COMM", "?")
            near = "; ".join(map(str, bed.around(at, at))) or "none"
            time_of = time.strftime("%H:%M:%S", time.localtime(at))
            bed.fail(f"the journal at {time_of}; faults then: {near}", who, "no message at err that no fault explains", message)


def table(bed, rows, figures, before, after):
    print(f"\nsoak: {bed.minutes:g} minutes, SEED={bed.seed}\n")
    for what in sorted(bed.counts):
        print(f"{what:<40} {bed.counts[what]:>10}")
    print(f"\n{'port':<8}{'device':<7}{'B/s':>6}{'said':>12}{'lost, noted':>12}{'cut':>6}{'stalled s':>10}{'PSS kB':>14}{'ring kB':>14}{'fds':>9}  process")
    total = {"said": 0, "lost": 0, "cut": 0}
    for port in bed.ports:
        row, one, other = rows.get(port.name, {}), before[port.name], after[port.name]
        for key in total:
            total[key] += row.get(key, 0)
        both = [f"{one[key]} → {other[key]}" for key in ("pss", "ring", "fds")]
        kept = "the same" if one["pid"] == other["pid"] else "another"
        print(
            f"{port.name:<8}{port.kind:<7}{port.rate:>6}{row.get('said', '?'):>12}{row.get('lost', '?'):>12}{row.get('cut', '?'):>6}"
            f"{figures[port.name]['stalled']:>10}{both[0]:>14}{both[1]:>14}{both[2]:>9}  {kept}"
        )
    print(f"{'all':<15}{'':>6}{total['said']:>12}{total['lost']:>12}{total['cut']:>6}\n")
    tenth = max(1, len(bed.weights) // 10)
    print("least PSS in each tenth of the time, kB, while clients connected and disconnected: a leak would show as a slope")
    for number, port in enumerate(bed.ports[:SPARED]):
        least = [min(weights[number] for weights in bed.weights[at : at + tenth]) for at in range(0, len(bed.weights), tenth)]
        print(f"{port.name:<8}{' '.join(map(str, least))}")
    print()


def main(minutes, seed):
    bed = Bed(seed, minutes)
    bed.say(f"SEED={seed}, {minutes:g} minutes, {COUNT} ports, {SEATS} seats")
    set_up(bed)
    warm_up(bed)
    before = weigh(bed)
    deadline = time.monotonic() + minutes * 60
    seats = [Seat(bed, number) for number in range(SEATS)]
    # A short one has shorter pauses, so that every fault has its turn.
    breath = 1 if minutes < 10 else 2.5
    lanes = [
        Lane(bed, "blows", BLOWS, (1, 4 * breath)),
        Lane(bed, "weather", WEATHER, (1, 5 * breath)),
        Lane(bed, "plugs", PLUGS, (2, 8 * breath)),
    ]
    watch = threading.Thread(target=bed.watch, daemon=True)
    for thread in [watch, *seats, *lanes]:
        thread.start()
    bed.over.wait(max(0, deadline - time.monotonic()))
    bed.over.set()
    bed.say("all clients disconnect")
    for thread in [watch, *seats, *lanes]:
        thread.join(LEAVE_SECONDS)
        if thread.is_alive():
            bed.fail("the end", "-", f"{thread.name} to end within {LEAVE_SECONDS} s", "it still runs")
    for port in bed.ports:
        bed.players[port.name].ask("hush")
    rows = judge_logs(bed)
    judge_losses(bed, rows)
    judge_the_judge(bed)
    judge_system(bed)
    after = weigh(bed)
    judge_weights(bed, before, after)
    figures = judge_devices(bed)
    judge_journal(bed)
    table(bed, rows, figures, before, after)
    if bed.failures:
        print(f"{len(bed.failures)} failures; SEED={seed}")
        for about, port, expected, seen in bed.failures:
            print(f"- {port}: {about}\n    expected: {expected}\n    seen:     {seen}")
        return 1
    print("soak: all of it holds")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    sys.exit(main(float(sys.argv[1]), sys.argv[2]))
