#!/usr/bin/env python3
"""Plays the device of one port on a pty, keeps a copy of all that the line took, and obeys its standard input.

usage: device.py NAME KIND RATE SEED DIRECTORY

It appears as DIRECTORY/NAME. KIND is crlf, lf (lines that end so) or raw (bytes); RATE is bytes a second while it talks, which it does for
seconds at a time. Lines that are typed, crlf and lf answer by `heard …`. DIRECTORY/NAME.said is the copy, NAME.when says what it was
as long at which time, and NAME.seams where the device was pulled out, a line each, with `cut` if it was talking.

It is told, a word a line, and answers each by a line of JSON:
  plug     appear                  free     let go of the port's end of the pty: who closes it is seen from now on
  talk     begin, continue         hush     end the line, fall silent, and wait until the port has read all of it
  unplug   hush, and disappear     yank     disappear in the middle of a word
  quit
A UART does not wait, but this waits for the port: what it counts as said the port can have, however busy the machine is.
"""
import fcntl
import grp
import json
import os
import random
import select
import struct
import sys
import termios
import time
import tty

TICK_SECONDS = 0.05
READ_SECONDS = 60  # time for the port to read the output: it may be killed, or frozen, just then
WORDS = ["link up", "link down", "ok", "a\\b", "tab\there", "\x1b[1mbold\x1b[0m", "größer", "東京", "eth0: 1000 Mb/s", "#", "< >", "x" * 70]


class Device:
    def __init__(self, name, kind, rate, seed, directory):
        self.name, self.kind, self.rate = name, kind, int(rate)
        self.link = os.path.join(directory, name)
        self.random = random.Random(f"{seed} {name}")
        self.end = b"\r\n" if kind == "crlf" else b"\n"
        self.said_file = open(self.link + ".said", "wb")
        self.when_file = open(self.link + ".when", "w", encoding="ascii")
        self.master = self.slave = self.slave_path = None
        self.talking = self.hung_up = False
        self.said = self.hang_ups = self.lines = self.heard = 0
        self.pending = self.typed = b""
        self.pause_until = self.noted = self.budget_at = 0.0
        self.stalled_since, self.stalled_most = None, 0.0
        self.talk_until = 0.0

    # Its commands.

    def plug(self):
        self.master, self.slave = os.openpty()
        tty.setraw(self.slave)
        os.set_blocking(self.master, False)
        os.fchown(self.slave, 0, grp.getgrnam("dialout").gr_gid)
        os.fchmod(self.slave, 0o660)
        self.slave_path = os.ttyname(self.slave)
        self.hung_up = False
        os.symlink(self.slave_path, self.link + ".new")
        os.replace(self.link + ".new", self.link)

    def free(self):
        os.close(self.slave)
        self.slave = None

    def talk(self):
        self.talking = True
        self.budget_at = time.monotonic()

    def hush(self):
        self.talking = False
        if self.pending:
            self.write_all()
        self.flush()
        # Twice empty: between the pty's two ends is a queue that is not counted.
        empty, deadline = 0, time.monotonic() + READ_SECONDS
        while empty < 2:
            empty = empty + 1 if self.unread() == 0 else 0
            if time.monotonic() > deadline:
                raise TimeoutError(f"the port leaves {self.unread()} bytes unread for {READ_SECONDS} s")
            time.sleep(TICK_SECONDS)

    def unplug(self):
        self.hush()
        self.disappear("clean")

    def yank(self):
        self.talking = False
        self.flush()
        self.pending = b""
        self.disappear("cut")

    def disappear(self, how):
        with open(self.link + ".seams", "a", encoding="ascii") as seams:
            seams.write(f"{self.said} {how}\n")
        self.look()
        os.close(self.master)
        os.unlink(self.link)
        if self.slave is not None:
            self.free()
        self.master = None
        self.typed = b""

    # The commands.

    def unread(self):
        fd = os.open(self.slave_path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            return struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, b"\0" * 4))[0]
        finally:
            os.close(fd)

    def look(self):
        """What was typed; counts how often the last reader has closed a pty that was let go of."""
        poll = select.poll()
        poll.register(self.master, select.POLLIN)
        events = dict(poll.poll(0)).get(self.master, 0)
        hung_up = self.slave is None and bool(events & select.POLLHUP)
        self.hang_ups += hung_up and not self.hung_up
        self.hung_up = hung_up
        if events & select.POLLIN:
            self.typed += os.read(self.master, 4096)
        if self.kind == "raw":
            self.typed = b""

    def answer(self):
        *whole, self.typed = self.typed.replace(b"\n", b"\r").split(b"\r")
        for words in whole:
            if words:
                self.pending += b"heard " + words + self.end
                self.heard += 1

    def compose(self):
        """More to write."""
        if self.kind == "raw":
            self.pending += self.random.randbytes(self.random.randint(1, 200))
            return
        words = " ".join(self.random.choices(WORDS, k=self.random.randint(0, 6)))
        self.pending += f"{self.lines:08d} {self.name} {words}".encode() + self.end
        self.lines += 1

    def write_some(self, most):
        try:
            count = os.write(self.master, self.pending[:most])
        except BlockingIOError:
            count = 0
        self.said_file.write(self.pending[:count])
        self.said += count
        self.pending = self.pending[count:]
        now = time.monotonic()
        if count:
            self.stalled_since = None
        elif self.stalled_since is None:
            self.stalled_since = now
        else:
            self.stalled_most = max(self.stalled_most, now - self.stalled_since)

    def write_all(self):
        deadline = time.monotonic() + READ_SECONDS
        while self.pending:
            self.write_some(len(self.pending))
            if time.monotonic() > deadline:
                raise TimeoutError(f"the port takes nothing for {READ_SECONDS} s")
            if self.pending:
                time.sleep(TICK_SECONDS)

    def flush(self):
        self.said_file.flush()
        self.when_file.write(f"{time.time():.2f} {self.said}\n")
        self.when_file.flush()
        self.noted = time.monotonic()

    def tick(self):
        if self.master is None:
            return
        self.look()
        now = time.monotonic()
        if now - self.noted > 0.25:
            self.flush()
        if not self.talking or now < self.pause_until:
            self.budget_at = now
            return
        if now > self.talk_until:
            # A pause, in a third of the cases inside of a line, as a prompt is.
            if self.pending and self.random.random() > 0.3:
                self.write_some(len(self.pending))
            self.pause_until = now + self.random.uniform(0.1, 3)
            self.talk_until = self.pause_until + self.random.uniform(1, 8)
            return
        budget = int((now - self.budget_at) * self.rate)
        self.budget_at = now
        while len(self.pending) < budget:
            # An answer stands between two lines: so it does at the beginning of a line.
            self.answer()
            self.compose()
        if budget:
            self.write_some(budget)

    def figures(self):
        return {"said": self.said, "hang_ups": self.hang_ups, "stalled": round(self.stalled_most, 1), "heard": self.heard}


def main(words):
    device = Device(*words)
    orders = b""
    while True:
        if select.select([0], [], [], TICK_SECONDS)[0]:
            data = os.read(0, 4096)
            if not data:
                return
            *whole, orders = (orders + data).split(b"\n")
            for order in whole:
                answer = {}
                try:
                    if order not in (b"figures", b"quit"):
                        getattr(device, order.decode())()
                except (OSError, TimeoutError) as error:
                    answer = {"error": f"{order.decode()}: {error}"}
                print(json.dumps(device.figures() | answer), flush=True)
                if order == b"quit":
                    return
        device.tick()


if __name__ == "__main__":
    if len(sys.argv) != 6:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    main(sys.argv[1:])
