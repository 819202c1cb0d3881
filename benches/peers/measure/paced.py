"""16 devices that talk at the speed of 115200 baud: how much of a core that costs, watched and not."""

import time

import attach
import processes
from device import talking

PORTS = 16
RATE = 11520
ROUNDS = 5
SECONDS = 3.0


def run(systems, book):
    for system in systems:
        with attach.up([system], PORTS, book, "paced") as running, book.at(system, "paced"):
            if running:
                _measure(system, book)


def _measure(system, book):
    if system.logs_alone:
        with talking(system.devices, RATE):
            _look(system, "unwatched", book)
    with attach.attached(system, range(PORTS), piped=True) as clients, talking(system.devices, RATE):
        _look(system, "watched", book)
        if any(not client.alive() or client.length < RATE for client in clients):
            book.note(system, "paced: a client did not get what its device said")


def _look(system, state, book):
    time.sleep(1)
    for _ in book.rounds(ROUNDS):
        pids, began = system.processes(), time.monotonic()
        before = processes.cpu(pids)
        time.sleep(SECONDS)
        used = processes.cpu_between(before, processes.cpu(pids))
        book.add("paced", system, f"{state} % of a core", used / (time.monotonic() - began) * 100)
