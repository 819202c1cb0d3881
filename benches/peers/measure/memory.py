"""Memory of all processes of a system: idle, with a client at each port, and with what it keeps of each port full."""

import time

import attach
import processes
from device import LINE_BYTES, lines

SIZES = (1, 16, 32, 48)
ROUNDS = {1: 5, 16: 3, 32: 5, 48: 3}
SETTLE_SECONDS = 0.7
FULL = 300_000  # bytes written by each port


def run(systems, book):
    for round_ in book.rounds(max(ROUNDS.values())):
        for system in book.able(systems, "memory"):
            for size in SIZES:
                if round_ < ROUNDS[size]:
                    with attach.up([system], size, book, "memory") as running, book.at(system, "memory"):
                        if running:
                            _weigh(system, size, book)


def _weigh(system, size, book):
    def note(state):
        time.sleep(SETTLE_SECONDS)
        for kind, megabytes in processes.memory(system.processes()).items():
            book.add("memory", system, f"{size} {state} {kind}", megabytes)

    note("idle")
    with attach.attached(system, range(size), drain=False) as clients:
        note("attached")
        text = lines(0, FULL // LINE_BYTES)
        for number, client in enumerate(clients):
            client.expect(text[-LINE_BYTES:-2])
            system.devices[number].flood(text, time.monotonic() + 10)
        for client in clients:
            client.sees(10)
        note("attached full")
    if system.logs_alone:
        note("idle full")
