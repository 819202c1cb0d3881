"""Forty seats, at each of which people come and go by real ssh clients: most watch, some type, some only ask, some are killed or stopped.

A watcher without a terminal gets the device's bytes and nothing else: what it got must be one piece of what the device said, with
nothing skipped but what an unplugging has swallowed, unless it was stopped itself. Whatever does not go well must have its reason in
a fault of that time and port.
"""
import os
import random
import select
import signal
import subprocess
import threading
import time

import judge
from bed import CLI

SEATS = 40
# Behind the beginning of a session: the scrollback that it may be shown, and more.
BACK = 512 << 10

AT_A_PORT = {"kill-port", "restart-port", "freeze-port", "enomem", "crowd", "kill-auth", "yank-and-kill"}
AWAY = {"unplug", "yank", "yank-and-kill"}
AT_THE_CLI = {"kill-cli", "kill-auth", "kill-admin", "kill-dbus", "restart-dbus"}


class Client:
    """A command whose output is read as it comes, up to a time."""

    def __init__(self, words):
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.out, self.err = b"", b""
        self.open = {self.process.stdout.fileno(), self.process.stderr.fileno()}

    def read(self, seconds, wanted=None, over=None):
        """Reads for this long, or until the process ends, prints `wanted`, or all is over. Whether it still runs."""
        deadline = time.monotonic() + seconds
        while self.open and not (over and over.is_set()):
            left = deadline - time.monotonic()
            if left <= 0 or (wanted and wanted in self.out):
                return True
            for fd in select.select(list(self.open), [], [], min(left, 0.5))[0]:
                data = os.read(fd, 65536)
                if not data:
                    self.open.discard(fd)
                elif fd == self.process.stdout.fileno():
                    self.out += data
                else:
                    self.err += data
        return bool(self.open)

    def type(self, text):
        try:
            self.process.stdin.write(text)
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def send(self, number):
        if self.process.poll() is None:
            self.process.send_signal(number)

    def end(self, number=signal.SIGTERM):
        """Its exit status."""
        self.send(number)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                pipe.close()
            except BrokenPipeError:
                pass
        return self.process.wait()


