"""Tries in a port's place what a port must not do, and what it must. Prints and logs one JSON object: what → "" if it could
be done, else the system's refusal. The argument is the process of a sibling port."""
import ctypes
import json
import os
import signal
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)
SIBLING = int(sys.argv[1])
OWN = os.environ["LOGS_DIRECTORY"]
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
    with socket.create_connection(address, 5):
        pass


def bind(family, kind):
    with socket.socket(family, kind) as sock:
        sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))


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


def become_root():
    os.setresuid(0, 0, 0)


def new_namespace():
    check(libc.unshare(0x10000000))  # CLONE_NEWUSER


def writable_code():
    import mmap

    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def unix_socket(kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as sock:
        sock.connect("/run/consoleserver/auth-port")


MUST = {
    "write in its own log directory": lambda: write(f"{OWN}/x"),
    "open a serial tty": lambda: look("/dev/ttyUSB0", os.O_RDWR),
    "ask the login helper": unix_socket,
}
MUST_NOT = {
    "connect by IPv4": lambda: connect(("127.0.0.1", 9999)),
    "make an IPv6 socket": lambda: bind(socket.AF_INET6, socket.SOCK_STREAM),
    "make a UDP socket": lambda: bind(socket.AF_INET, socket.SOCK_DGRAM),
    "make a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close(),
    "make a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close(),
    "open /dev/net/tun": lambda: look("/dev/net/tun", os.O_RDWR),
    "write in a sibling's log directory": lambda: write("/var/log/consoleserver/ttyUSB1/x"),
    "read a sibling's log": lambda: look("/var/log/consoleserver/ttyUSB1/console.log"),
    "write in /tmp of the machine": lambda: append("/tmp/own/of-somebody"),
    "write in /var/tmp of the machine": lambda: append("/var/tmp/of-somebody"),
    "write in /run": lambda: write("/run/consoleserver/x"),
    "write in /etc": lambda: write("/etc/consoleserver/x"),
    "write in /var/lib": lambda: write("/var/lib/consoleserver/x"),
    "write in /dev/shm": lambda: write("/dev/shm/x"),
    "read the host keys' directory": lambda: os.listdir("/var/lib/consoleserver/hostkeys"),
    "read the journal": lambda: os.listdir("/var/log/journal"),
    "read /root": lambda: os.listdir("/root"),
    "read /home": lambda: look("/home/of-somebody"),
    "signal a sibling": lambda: os.kill(SIBLING, 0),
    "queue a signal to a sibling": lambda: check(libc.sigqueue(SIBLING, 0, ctypes.c_void_p(0))),
    "signal a sibling by pidfd": signal_by_pidfd,
    "trace a sibling": trace,
    "read a sibling's memory": read_memory,
    "read a sibling's memory by /proc": lambda: look(f"/proc/{SIBLING}/mem"),
    "take a sibling's descriptor": steal_descriptor,
    "see a sibling's descriptors": lambda: os.listdir(f"/proc/{SIBLING}/fd"),
    "read a sibling's environment": lambda: look(f"/proc/{SIBLING}/environ"),
    "make a setuid file": make_setuid,
    "become root": become_root,
    "make a user namespace": new_namespace,
    "make code at run time": writable_code,
    "run a program": lambda: run("/usr/bin/true"),
}


def attempt(act):
    try:
        act()
    except (OSError, AttributeError) as error:
        return str(error) or "refused"
    return ""


signal.signal(signal.SIGSYS, signal.SIG_DFL)
done = {kind: {what: attempt(act) for what, act in acts.items()} for kind, acts in (("must", MUST), ("must not", MUST_NOT))}
with open(f"{OWN}/probe", "w", encoding="utf-8") as log:
    json.dump(done, log)
print(json.dumps(done))
