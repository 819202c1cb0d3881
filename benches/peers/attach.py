"""Sits down at a port: starts the client, and waits until what it types is answered by the device."""

import contextlib
import time

from client import Client
from device import ANSWER
from system import Failure

# Typed again and again while the client comes up; the first answer is when it is attached.
KEY = b"q"
KEY_SECONDS = 0.002
QUIET_SECONDS = 0.1
# At a time: sshd admits ten that have not logged in (MaxStartups).
TOGETHER = 8
TRIES, RETRY_SECONDS = 4, 0.3


def start(system, number, piped=False, watch=False):
    argv = system.watcher(number) if watch else system.client(number)
    return Client(argv, piped and not system.client_wants_terminal)


def until_answered(system, number, client, seconds=10, watch=False, drain=True):
    """Seconds from now until the client is attached."""
    device, began = system.devices[number], time.monotonic()
    while True:
        if not watch:
            client.type(KEY)
        typed = device.line.look()
        if typed or watch:
            device.say(ANSWER * max(len(typed), 1))
        if ANSWER in client.read(KEY_SECONDS):
            break
        if time.monotonic() - began > seconds or not client.alive():
            client.close()
            raise Failure(f"{system.name}: {' '.join(client.argv)}: not attached after {time.monotonic() - began:.1f} s")
    took = time.monotonic() - began
    if drain:
        _drain(device, client)
    return took


def _drain(device, client):
    """What was typed too much is answered, and read."""
    while True:
        typed = device.line.look()
        device.say(ANSWER * len(typed))
        if not client.read(QUIET_SECONDS) and not typed:
            return


def attach(system, number, piped=False, watch=False, first=None, drain=True):
    """A client that is attached; it comes again if it is sent away because the last one has not quite gone (ser2net, picocom)."""
    client = first or start(system, number, piped, watch)
    for _ in range(TRIES):
        try:
            until_answered(system, number, client, watch=watch, drain=drain)
            return client
        except Failure:
            time.sleep(RETRY_SECONDS)
            client = start(system, number, piped, watch)
    until_answered(system, number, client, watch=watch, drain=drain)
    return client


@contextlib.contextmanager
def attached(system, numbers, piped=False, drain=True):
    """A client at each of these ports, which reads what comes."""
    clients, waiting = [], list(numbers)
    try:
        while waiting:
            batch, waiting = waiting[:TOGETHER], waiting[TOGETHER:]
            for number, first in [(number, start(system, number, piped)) for number in batch]:
                clients.append(attach(system, number, piped, first=first, drain=drain).collect())
        yield clients
    finally:
        for client in clients:
            client.close()
        for number in numbers:
            system.devices[number].forget()


@contextlib.contextmanager
def up(systems, count, book, what):
    """Starts these systems with that many ports each; yields those that can run."""
    begun, running = [], []
    try:
        for system in systems:
            with book.at(system, what):
                begun.append(system)
                system.up(count)
                running.append(system)
        yield running
    finally:
        for system in begun:
            with book.at(system, what):
                system.down()