class Seat(threading.Thread):
    def __init__(self, bed, number):
        super().__init__(name=f"seat {number}", daemon=True)
        self.bed, self.number = bed, number
        self.random = random.Random(f"{bed.seed} seat {number}")
        self.visits = 0

    def run(self):
        roles = [self.watch] * 10 + [self.terminal] * 3 + [self.send] * 4 + [self.ask] * 4 + [self.cli] * 2 + [self.prompt]
        while not self.bed.over.wait(self.random.uniform(0.5, 6)):
            role = self.random.choice(roles)
            self.visits += 1
            self.bed.count(f"sessions: {role.__name__}")
            try:
                role(self.random.choice(self.bed.ports))
            except Exception as error:  # a seat that dies must be seen
                self.bed.fail(self.name, "-", "a session", f"{type(error).__name__}: {error}")

    def judge(self, well, port, begin, excuses, expected, seen):
        """Whether it went well; if not, for a reason that is known."""
        if well or self.bed.over.is_set():
            return
        refused = "Connection refused" in seen
        for fault in self.bed.around(begin, time.time()):
            if fault.kind in excuses and not refused and (not fault.ports or port.name in fault.ports):
                self.bed.count("sessions that a fault ended")
                return
        under_way = ", ".join(map(str, self.bed.around(begin, time.time()))) or "no fault"
        self.bed.fail(f"{self.name} during {under_way}", port.name, expected, seen)

    def watch(self, port):
        begin = time.time()
        base = os.path.getsize(port.said)
        client = Client(self.bed.ssh(port.tcp))
        lasts = self.random.uniform(15, 60)
        what = self.random.choices(["stays", "killed", "stopped"], [60, 25, 15])[0]
        goes_on = client.read(lasts / 2 if what != "stays" else lasts, over=self.bed.over)
        if what == "stopped" and goes_on:
            self.bed.count("clients stopped for a while")
            client.send(signal.SIGSTOP)
            client.read(self.random.uniform(5, 20), over=self.bed.over)
            client.send(signal.SIGCONT)
            goes_on = client.read(5, over=self.bed.over)
        if what == "killed":
            self.bed.count("clients killed")
        client.end(signal.SIGKILL if what == "killed" else signal.SIGTERM)
        seen = client.err.decode(errors="replace")[-300:]
        self.judge(goes_on, port, begin, AT_A_PORT, "a session that stays", f"it ended: {seen}")
        if what == "stopped":
            return
        skipped = "bytes skipped" in seen
        self.judge(not skipped, port, begin, (), "nothing skipped for a client that reads", seen)
        if not skipped and not self.is_a_piece(client.out, port, base):
            self.bed.fail(self.name, port.name, "one piece of what the device said", f"{client.out[:200]!r}…{client.out[-200:]!r}")
        if goes_on and lasts > 20 and what == "stays":
            self.judge(client.out, port, begin, AT_A_PORT | AWAY, "to hear something", f"nothing within {lasts:.0f} s: {seen}")
        self.bed.count("bytes watched", len(client.out))

    def is_a_piece(self, heard, port, base):
        """Whether the device wrote this, in one piece. Its copy is written a little later."""
        start = max(0, base - BACK)
        deadline = time.monotonic() + 10
        while True:
            with open(port.said, "rb") as copy:
                copy.seek(start)
                said = copy.read()
            if heard in said or self.goes_over_a_cut(heard, said, port, start):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)

    @staticmethod
    def goes_over_a_cut(heard, said, port, start):
        """Whether it is one piece but for what an unplugging has swallowed."""
        for place, how in judge.read_seams(port.said):
            place -= start
            at = heard.find(said[place : place + 64]) if how == "cut" and place >= 0 else -1
            if at > 0 and said.startswith(heard[at:], place) and said.rfind(heard[:at], max(0, place - judge.CUT_MOST - at), place) >= 0:
                return True
        return False

    def terminal(self, port):
        begin = time.time()
        well, seen = self.sit(port.tcp, b"for help]", self.random.uniform(3, 30), b"\x05c.")
        self.judge(well, port, begin, AT_A_PORT | AWAY, "a banner, and to leave by ^Ec.", seen)

    def sit(self, tcp, greeting, seconds, leave):
        """At a terminal, until it leaves by these keys: whether it was greeted and could leave, and what was seen."""
        client = Client(self.bed.ssh(tcp, options=("-tt",)))
        greeted = client.read(40, greeting, self.bed.over) and greeting in client.out
        client.read(seconds, over=self.bed.over)
        client.type(leave)
        client.read(20, over=self.bed.over)
        left = not client.open
        status = client.end()
        return greeted and left and status == 0, f"exit status {status}: {client.out[-300:]!r} {client.err[-200:]!r}"

    def send(self, port):
        if port.kind == "raw":
            return self.ask(port)
        begin = time.time()
        word = f"s{self.number}-{self.visits}."
        command = f"send --force --timeout 40 --expect 'heard {word}' '{word}\\r'"
        status, said = self.bed.run(*self.bed.ssh(port.tcp, command))
        seen = f"exit status {status}: {said[-300:]}"
        return self.judge(status == 0, port, begin, AT_A_PORT | AWAY, f"the device to hear {word}", seen)

    def ask(self, port):
        begin = time.time()
        command = self.random.choice(["status", "log -n 50", "grep --since 1m line"])
        if port.kind == "raw":
            command = "status"
        status, said = self.bed.run(*self.bed.ssh(port.tcp, command))
        # Nothing found is 1: at the beginning, or while the disk is full.
        well = status == 0 or (command.startswith("grep") and status == 1 and not said)
        self.judge(well, port, begin, AT_A_PORT | AWAY, f"`{command}` to answer", f"exit status {status}: {said[-300:]}")

    def cli(self, port):
        begin = time.time()
        command = self.random.choice(["status", "list", f"show {port.name}", "who"])
        status, said = self.bed.run(*self.bed.ssh(CLI, command))
        seen = f"exit status {status}: {said[-300:]}"
        self.judge(status == 0, port, begin, AT_THE_CLI | AT_A_PORT, f"`{command}` at the admin CLI to answer", seen)

    def prompt(self, port):
        begin = time.time()
        well, seen = self.sit(CLI, b"> ", self.random.uniform(1, 10), b"exit\r")
        self.judge(well, port, begin, AT_THE_CLI, "a prompt, and to leave by exit", seen)
