"""An adapter pulled, and back a second later at the same path: after how long its words are seen again, and is it in the same session."""

import time

import attach

PORTS = 5
AWAY_SECONDS = 1
LIMIT_SECONDS = 65  # conserver looks once a minute
TICK_SECONDS = 0.05
RETRY_SECONDS = 0.5


class Line:
    """One port of a system, and who sat there."""

    def __init__(self, system, number):
        self.system, self.number = system, number
        self.device = system.devices[number]
        self.client = attach.attach(system, number).collect()
        self.again = None
        self.back, self.kept, self.tried = None, False, 0

    def unplug(self):
        self.device.unplug()

    def plug(self):
        self.device.plug()
        self.client.forget()
        self.offset = self.system.log_size(self.number)
        self.plugged = time.monotonic()
        self.word = f"back {self.number}".encode()

    def look(self):
        """The device writes; does a client, or the log, receive it?"""
        now = time.monotonic()
        self.device.say(self.word + b"\r\n")
        self.kept = self.word in self.client.received()
        again = self.again is not None and self.word in self.again.received()
        if self.kept or again or self.word in self.system.log_from(self.number, self.offset):
            self.back = now - self.plugged

    def is_alone(self):
        there = any(client is not None and client.alive() for client in (self.client, self.again))
        return not there and time.monotonic() - self.tried > RETRY_SECONDS

    def come_again(self):
        self.tried = time.monotonic()
        if self.again is not None:
            self.again.close()
        self.again = attach.start(self.system, self.number).collect()

    def end(self):
        for client in (self.client, self.again):
            if client is not None:
                client.close()


def run(systems, book):
    lines = []
    with attach.up(systems, PORTS, book, "replug") as systems:
        try:
            for system in systems:
                with book.at(system, "replug"):
                    lines += [Line(system, number) for number in range(PORTS)]
            for line in lines:
                line.unplug()
            time.sleep(AWAY_SECONDS)
            for line in lines:
                line.plug()
            _watch(lines)
        finally:
            for line in lines:
                line.end()
    for line in lines:
        book.add("replug", line.system, "back after s", line.back if line.back is not None else float("inf"))
        book.add("replug", line.system, "session kept", int(line.kept))


def _watch(lines):
    deadline = time.monotonic() + LIMIT_SECONDS
    waiting = lines
    while waiting and time.monotonic() < deadline:
        time.sleep(TICK_SECONDS)
        for line in waiting:
            line.look()
        waiting = [line for line in waiting if line.back is None]
        # One at a time: starting a program takes longer than the checks, and would count as an absence of the other systems.
        for line in [line for line in waiting if line.is_alone()][:1]:
            line.come_again()
    # A session may hear it a moment after the log.
    time.sleep(0.5)
    for line in lines:
        line.kept = line.word in line.client.received()
