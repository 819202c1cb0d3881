"""From the byte at the pty until it can be read in the log file: a line now and then, as consoles talk."""

import random
import time

import attach
from system import Failure

ROUNDS = 5
LINES = 30
LOOK_SECONDS = 0.0002


def run(systems, book):
    with attach.up(systems, 1, book, "latency") as systems:
        for round_ in book.rounds(ROUNDS):
            for system in book.able(systems, "latency"):
                with book.at(system, "latency"), attach.attached(system, [] if system.logs_alone else [0]):
                    _time(system, round_, book)


def _time(system, round_, book):
    times = []
    for number in range(LINES):
        time.sleep(random.uniform(0.01, 0.04))
        offset = system.log_size(0)
        word = f"latency {round_} {number}".encode()
        began = time.perf_counter()
        system.devices[0].say(word + b"\r\n")
        while word not in system.log_from(0, offset):
            if time.perf_counter() - began > 5:
                raise Failure("a line was not in the log after 5 s")
            time.sleep(LOOK_SECONDS)
        times.append(time.perf_counter() - began)
    times.sort()
    book.add("latency", system, "p50 ms", times[len(times) // 2] * 1e3)
    book.add("latency", system, "p95 ms", times[len(times) * 95 // 100] * 1e3)
