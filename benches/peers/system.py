"""A console server under test: what all adapters share. An adapter is a file of systems/ and the configuration beside it."""

import os
import re
import socket
import subprocess
import time

import processes
from device import Device

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "systems")
# Made once by bench.py: a key for each port, since sshd and dropbear tell ports apart by the key.
KEYS = "/root/peers-keys"
MOST_PORTS = 48
# Lines after this one are for each port: @PORT@ is its name, @TCP@ its TCP port, @KEY@ its public key.
EACH = "# ---- for each port ----\n"


class Failure(Exception):
    """The system lacks what the measurement needs; reported in the results."""


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise Failure(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def wait(seconds, what, condition):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise Failure(f"gave up waiting for {what}")
        time.sleep(0.02)
    return result


class System:
    name = ""
    title = ""
    packages = ()
    units = ()  # beginnings of the units whose processes are the system's
    first = 0  # number of its first port: systems run beside each other
    encrypted = False
    logs_alone = True  # also while no client is attached
    shares = True  # a second client may watch
    client_wants_terminal = False

    def __init__(self):
        self.devices = []

    # Output of an adapter.

    def configure(self):
        """Writes the configuration of as many ports as there are devices."""
        raise NotImplementedError

    def begin(self):
        """Starts it."""
        raise NotImplementedError

    def end(self):
        raise NotImplementedError

    def client(self, port):
        """The words of a client that comes to read and write."""
        raise NotImplementedError

    def watcher(self, port):
        """Of a second one."""
        return self.client(port)

    def log(self, port):
        raise NotImplementedError

    def logged(self, text):
        """The device's output, without the log's own additions."""
        return text

    def revive(self):
        """After a `kill -9` of the process that holds a port, where nothing else starts it again."""

    # What is common.

    def up(self, count):
        for number in range(count):
            self.devices.append(Device(self.path(number)))
        self.configure()
        self.begin()
        self.wait_until_ready()

    def wait_until_ready(self):
        wait(30, f"{self.name} to listen", self.listens)
        if not self.logs_alone:
            return
        for number, device in enumerate(self.devices):
            token = f"ready {number} {time.monotonic_ns()}\r\n".encode()
            wait(30, f"{self.name} to log {device.path}", lambda: self._says_and_logs(device, number, token))

    def _says_and_logs(self, device, number, token):
        before = self.log_size(number)
        device.say(token)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            if token.strip() in self.log_from(number, before):
                return True
            time.sleep(0.01)
        return False

    def down(self):
        self.end()
        for device in self.devices:
            device.unplug()
        self.devices = []

    def port(self, number):
        return f"ttyUSB{self.first + number}"

    def path(self, number):
        return f"/dev/{self.port(number)}"

    def tcp(self, number):
        return 10000 + self.first + number

    def key(self, number):
        return f"{KEYS}/{number}"

    def processes(self):
        return processes.of_units(self.units)

    def log_size(self, number):
        try:
            return os.stat(self.log(number)).st_size
        except FileNotFoundError:
            return 0

    def log_from(self, number, offset):
        """The raw end of the log."""
        try:
            with open(self.log(number), "rb") as log:
                log.seek(offset)
                return log.read()
        except FileNotFoundError:
            return b""

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.listener()), 1).close()
            return True
        except OSError:
            return False

    def listener(self):
        return self.tcp(0)

    def fill(self, file, numbers=None):
        """The configuration file of the adapter, with a part for each port."""
        with open(os.path.join(HERE, file)) as template:
            head, each = re.split(re.escape(EACH), template.read())
        parts = [head]
        for number in range(len(self.devices)) if numbers is None else numbers:
            part = each.replace("@PORT@", self.port(number)).replace("@TCP@", str(self.tcp(number)))
            if "@KEY@" in part:
                with open(f"{self.key(number)}.pub") as key:
                    part = part.replace("@KEY@", key.read().strip())
            parts.append(part)
        return "".join(parts)

    def versions(self):
        return run("dpkg-query", "--show", "--showformat=${Package} ${Version}\n", *self.packages).strip().replace("\n", ", ")


# The last: OpenSSH's client holds keys back, to send them every 20 ms, so that an eavesdropper does not learn the timing of keystrokes. That
# stands between the key and every server alike, and would hide them.
SSH = [
    "ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
    "-o", "IdentitiesOnly=yes", "-o", "PreferredAuthentications=publickey", "-o", "ObscureKeystrokeTiming=no",
]  # fmt: skip


def ssh(user, port, key):
    return [*SSH, "-i", key, "-p", str(port), "-tt", f"{user}@127.0.0.1"]


def write(path, text, owner=None, mode=None):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    if owner:
        run("chown", owner, path)
    if mode:
        os.chmod(path, mode)


class OneService(System):
    """What is started and stopped by its first unit."""

    def begin(self):
        run("systemctl", "start", self.units[0])

    def end(self):
        run("systemctl", "stop", self.units[0])

    def restart(self):
        run("systemctl", "restart", self.units[0])


def account(user, keys):
    """A user who may use serial ports, and logs in by these lines of authorized_keys."""
    if subprocess.run(["id", user], capture_output=True).returncode:
        run("useradd", "--create-home", "--groups", "dialout", "--shell", "/bin/sh", user)
    write(f"/home/{user}/.ssh/authorized_keys", keys, f"{user}:", 0o600)
    run("chown", f"{user}:", f"/home/{user}/.ssh")
    os.chmod(f"/home/{user}/.ssh", 0o700)
