"""The devices at the far end of the lines: pseudo terminals under the names that serial adapters have."""

import contextlib
import fcntl
import importlib.machinery
import importlib.util
import math
import os
import select
import subprocess
import sys
import termios
import time

# The beds' own far end makes the ptys and writes the numbered lines.
FAR_END = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../tests/boot/far-end")
_loader = importlib.machinery.SourceFileLoader("far_end", FAR_END)
sys.dont_write_bytecode = True
far_end = importlib.util.module_from_spec(importlib.util.spec_from_loader("far_end", _loader))
_loader.exec_module(far_end)

LINE_BYTES = far_end.LINE_BYTES
# The device's reply to each byte: a byte that no banner, prompt or echo contains.
ANSWER = b"\x06"
TICK_SECONDS = 0.005


def lines(first, count):
    """`count` numbered lines of 64 bytes."""
    return b"".join(far_end.numbered(number) for number in range(first, first + count))


class Device:
    """A pty; it holds the slave end too, so that it does not hang up between two readers."""

    def __init__(self, path):
        self.path = path
        self.plug()

    def plug(self):
        self.line = far_end.Line(f"pty:{self.path}")
        self.tty = os.ttyname(self.line.keep)

    def unplug(self):
        """As an adapter that is pulled: the name goes, and who has it open gets a hang-up."""
        os.unlink(self.path)
        os.close(self.line.fd)
        self.line.let_go()

    def forget(self):
        """Discards unread data and the lock of the last process that had the tty: a real tty is closed then, and a pty is not."""
        if self.line.keep is not None:
            termios.tcflush(self.line.keep, termios.TCIOFLUSH)
            fcntl.ioctl(self.line.keep, termios.TIOCNXCL)
        self.line.look()

    def say(self, data):
        """What the line takes at once; a UART does not wait either."""
        return self.line.write_now(data)

    def hold(self):
        """Takes the slave end again."""
        self.line.keep = os.open(self.tty, os.O_RDWR | os.O_NOCTTY)

    def is_open(self):
        """Whether a process has it open after this end has closed it. A pty keeps unread output for the next opener; a UART does not."""
        poll = select.poll()
        poll.register(self.line.fd, 0)
        return not any(events & select.POLLHUP for _, events in poll.poll(0))

    def flood(self, data, deadline, rate=None, stalled=math.inf):
        """Writes `data` as fast as it is read, or at `rate` bytes a second, until the deadline, or until nothing has been read
        for so many seconds; how much was said by then."""
        poll = select.poll()
        poll.register(self.line.fd, select.POLLOUT)
        view, began = memoryview(data), time.monotonic()
        said, moved = 0, began
        while said < len(data):
            now = time.monotonic()
            if now > deadline or now - moved > stalled:
                break
            if rate and (ahead := said / rate - (now - began)) > 0:
                time.sleep(max(ahead, 0.001))
                continue
            if poll.poll(100):
                moved = now
                said += self.line.write_now(view[said : said + 65536])
        return said


@contextlib.contextmanager
def _program(*words, devices):
    """This file as a process of its own, so that no thread of the measuring one stands between a byte and its answer."""
    numbers = [device.line.fd for device in devices]
    command = [sys.executable, os.path.abspath(__file__), *map(str, words), *map(str, numbers)]
    child = subprocess.Popen(command, pass_fds=numbers, stdout=subprocess.PIPE)
    try:
        if child.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{command} did not start")
        yield child
    finally:
        child.kill()
        child.wait()


def answering(devices):
    """Each byte that is typed is answered by ANSWER."""
    return _program("answer", devices=devices)


def talking(devices, rate):
    """Each writes numbered lines at `rate` bytes a second."""
    return _program("talk", rate, devices=devices)


def answer(numbers):
    poll = select.poll()
    for number in numbers:
        poll.register(number, select.POLLIN)
    while True:
        for number, _ in poll.poll():
            try:
                os.write(number, ANSWER * len(os.read(number, 4096)))
            except BlockingIOError:
                pass
            except OSError:
                poll.unregister(number)


def talk(rate, numbers):
    text = lines(0, 4096)
    began, said = time.monotonic(), 0
    while True:
        time.sleep(TICK_SECONDS)
        due = int((time.monotonic() - began) * rate)
        chunk = text[said % len(text) : said % len(text) + due - said]
        said += len(chunk)
        for number in numbers:
            try:
                os.write(number, chunk)
            except BlockingIOError:
                pass


if __name__ == "__main__":
    print("ready", flush=True)
    if sys.argv[1] == "answer":
        answer([int(word) for word in sys.argv[2:]])
    else:
        talk(int(sys.argv[2]), [int(word) for word in sys.argv[3:]])
