"""A person's program at a console: the real client of each system, on a terminal of its own."""

import fcntl
import os
import select
import shutil
import signal
import subprocess
import termios
import threading
import time
import tty

PIPE_BYTES = 1 << 20  # as much as Linux lets a pipe hold, so that the reader here does not hold the client up
TAIL_BYTES = 4096

# Clients run from copies of their programs and libraries: else they would share the pages of the servers on this machine,
# and 32 ssh clients would take away from what 32 sshds weigh.
COPIES = "/srv/clients"
OWN_LIBRARIES = {
    "PATH": f"{COPIES}/bin:/usr/bin:/bin", "LD_LIBRARY_PATH": f"{COPIES}/lib",
    "HOME": "/root", "USER": "root", "LOGNAME": "root", "TERM": "vt100", "LC_ALL": "C.UTF-8",
}  # fmt: skip


def copy_programs(names):
    for directory in ("bin", "lib"):
        os.makedirs(f"{COPIES}/{directory}", exist_ok=True)
    for name in names:
        program = shutil.which(name)
        shutil.copy(program, f"{COPIES}/bin/{name}")
        listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
        for line in listed.splitlines():
            if "=> /" in line:
                shutil.copy(line.split()[2], f"{COPIES}/lib/")


class Client:
    """Its input is a terminal; its output is that terminal too, or a pipe where much is to come."""

    def __init__(self, argv, piped=False):
        self.argv = argv
        self.near, far = os.openpty()
        tty.setraw(far)
        output = far
        self.output = self.near
        if piped:
            self.output, output = os.pipe()
            fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.child = subprocess.Popen(
            argv, stdin=far, stdout=output, stderr=subprocess.DEVNULL, start_new_session=True, env=OWN_LIBRARIES,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(far)
        if piped:
            os.close(output)
        self.chunks, self.length, self.tail = [], 0, b""
        self.awaited, self.seen_at, self.seen = None, None, threading.Event()
        self.thread, self.closed = None, False

    def type(self, data):
        os.write(self.near, data)

    def read(self, seconds):
        """What comes within that time, at once when something does; empty bytes if nothing came, or the client has left."""
        if not select.select([self.output], [], [], seconds)[0]:
            return b""
        try:
            return os.read(self.output, 65536)
        except OSError:
            return b""

    def collect(self):
        """From now on all output is read and kept, by a thread."""
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()
        return self

    def _collect(self):
        while True:
            try:
                chunk = os.read(self.output, PIPE_BYTES)
            except OSError:
                return
            if not chunk:
                return
            now = time.monotonic()
            self.chunks.append(chunk)
            self.length += len(chunk)
            recent = self.tail + chunk
            if self.awaited and self.awaited in recent:
                self.awaited, self.seen_at = None, now
                self.seen.set()
            self.tail = recent[-TAIL_BYTES:]

    def expect(self, token):
        """`sees` waits for this, among what comes from now on."""
        self.seen.clear()
        self.awaited = token

    def sees(self, seconds):
        """When it came (monotonic), or None."""
        return self.seen_at if self.seen.wait(seconds) else None

    def forget(self):
        self.chunks, self.length = [], 0

    def received(self):
        return b"".join(self.chunks)

    def alive(self):
        return self.child.poll() is None

    def stop(self):
        self.child.send_signal(signal.SIGSTOP)

    def close(self):
        if self.closed:
            return
        self.closed = True
        self.child.send_signal(signal.SIGCONT)
        self.child.terminate()
        try:
            self.child.wait(2)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        if self.thread:
            self.thread.join(2)
        for number in {self.near, self.output}:
            os.close(number)
