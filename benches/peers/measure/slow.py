"""A client that stops reading, and a flood of 50 MB with a second client that reads: log, the other, memory."""

import threading
import time

import attach
import processes
from device import LINE_BYTES, lines
from measure.flood import MB, begin_a_line, lost

ROUNDS = 5
FLOOD = 50 * MB
SECONDS = 8  # for the whole flood
STALL_SECONDS = 1.5  # a client that has not read the port for this long has stopped
LOOK_SECONDS = 0.2


def run(systems, book):
    data = lines(0, FLOOD // LINE_BYTES)
    with attach.up(systems, 1, book, "slow") as systems:
        for _ in book.rounds(ROUNDS):
            for system in book.able(systems, "slow"):
                with book.at(system, "slow"):
                    _flood(system, data, book)


def _flood(system, data, book):
    clients = [attach.attach(system, 0, piped=True)]
    try:
        if system.shares:
            clients.append(attach.attach(system, 0, piped=True, watch=True).collect())
        clients[0].stop()
        _pour(system, data, clients[1] if system.shares else None, book)
    finally:
        for client in clients:
            client.close()
        _recover(system)


def _pour(system, data, other, book):
    begin_a_line(system)
    offset = system.log_size(0)
    if other:
        other.forget()
        other.expect(data[-LINE_BYTES:-2])
    weight = Weight(system)
    said = system.devices[0].flood(data, time.monotonic() + SECONDS, stalled=STALL_SECONDS)
    if other and said == len(data):
        other.sees(3)
    _until_quiet(lambda: system.log_size(0))
    book.add("slow", system, "memory MB more", weight.end())
    book.add("slow", system, "MB read of the port", said / MB)
    logged = system.logged(system.log_from(0, offset))
    book.add("slow", system, "lost in log %", lost(_read_of(data[:said], logged), logged) * 100)
    if other:
        book.add("slow", system, "lost at the other %", lost(_read_of(data[:said], logged), other.received()) * 100)


def _read_of(said, logged):
    """What the system has read of it: what still lies in the pty of one that has stopped reading is late, not lost."""
    lines_read = [line for line in logged.splitlines()[-3:] if len(line) == LINE_BYTES - 2 and line[:10].isdigit()]
    return said[: (int(lines_read[-1][:10]) + 1) * LINE_BYTES] if lines_read else said


def _until_quiet(size):
    """The log has not grown for 0.3 s."""
    before = None
    while before != (before := size()):
        time.sleep(0.3)


def _recover(system):
    system.devices[0].forget()
    time.sleep(0.3)
    system.devices[0].forget()


class Weight:
    """The most memory until `end`, above what it was."""

    def __init__(self, system):
        self.system = system
        self.first = self.most = self._now()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _now(self):
        return processes.memory(self.system.processes())["pss"]

    def _watch(self):
        while not self.over.wait(LOOK_SECONDS):
            self.most = max(self.most, self._now())

    def end(self):
        self.over.set()
        self.thread.join()
        return max(self.most, self._now()) - self.first
