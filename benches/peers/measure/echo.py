"""From a key to its answer, through the real client; beside it the bare loop: a program that has the pty itself."""

import os
import time
import tty

import attach
from device import ANSWER, Device, answering
from system import Failure

ROUNDS = 5
KEYS = 400
GAP_SECONDS = 0.002


class Bare:
    """The loop without a system: in the tables it stands as one."""

    name = title = "bare"
    path = "/dev/ttyBARE"

    def __init__(self):
        self.device = Device(self.path)
        self.fd = os.open(self.path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self.fd)

    def type(self, data):
        os.write(self.fd, data)

    def read(self, _):
        return os.read(self.fd, 64)

    def close(self):
        os.close(self.fd)
        self.device.unplug()


def run(systems, book):
    bare = Bare()
    sitting = {bare: (bare, bare.device)}
    with attach.up(systems, 1, book, "echo") as systems:
        try:
            for system in systems:
                with book.at(system, "echo"):
                    sitting[system] = (attach.attach(system, 0), system.devices[0])
            for _ in book.rounds(ROUNDS):
                for system in book.able(sitting, "echo"):
                    with book.at(system, "echo"):
                        _type(system, *sitting[system], book)
        finally:
            for client, _ in sitting.values():
                client.close()


def _type(system, client, device, book):
    times = []
    with answering([device]):
        for _ in range(KEYS):
            time.sleep(GAP_SECONDS)
            began = time.perf_counter()
            client.type(b"a")
            while ANSWER not in client.read(1):
                if time.perf_counter() - began > 2:
                    raise Failure("a key was not answered for 2 s")
            times.append(time.perf_counter() - began)
    times.sort()
    book.add("echo", system, "p50 µs", times[len(times) // 2] * 1e6)
    book.add("echo", system, "p99 µs", times[len(times) * 99 // 100] * 1e6)
