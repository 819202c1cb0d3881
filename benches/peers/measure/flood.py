"""As fast as a system reads: CPU for each MB, MB/s, and whether log and client are exact. Without a client, and with one."""

import time

import attach
import processes
from device import LINE_BYTES, lines

MB = 1_000_000
ROUNDS = 5
PROBE = MB
MOST = 32 * MB
SECONDS = 0.8  # target duration of a round
LIMIT = 10
LINE_SECONDS = 0.1
SLOWER = (0.9, 0.8, 0.65, 0.5, 0.35, 0.2, 0.1, 0.05)


class Flood:
    """One of them, at the port 0 of a system."""

    def __init__(self, system, client, data, rate=None):
        device = begin_a_line(system)
        log = system.log_size(0)
        last = data[-LINE_BYTES:-2]
        if client:
            client.forget()
            client.expect(last)
        pids = processes.cpu(system.processes())
        began = time.monotonic()
        self.said = device.flood(data, began + LIMIT, rate)
        whole = self.said == len(data)
        seen = client.sees(LIMIT if whole else 0.5) if client else None
        logged = self._wait_for_log(system, last, LIMIT if whole else 0.5)
        time.sleep(0.05)
        self.cpu = processes.cpu_between(pids, processes.cpu(system.processes()))
        end = seen if client else logged
        self.rate = self.said / MB / (end - began) if end else None
        self.log_lost = lost(data[: self.said], system.logged(system.log_from(0, log)))
        self.client_lost = lost(data[: self.said], client.received()) if client else 0.0

    @staticmethod
    def _wait_for_log(system, last, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if last in system.log_from(0, max(system.log_size(0) - 4096, 0)):
                return time.monotonic()
            time.sleep(0.001)
        return None

    @property
    def exact(self):
        return not self.log_lost and not self.client_lost


def begin_a_line(system):
    """So that the first line of the flood is a line of its own in the log."""
    device = system.devices[0]
    device.say(b"\r\n")
    time.sleep(LINE_SECONDS)
    return device


def lost(data, received):
    """What part of the lines is not there whole, and in its place."""
    if data in received:
        return 0.0
    there = set(received.split(b"\r\n"))
    wanted = data.split(b"\r\n")[:-1]
    return max(sum(line not in there for line in wanted), 1) / len(wanted)


def run(systems, book):
    with attach.up(systems, 1, book, "flood") as systems:
        for watched in (False, True):
            able = [system for system in systems if watched or system.logs_alone]
            sizes = {system: _probe(system, watched, book) for system in able}
            for _ in book.rounds(ROUNDS):
                for system in book.able(able, "flood"):
                    with book.at(system, "flood"):
                        _round(system, watched, sizes[system], book)
        for system in book.able(systems, "flood"):
            if any(book.values("flood", system, "lost at client %") + book.values("flood", system, "watched lost in log %")):
                with book.at(system, "flood"):
                    _slower(system, book)


def _at(system, watched):
    return attach.attached(system, [0] if watched else [], piped=True)


def _probe(system, watched, book):
    """How many bytes take about SECONDS."""
    size = PROBE
    with book.at(system, "flood"), _at(system, watched) as clients:
        flood = Flood(system, clients[0] if clients else None, lines(0, PROBE // LINE_BYTES))
        size = int(max(PROBE // 2, min(MOST, (flood.rate or 1) * MB * SECONDS)))
    return size


def _round(system, watched, size, book):
    state = "watched" if watched else "alone"
    with _at(system, watched) as clients:
        flood = Flood(system, clients[0] if clients else None, lines(0, size // LINE_BYTES))
    book.add("flood", system, f"{state} CPU ms/MB", flood.cpu * 1000 / (flood.said / MB))
    if flood.rate:
        book.add("flood", system, f"{state} MB/s", flood.rate)
    book.add("flood", system, f"{state} lost in log %", flood.log_lost * 100)
    if watched:
        book.add("flood", system, "lost at client %", flood.client_lost * 100)


def _slower(system, book):
    """The fastest of some rates at which three floods in a row are exact."""
    full = max(book.values("flood", system, "watched MB/s") or [1])
    for part in SLOWER:
        rate = full * part * MB
        data = lines(0, int(rate * SECONDS) // LINE_BYTES)
        exact = True
        for _ in range(3):
            with _at(system, True) as clients:
                exact = exact and Flood(system, clients[0], data, rate).exact
        if exact:
            book.add("flood", system, "lossless MB/s", full * part)
            return
    book.note(system, f"loses lines even at {full * SLOWER[-1]:.1f} MB/s")
