"""`kill -9` of the process that holds the port while the device talks at the speed of 115200 baud: bytes lost, and for how long."""

import os
import signal
import threading
import time

import attach
import processes
from device import LINE_BYTES, TICK_SECONDS, lines
from measure.flood import begin_a_line
from system import Failure

ROUNDS = 5
RATE = 11520
SECONDS = 2.5
KILL_AT = 0.7


def run(systems, book):
    with attach.up(systems, 1, book, "kill") as systems:
        for _ in book.rounds(ROUNDS):
            for system in book.able(systems, "kill"):
                with book.at(system, "kill"):
                    _kill(system, book, None if system.logs_alone else attach.attach(system, 0).collect())


class Killer(threading.Thread):
    """Kills, starts again what does not start by itself, and comes back as a client where nothing is logged without one."""

    def __init__(self, system, client):
        super().__init__(daemon=True)
        self.system, self.client, self.failure = system, client, None
        self.start()

    def run(self):
        try:
            time.sleep(KILL_AT)
            pid = processes.holder(self.system.processes(), self.system.devices[0].tty)
            if not pid:
                raise Failure("no process has the tty open")
            os.kill(pid, signal.SIGKILL)
            self.system.revive()
            if self.client:
                self.client.close()
                self._come_back()
        except Failure as failure:
            self.failure = failure

    def _come_back(self):
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            self.client = attach.start(self.system, 0).collect()
            while time.monotonic() < deadline and self.client.alive():
                time.sleep(0.01)
            self.client.close()


def _kill(system, book, client=None):
    device = begin_a_line(system)
    offset = system.log_size(0)
    device.line.let_go()
    killer = Killer(system, client)
    said, missed = _talk(device)
    killer.join()
    device.hold()
    if killer.failure:
        raise killer.failure
    _until_quiet(system)
    there = set(system.logged(system.log_from(0, offset)).split(b"\r\n"))
    lost = sum(line not in there for line in said.split(b"\r\n")[:-1]) * LINE_BYTES
    book.add("kill", system, "bytes lost", max(lost, missed))


def _talk(device):
    """Numbered lines at RATE; returns what was written, and how many bytes of it the line did not take."""
    text = lines(0, int(RATE * SECONDS) // LINE_BYTES)
    began, said, missed = time.monotonic(), 0, 0
    while said < len(text):
        time.sleep(TICK_SECONDS)
        due = min(int((time.monotonic() - began) * RATE), len(text))
        taken = device.say(text[said:due]) if device.is_open() else 0
        missed += due - said - taken
        said = due
    return text, missed


def _until_quiet(system):
    before = None
    while before != (before := system.log_size(0)):
        time.sleep(0.5)
