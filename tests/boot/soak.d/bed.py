"""The sixteen ports, their devices and what is known of both; faults and failures as they happen.

Everything lies below SOAK (/srv/soak): the devices and their copies in `lab`, which is the monitored directory, and the log of the run.
"""
import dataclasses
import json
import os
import random
import subprocess
import sys
import threading
import time

import measure

SOAK = "/srv/soak"
LAB = f"{SOAK}/lab"
LOGS = "/var/log/consoleserver"
KEY = f"{SOAK}/key"
CLI = 8022
HERE = os.path.dirname(os.path.abspath(__file__))

COUNT = 16
# Ports whose process must live from the beginning to the end, with another kind of device each; all sessions of the run pass through them,
# and what they have left behind shows in the end. The last one has fewer descriptors than clients come.
SPARED = 5
CROWDED = "line4"
FEW_DESCRIPTORS = 48
FAILURES_MOST = 20

SSH = ["ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
SSH += ["-o", "ConnectTimeout=60", "-i", KEY, "-o", "IdentitiesOnly=yes", "-o", "PreferredAuthentications=publickey"]


@dataclasses.dataclass
class Port:
    name: str
    tcp: int
    kind: str
    rate: int
    scrollback: str
    shared: bool
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    lost: int = 0
    lost_before: int = 0
    status: str = ""
    pid: int = 0

    @property
    def unit(self):
        return f"console@{self.name}.service"

    @property
    def said(self):
        return f"{LAB}/{self.name}.said"

    @property
    def logs(self):
        return f"{LOGS}/{self.name}"


@dataclasses.dataclass
class Fault:
    number: int
    kind: str
    ports: tuple
    begin: float
    end: float = 0.0
    note: str = ""

    def __str__(self):
        return f"fault {self.number}, {self.kind} {' '.join(self.ports)}".rstrip()


class Player:
    """A device program and its commands."""

    def __init__(self, port, seed):
        words = [sys.executable, f"{HERE}/device.py", port.name, port.kind, str(port.rate), str(seed), LAB]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.lock = threading.Lock()

    def ask(self, word):
        with self.lock:
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        if not answer:
            raise OSError(f"the device program has died at {word!r}")
        figures = json.loads(answer)
        if "error" in figures:
            raise OSError(figures["error"])
        return figures


class Bed:
    def __init__(self, seed, minutes):
        rng = random.Random(f"{seed} ports")
        self.seed, self.minutes = seed, minutes
        kinds, sizes = ("crlf", "crlf", "lf", "raw"), ("64K", "256K", "64K", "128K")
        self.ports = [
            Port(f"line{n}", 8100 + n, kinds[n % 4], rng.randint(1000, 4000), sizes[n // 4], n % 2 == 0) for n in range(COUNT)
        ]
        self.by_name = {port.name: port for port in self.ports}
        self.players = {}
        self.faults, self.failures, self.counts = [], [], {}
        self.weights = []
        self.lock = threading.Lock()
        self.disk = threading.Lock()
        self.over = threading.Event()
        self.log = open(f"{SOAK}/run.log", "w", encoding="utf-8")

    # Events are printed immediately, and kept.

    def say(self, text):
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
        self.note(text)

    def note(self, text):
        with self.lock:
            self.log.write(f"{time.strftime('%H:%M:%S')} {text}\n")
            self.log.flush()

    def begin(self, kind, *ports):
        with self.lock:
            fault = Fault(len(self.faults) + 1, kind, ports, time.time())
            self.faults.append(fault)
        self.say(str(fault))
        return fault

    def fail(self, about, port, expected, seen):
        with self.lock:
            self.failures.append((str(about), port, expected, seen))
        self.say(f"FAILED {about}: {port}: expected {expected}; seen: {str(seen).strip()}")
        if len(self.failures) >= FAILURES_MOST:
            self.over.set()

    def count(self, what, by=1):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + by

    def around(self, begin, end, slack=10):
        """The faults that were under way between these times, or had just been."""
        with self.lock:
            return [fault for fault in self.faults if fault.begin <= end and (not fault.end or fault.end + slack >= begin)]

    def wait(self, seconds, about, port, expected, look):
        """Until `look` gives (True, …); fails with what it saw last. Whether it has come."""
        deadline = time.monotonic() + seconds
        while True:
            done, seen = look()
            if done:
                return True
            if time.monotonic() > deadline:
                self.fail(about, port, f"{expected} within {seconds} s", seen)
                return False
            time.sleep(0.1)

    # Commands.

    @staticmethod
    def run(*words, timeout=120):
        """Exit status and output."""
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False
            )
            return done.returncode, done.stdout.decode(errors="replace")
        except subprocess.TimeoutExpired as slow:
            return -1, f"not done within {timeout} s: {(slow.stdout or b'')[-500:]!r}"

    def must(self, *words):
        status, said = self.run(*words)
        if status != 0:
            raise OSError(f"{' '.join(words)}: exit status {status}: {said}")
        return said

    def show(self, unit, key):
        return self.run("systemctl", "show", f"--property={key}", "--value", unit)[1].strip()

    def pid(self, unit):
        return int(self.show(unit, "MainPID") or 0)

    def ssh(self, tcp, *command, options=("-T",)):
        """alice may use the consoles, bob may administer."""
        user = "bob" if tcp == CLI else "alice"
        return [*SSH, *options, "-p", str(tcp), f"{user}@127.0.0.1", *command]

    def answers(self, port, *command):
        """Whether the port's listener accepts a login that runs `status`, or this."""
        status, said = self.run(*self.ssh(port.tcp, *(command or ("status",))))
        return status == 0, f"exit status {status}: {said[-300:]}"

    def is_open(self, port, not_pid=0):
        """Whether its line is open, in another process than that one."""
        pid, status = self.pid(port.unit), self.show(port.unit, "StatusText")
        return pid not in (0, not_pid) and "8N1" in status, f"main process {pid}, was {not_pid or 'any'}; status {status!r}"

    # The STATUS of the ports, polled.

    def watch(self):
        units = [port.unit for port in self.ports]
        weighed = time.monotonic()
        while not self.over.wait(1.5):
            self.look(units)
            if time.monotonic() > weighed + 10:
                weighed = time.monotonic()
                self.weights.append([measure.weigh(port.pid)["pss"] for port in self.ports[:SPARED]])

    def look(self, units=None):
        units = units or [port.unit for port in self.ports]
        said = self.run("systemctl", "show", "--property=Id,MainPID,StatusText", *units)[1]
        for block in said.split("\n\n"):
            fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            if port := self.by_name.get(fields.get("Id", "")[len("console@") : -len(".service")]):
                port.pid, port.status = int(fields["MainPID"]), fields["StatusText"]
                if "attached" not in port.status:
                    continue  # a process without any output yet
                words = port.status.split(", ")
                lost = next((int(word.split()[0]) for word in words if " lost by the log" in word), 0)
                if lost != port.lost:
                    self.note(f"{port.name}, process {port.pid}: lost {port.lost} → {lost}")
                if lost < port.lost:
                    # A process that has left has taken its count along.
                    port.lost_before += port.lost
                port.lost = lost

    # The beginning.

    def configure(self):
        os.makedirs(LAB, exist_ok=True)
        lines = ["[server]", 'listen = ["127.0.0.1"]', f'monitor = "{LAB}"', "[defaults]", "baud = 115200"]
        for port in self.ports:
            kind = "raw" if port.kind == "raw" else "text"
            lines += [f"[ports.{port.name}]", f"ssh_port = {port.tcp}", f'scrollback = "{port.scrollback}"']
            lines += [f'log = {{ type = "{kind}", sync = "1s" }}', f'write = "{"shared" if port.shared else "one"}"']
        with open("/etc/consoleserver/config.toml", "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        directory = f"/run/systemd/system/console@{CROWDED}.service.d"
        os.makedirs(directory)
        with open(f"{directory}/few.conf", "w", encoding="utf-8") as file:
            file.write(f"[Service]\nLimitNOFILE={FEW_DESCRIPTORS}\n")
        self.must("systemctl", "daemon-reload")
        self.must("systemctl", "restart", "consoleserver.target")

    def plug_all(self):
        for port in self.ports:
            self.players[port.name] = Player(port, self.seed)
            self.players[port.name].ask("plug")
        for port in self.ports:
            self.wait(60, "the beginning", port.name, "an open line", lambda port=port: self.is_open(port))
            self.players[port.name].ask("free")
