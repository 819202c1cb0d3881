"""Tries, in place of a compromised program, what it must not and what it must be able to do: probe.py PLACE SIBLING. PLACE is one of those
below, SIBLING the process of a port. Prints one JSON object: what → "" if it could be done, else the system's refusal."""
import ctypes
import json
import os
import signal
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)
PLACE, SIBLING = sys.argv[1], int(sys.argv[2])


def log_directory():
    """What console-logs hands a port: a message, and one byte with the descriptor."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect("/run/consoleserver/logs")
        length = int.from_bytes(sock.recv(4, socket.MSG_WAITALL), "big")
        told = json.loads(sock.recv(length, socket.MSG_WAITALL))
        if "Directory" not in told:
            raise OSError(told["Unavailable"]["why"])
        _, descriptors, _, _ = socket.recv_fds(sock, 1, 1)
        return f"/proc/self/fd/{descriptors[0]}"


# Where the program may write: its unit's directory, a directory that it is handed, or a private /tmp.
HANDED = False
if PLACE == "port":
    try:
        OWN = log_directory()
        HANDED = True
    except OSError:
        # Outside of a port's unit nothing is handed over.
        OWN = "/var/log/consoleserver/ttyUSB1"
else:
    OWN = os.environ.get("STATE_DIRECTORY") if PLACE == "admin" else "/tmp"
OWN = OWN or "/tmp"
PTRACE_SEIZE = 0x4206
PIDFD_OPEN, PIDFD_SEND_SIGNAL, PIDFD_GETFD, PROCESS_VM_READV = 434, 424, 438, 310  # x86-64
if os.uname().machine == "aarch64":
    PROCESS_VM_READV = 270


def check(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def syscall(*words):
    return check(libc.syscall(*[ctypes.c_long(word) for word in words]))


def connect(address):
    with socket.create_connection(address, 2):
        pass


def bind(family, kind, port=0):
    with socket.socket(family, kind) as sock:
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", port))


def write(path):
    with open(path, "wb") as file:
        file.write(b"probe")
    os.remove(path)


def append(path):
    """A file that is there stays as it is."""
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))


def look(path, flags=os.O_RDONLY):
    os.close(os.open(path, flags | os.O_NOCTTY | os.O_NONBLOCK))


def read_memory():
    local = ctypes.create_string_buffer(16)
    with open(f"/proc/{SIBLING}/maps", encoding="ascii") as maps:
        start = int(maps.readline().split("-")[0], 16)
    # struct iovec: base, length
    here = (ctypes.c_size_t * 2)(ctypes.addressof(local), 16)
    there = (ctypes.c_size_t * 2)(start, 16)
    syscall(PROCESS_VM_READV, SIBLING, ctypes.addressof(here), 1, ctypes.addressof(there), 1, 0)


def steal_descriptor():
    pidfd = syscall(PIDFD_OPEN, SIBLING, 0)
    os.close(syscall(PIDFD_GETFD, pidfd, 0, 0))


def signal_by_pidfd():
    syscall(PIDFD_SEND_SIGNAL, syscall(PIDFD_OPEN, SIBLING, 0), 0, 0, 0)


def trace():
    check(libc.ptrace(ctypes.c_long(PTRACE_SEIZE), ctypes.c_long(SIBLING), None, None))


def make_setuid():
    path = f"{OWN}/setuid"
    try:
        with open(path, "wb"):
            pass
        os.chmod(path, 0o4755)
    finally:
        os.remove(path)


def run(path):
    os.waitpid(os.posix_spawn(path, [path], {}), 0)


def run_own():
    """A program that it has put into its own directory."""
    path = f"{OWN if HANDED else '/root'}/program"
    with open("/usr/bin/true", "rb") as program, open(path, "wb") as copy:
        copy.write(program.read())
    try:
        os.chmod(path, 0o755)
        run(path)
    finally:
        os.remove(path)


def become_root():
    os.setresuid(0, 0, 0)


def new_namespace():
    check(libc.unshare(0x10000000))  # CLONE_NEWUSER


def writable_code():
    import mmap

    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def unix_socket(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(path)


ACTS = {
    "write in its own directory": lambda: write(f"{OWN}/x"),
    "write the configuration": lambda: write("/etc/consoleserver/x"),
    "open a serial tty": lambda: look("/dev/ttyUSB0", os.O_RDWR),
    "ask the login helper of the ports": lambda: unix_socket("/run/consoleserver/auth-port"),
    "ask the login helper of the admin CLI": lambda: unix_socket("/run/consoleserver/auth-cli"),
    "see whether an address is free": lambda: bind(socket.AF_INET, socket.SOCK_STREAM),
    "call the bus": lambda: unix_socket("/run/dbus/system_bus_socket"),
    "read the passwords": lambda: look("/etc/shadow"),
    "become another user": lambda: os.seteuid(65534) or os.seteuid(0),
    "connect by IPv4": lambda: connect(("127.0.0.1", 9999)),
    "make an IPv6 socket": lambda: bind(socket.AF_INET6, socket.SOCK_STREAM),
    "make a UDP socket": lambda: bind(socket.AF_INET, socket.SOCK_DGRAM),
    "make a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close(),
    "make a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close(),
    "make a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close(),
    "listen where sshd does": lambda: bind(socket.AF_INET, socket.SOCK_STREAM, 22),
    "open /dev/net/tun": lambda: look("/dev/net/tun", os.O_RDWR),
    "write in a sibling's log directory": lambda: write("/var/log/consoleserver/ttyUSB1/x"),
    "read a sibling's log": lambda: look("/var/log/consoleserver/ttyUSB1/console.log"),
    "read a sibling's log by its own directory": lambda: look(f"{OWN}/../ttyUSB1/console.log"),
    "list a sibling's directory by its own": lambda: os.listdir(f"{OWN}/../ttyUSB1"),
    "write in /tmp of the machine": lambda: append("/tmp/own/of-another-user"),
    "write in /var/tmp of the machine": lambda: append("/var/tmp/of-another-user"),
    "write in /run": lambda: write("/run/consoleserver/x"),
    "write in /etc": lambda: write("/etc/x"),
    "write in /usr": lambda: write("/usr/lib/x"),
    "write in /var/lib": lambda: write("/var/lib/consoleserver/x"),
    "write in /dev/shm": lambda: write("/dev/shm/x"),
    "read the host keys' directory": lambda: os.listdir("/var/lib/consoleserver/hostkeys"),
    "read the journal": lambda: os.listdir("/var/log/journal"),
    "read /root": lambda: os.listdir("/root"),
    "read /home": lambda: look("/home/of-another-user"),
    "signal a sibling": lambda: os.kill(SIBLING, 0),
    "queue a signal to a sibling": lambda: check(libc.sigqueue(SIBLING, 0, ctypes.c_void_p(0))),
    "signal a sibling by pidfd": signal_by_pidfd,
    "trace a sibling": trace,
    "read a sibling's memory": read_memory,
    "read a sibling's memory by /proc": lambda: look(f"/proc/{SIBLING}/mem"),
    "take a sibling's descriptor": steal_descriptor,
    "open a sibling's descriptor": lambda: look(f"/proc/{SIBLING}/fd/0"),
    "read a sibling's environment": lambda: look(f"/proc/{SIBLING}/environ"),
    "make a setuid file": make_setuid,
    "become root": become_root,
    "make a user namespace": new_namespace,
    "make code at run time": writable_code,
    "run a program": lambda: run("/usr/bin/true"),
    "run a program from its own directory": run_own,
}
if PLACE in ("port", "source"):
    ACTS["reach the source of a sibling"] = lambda: unix_socket("/run/consoleserver/source/ttyUSB1/socket")
if PLACE == "metrics":
    ACTS["reach the local socket of a port"] = lambda: unix_socket("/run/consoleserver/attach/ttyUSB1")
if PLACE == "source":
    ACTS["read the configuration"] = lambda: look("/etc/consoleserver/config.toml")
    ACTS["read the secret of another source"] = lambda: look("/run/credentials/console-source@ttyUSB1.service/password")
if PLACE != "port":
    del ACTS["run a program from its own directory"]
    del ACTS["read a sibling's log by its own directory"], ACTS["list a sibling's directory by its own"]
# What each sandbox must permit; and which of the rest it permits, as SECURITY.md states.
MUST = {
    "port": ["write in its own directory", "open a serial tty", "ask the login helper of the ports", "call the bus"],
    "cli": ["ask the login helper of the admin CLI"],
    "admin": ["write in its own directory", "write the configuration", "see whether an address is free", "call the bus"],
    "source": ["connect by IPv4"],
    "metrics": ["reach the local socket of a port", "call the bus"],
    "auth-port": ["read /home", "read the passwords", "become another user"],
    "auth-cli": ["read /home", "read the passwords", "become another user", "run a program"],
}
MAY = {
    "port": [],
    "cli": ["call the bus", "write in its own directory"],
    "metrics": ["write in its own directory"],
    # It connects to far ends, if configured by a program; its /tmp is private.
    "source": [
        "make an IPv6 socket", "make a UDP socket", "make a netlink socket", "see whether an address is free", "write in its own directory", "run a program",
    ],
    # Sockets to bind, not to send from; and it is asked for by the bus from wherever it looks.
    "admin": ["make an IPv6 socket", "make a UDP socket", "listen where sshd does"],
    # Root, but for what is left: every file, every user, and PAM's modules may ask their servers.
    "auth-port": [
        "ask the login helper of the ports", "ask the login helper of the admin CLI", "see whether an address is free",
        "call the bus", "connect by IPv4", "make an IPv6 socket", "make a UDP socket", "make a netlink socket",
        "write in a sibling's log directory", "read a sibling's log", "write in its own directory", "write in /run", "write in /var/lib", "write in /dev/shm",
        "read the host keys' directory", "read the journal", "read /root", "become root", "run a program",
    ],
}
# It hangs up the sessions that it has started; and the ttys of this test are ptys, which a session needs.
MAY["auth-cli"] = MAY["auth-port"] + ["signal a sibling", "queue a signal to a sibling", "signal a sibling by pidfd", "open a serial tty"]


def attempt(act):
    try:
        act()
    except (OSError, AttributeError) as error:
        return str(error) or "refused"
    return ""


signal.signal(signal.SIGSYS, signal.SIG_DFL)
must = MUST[PLACE]
must_not = [what for what in ACTS if what not in must + MAY[PLACE]]
print(json.dumps({kind: {what: attempt(ACTS[what]) for what in those} for kind, those in (("must", must), ("must not", must_not))}))
