"""The faults, and what must hold after each. Three lanes deal them from decks of their own, shuffled by the seed: `blows` are over at once,
`weather` lasts for a while, `plugs` pulls devices out; so they also meet.
"""
import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time

import measure
from bed import CLI, COUNT, CROWDED, LOGS, SPARED
from seats import Client

# Seconds for a port or a service to be back. It takes one on an idle machine; this one is busy.
BACK = 45
# Seconds until a log that could not be written is written again: it is retried after at most 30 s.
WRITTEN_AGAIN = 75
FILLER = f"{LOGS}/filler"
# logrotate.conf keeps 30.
ROTATIONS_MOST = 25
BLOWS = ["kill-port"] * 3 + [
    "restart-port", "freeze-port", "reload-port", "rotate", "daemon-reload",
    "kill-auth", "kill-cli", "kill-admin", "kill-journald", "kill-dbus", "kill-polkitd",
]
WEATHER = ["disk-full", "disk-full-long", "stopped-clients", "crowd", "enomem"]
PLUGS = ["unplug", "unplug", "yank", "yank-and-kill"]


class Lane(threading.Thread):
    """Deals from its deck until all is over."""

    def __init__(self, bed, name, deck, pause):
        super().__init__(name=name, daemon=True)
        self.bed, self.deck, self.pause = bed, deck, pause
        self.random = random.Random(f"{bed.seed} {name}")
        self.rotations = 0
        self.fault = None

    def run(self):
        while True:
            for kind in self.random.sample(self.deck, len(self.deck)):
                # All that is random is drawn here, so that what meets what cannot change what comes.
                victim = self.bed.ports[self.random.randrange(SPARED, COUNT)]
                part, pause = self.random.random(), self.random.uniform(*self.pause)
                if self.bed.over.wait(pause):
                    return
                try:
                    getattr(self, kind.replace("-", "_"))(victim, part)
                except Exception as error:  # a lane that dies must be seen
                    self.bed.fail(f"{kind} (the bed)", victim.name, "to be done", f"{type(error).__name__}: {error}")
                    if self.fault:
                        self.fault.end = self.fault.end or time.time()

    def begin(self, kind, *ports):
        self.fault = self.bed.begin(kind, *ports)
        return self.fault

    @staticmethod
    def kill(pid, number=signal.SIGKILL):
        if pid == 0:
            raise ProcessLookupError("there is no process to signal")
        os.kill(pid, number)

    def done(self, fault, note=""):
        fault.note = note
        fault.end = time.time()
        self.bed.count(f"fault: {fault.kind}")
        if note:
            self.bed.say(f"  {fault}: {note}")

    # A port.

    def back_in_another(self, fault, port, before):
        self.bed.wait(BACK, fault, port.name, "an open line in another process", lambda: self.bed.is_open(port, before))
        self.bed.wait(BACK, fault, port.name, "a login", lambda: self.bed.answers(port))

    def kill_port(self, port, _):
        with port.lock:
            before = self.bed.pid(port.unit)
            fault = self.begin("kill-port", port.name)
            self.kill(before)
            self.back_in_another(fault, port, before)
        self.done(fault)

    def restart_port(self, port, _):
        with port.lock:
            before = self.bed.pid(port.unit)
            fault = self.begin("restart-port", port.name)
            self.bed.must("systemctl", "restart", port.unit)
            self.back_in_another(fault, port, before)
        self.done(fault)

    def reload_port(self, port, _):
        with port.lock:
            before = self.bed.pid(port.unit)
            fault = self.begin("reload-port", port.name)
            self.bed.must("systemctl", "reload", port.unit)
            self.stays(fault, port, before)
        self.done(fault)

    def stays(self, fault, port, before):
        now = self.bed.pid(port.unit)
        if now != before:
            self.bed.fail(fault, port.name, f"the same process, {before}", f"{now}")
        self.bed.wait(BACK, fault, port.name, "an open line", lambda: self.bed.is_open(port))

    def freeze_port(self, port, part):
        with port.lock:
            before = self.bed.pid(port.unit)
            fault = self.begin("freeze-port", port.name)
            self.kill(before, signal.SIGSTOP)
            time.sleep(2 + 8 * part)  # the duration of the freeze, below the minute of the watchdog
            self.kill(before, signal.SIGCONT)
            self.stays(fault, port, before)
        self.done(fault)

    # Faults of the other programs of consoleserver.

    def kill_auth(self, port, part):
        fault = self.begin("kill-auth")
        clients = [subprocess.Popen(self.bed.ssh(tcp, "status"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                   for tcp in (port.tcp, self.bed.ports[0].tcp, CLI)]
        killed, deadline = set(), time.monotonic() + 5
        while time.monotonic() < deadline and len(killed) < 3:
            for pid in measure.named("console-auth"):
                if pid not in killed:
                    with contextlib.suppress(ProcessLookupError):  # a login may just have ended
                        self.kill(pid)
                        killed.add(pid)
            time.sleep(0.005)
        for client in clients:
            client.wait(90)
        if not killed:
            self.bed.fail(fault, "-", "a console-auth to kill", "none within 5 s")
        self.bed.wait(BACK, fault, "line0", "a login", lambda: self.bed.answers(self.bed.ports[0]))
        self.done(fault, f"{len(killed)} processes")

    def kill_cli(self, *_):
        fault = self.begin("kill-cli")
        client = Client(self.bed.ssh(CLI, options=("-tt",)))
        if not client.read(BACK, b"> ") or b"> " not in client.out:
            self.bed.fail(fault, "-", "a prompt at the admin CLI", f"{client.out[-200:]!r} {client.err[-200:]!r}")
        self.kill(self.bed.pid("console-cli.service"))
        if client.read(BACK):
            self.bed.fail(fault, "-", "the session to end with console-cli", f"it still runs after {BACK} s")
        client.end()
        self.cli_answers(fault, "status")
        self.done(fault)

    def cli_answers(self, fault, *command):
        def look():
            status, said = self.bed.run(*self.bed.ssh(CLI, *command))
            return status == 0, f"exit status {status}: {said[-300:]}"

        self.bed.wait(BACK, fault, "-", f"`{' '.join(command)}` at the admin CLI", look)

    def kill_admin(self, *_):
        fault = self.begin("kill-admin")
        self.admin_answers(fault)
        self.kill(self.bed.pid("console-admin.service"))
        self.admin_answers(fault)
        self.done(fault)

    def admin_answers(self, fault):
        words = ["get-property", "org.consoleserver1", "/org/consoleserver1", "org.consoleserver1.Manager", "Version"]
        self.bed.wait(BACK, fault, "-", "console-admin on the bus", lambda: succeeds(self.bed.run("busctl", *words)))

    # Faults of services that consoleserver depends on.

    def kill_journald(self, *_):
        fault = self.begin("kill-journald")
        began = f"@{time.time():.3f}"
        self.kill(self.bed.pid("systemd-journald.service"))
        # A process that was started before reaches the new journald.
        port = self.bed.ports[0]

        def look():
            client = Client(self.bed.ssh(port.tcp))
            client.read(1)
            client.end()
            words = ["--since", began, "--unit", port.unit, "_COMM=console-port", "--output", "cat"]
            status, said = self.bed.run("journalctl", "--quiet", *words)
            return "attached" in said, f"exit status {status}: {said[-300:]}"

        self.bed.wait(BACK, fault, port.name, "its messages in the journal", look)
        self.done(fault)

    def kill_dbus(self, *_):
        fault = self.begin("kill-dbus")
        self.kill(self.bed.pid("dbus.service"))
        self.bed.wait(BACK, fault, "-", "a bus", lambda: succeeds(self.bed.run("busctl", "--system", "status")))
        self.admin_answers(fault)
        self.cli_answers(fault, "list")
        self.done(fault)

    def kill_polkitd(self, port, part):
        fault = self.begin("kill-polkitd")
        self.administrator_may(fault, port, "before")
        self.kill(self.bed.pid("polkit.service"))
        self.administrator_may(fault, port, f"{part:.6f}")
        self.done(fault)

    def administrator_may(self, fault, port, text):
        """Only polkit can report that bob may."""
        name = f"/org/consoleserver1/port/{port.name}"
        words = ["setpriv", "--reuid=bob", "--regid=bob", "--init-groups", "busctl", "set-property", "org.consoleserver1", name]
        words += ["org.consoleserver1.Port", "Description", "s", f"soak {text}"]
        self.bed.wait(BACK, fault, port.name, "an administrator to be let in", lambda: succeeds(self.bed.run(*words)))
        self.bed.wait(BACK, fault, port.name, "to take it back", lambda: succeeds(self.bed.run("consolectl", "revert")))

    def daemon_reload(self, *_):
        fault = self.begin("daemon-reload")
        self.bed.must("systemctl", "daemon-reload")
        self.listen(fault)
        self.done(fault)

    def listen(self, fault):
        for port in self.bed.ports:
            try:
                socket.create_connection(("127.0.0.1", port.tcp), 30).close()
            except OSError as error:
                self.bed.fail(fault, port.name, f"a listener on {port.tcp}", str(error))

    def rotate(self, *_):
        if self.rotations == ROTATIONS_MOST:
            return
        with self.bed.disk:
            self.rotations += 1
            fault = self.begin("rotate")
            self.bed.run("systemctl", "reset-failed", "console-logrotate.service")
            self.bed.must("systemctl", "start", "console-logrotate.service")
            self.done(fault)

    # Weather.

    def fill(self):
        with open(FILLER, "ab", buffering=0) as filler:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        filler.write(b"\0" * size)
                except OSError:
                    continue

    def full(self, fault, seconds):
        with self.bed.disk:
            lost = sum(port.lost + port.lost_before for port in self.bed.ports)
            self.fill()
            self.bed.wait(BACK, fault, "some", "a port that reports it", self.someone_says_full)
            self.bed.over.wait(seconds)
            os.unlink(FILLER)
            self.bed.wait(WRITTEN_AGAIN, fault, "all", "logs that are written again", self.nobody_says_full)
            self.bed.look()
            lost = sum(port.lost + port.lost_before for port in self.bed.ports) - lost
        self.done(fault, f"{seconds:.0f} s, {lost} bytes lost by all logs")

    def someone_says_full(self):
        self.bed.look()
        return any("No space left" in port.status for port in self.bed.ports), "no port reports `No space left`"

    def nobody_says_full(self):
        self.bed.look()
        full = [f"{port.name}: {port.status}" for port in self.bed.ports if "the log" in port.status.partition(";")[2]]
        return not full, "; ".join(full)

    def disk_full(self, _, part):
        self.full(self.begin("disk-full"), 3 + 7 * part)

    def disk_full_long(self, _, part):
        self.full(self.begin("disk-full-long"), 30 + 30 * part)

    def stopped_clients(self, port, part):
        # Not at the crowded port, where these clients would take the few descriptors.
        ports = [port for port in self.bed.ports[:SPARED] if port.name != CROWDED]
        port = ports[int(part * len(ports))]
        fault = self.begin("stopped-clients", port.name)
        before = measure.weigh(self.bed.pid(port.unit))
        clients = [Client(self.bed.ssh(port.tcp)) for _ in range(5)]
        for client in clients:
            client.read(3)
            client.send(signal.SIGSTOP)
        self.bed.over.wait(10 + 20 * part)
        during = measure.weigh(self.bed.pid(port.unit))
        for client in clients:
            client.send(signal.SIGCONT)
            client.end(signal.SIGKILL)
        self.done(fault, f"{before['pss']} kB before, {during['pss']} kB with 5 more stopped clients")

    def crowd(self, *_):
        """More clients than the port has descriptors."""
        port = self.bed.by_name[CROWDED]
        before = self.bed.pid(port.unit)
        fault = self.begin("crowd", port.name)
        # One after the other, since the limit of unauthenticated clients is lower than that of descriptors.
        clients = []
        for _ in range(24):
            clients.append(Client(self.bed.ssh(port.tcp)))
            clients[-1].read(0.5)
        fds = measure.weigh(before)["fds"]
        for client in clients:
            client.read(0.1)
        inside = sum(bool(client.out) and bool(client.open) for client in clients)
        for client in clients:
            client.end(signal.SIGKILL)
        if inside == len(clients):
            self.bed.fail(fault, port.name, "some to find no descriptor", "all are in")
        self.stays(fault, port, before)
        self.bed.wait(90, fault, port.name, "a login when they have gone", lambda: self.bed.answers(port))
        self.done(fault, f"{inside} of {len(clients)} in, {fds} descriptors")

    def enomem(self, port, part):
        """Address space for less than logins need; a port that dies of it is started again, without that limit."""
        with port.lock:
            before = self.bed.pid(port.unit)
            fault = self.begin("enomem", port.name)
            with open(f"/proc/{before}/statm", encoding="ascii") as statm:
                size = int(statm.read().split()[0]) * 4096
            # In half of the cases the only free memory is that of the allocator.
            self.limit(before, size + int(max(0, part - 0.5) * (512 << 10)))
            clients = [Client(self.bed.ssh(port.tcp)) for _ in range(6)]
            for client in clients:
                client.read(1.5)
                client.end(signal.SIGKILL)
            survived = self.bed.pid(port.unit) == before
            if survived:
                self.limit(before, "unlimited")
                self.stays(fault, port, before)
                self.bed.wait(BACK, fault, port.name, "a login", lambda: self.bed.answers(port))
            else:
                self.back_in_another(fault, port, before)
        self.done(fault, "kept running" if survived else "started again")

    def limit(self, pid, size):
        # Runs as the port's user: for root this requires a capability that a container may not have.
        as_port = ["setpriv", "--reuid=_console-port", "--regid=adm", "--clear-groups"]
        self.bed.must(*as_port, "prlimit", f"--pid={pid}", f"--as={size}:")

    # Plugs.

    def away(self, kind, word, port, part, while_away=None):
        with port.lock:
            fault = self.begin(kind, port.name)
            player = self.bed.players[port.name]
            player.ask(word)
            if while_away:
                while_away()
            self.bed.over.wait(0.5 + 12 * part)
            player.ask("plug")
            self.bed.wait(BACK, fault, port.name, "an open line again", lambda: self.bed.is_open(port))
            player.ask("free")
            player.ask("talk")
        self.done(fault)

    def unplug(self, port, part):
        self.away("unplug", "unplug", port, part)

    def yank(self, port, part):
        self.away("yank", "yank", port, part)

    def yank_and_kill(self, port, part):
        pid = self.bed.pid(port.unit)
        self.away("yank-and-kill", "yank", port, part, lambda: self.kill(pid))


def succeeds(done):
    status, said = done
    return status == 0, f"exit status {status}: {said[-300:]}"
