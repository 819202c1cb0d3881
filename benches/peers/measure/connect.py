"""From the start of the client until the device has answered what it typed: the login is in it."""

import time

import attach

ROUNDS = 12


def run(systems, book):
    with attach.up(systems, 1, book, "connect") as systems:
        for _ in book.rounds(ROUNDS):
            for system in book.able(systems, "connect"):
                with book.at(system, "connect"):
                    began = time.monotonic()
                    client = attach.start(system, 0)
                    spawned = time.monotonic() - began
                    took = spawned + attach.until_answered(system, 0, client)
                    client.close()
                    book.add("connect", system, "ms", took * 1000)
                    _wait_until_gone(system)


def _wait_until_gone(system):
    """The end of one client's connection must not be timed with the start of the next one."""
    time.sleep(0.1)
    system.devices[0].forget()
