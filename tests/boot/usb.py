#!/usr/bin/env python3
"""Plugs USB serial adapters (FTDI, as QEMU's usb-serial emulates them) into a VM and pulls them out again.

usage: usb.py QMP-SOCKET FAR-DIR plug SERIAL[=NUMBER][@PORT]…    without PORT: the lowest free one
       usb.py QMP-SOCKET FAR-DIR unplug SERIAL…
       usb.py QMP-SOCKET FAR-DIR swap SERIAL SERIAL
       usb.py QMP-SOCKET FAR-DIR list                   a line "PORT SERIAL" each

SERIAL is also what an adapter is called here; with NUMBER it has that one for a serial number, as clones do that have
another's. PORT is 1 to 45: three controllers of 15. The far end of an adapter's line is the unix socket FAR-DIR/SERIAL, on
which QEMU listens while the adapter is plugged in. An adapter's device id, p17-SERIAL, says where it is plugged:
QEMU is the only place where that is kept.
"""
import os
import re
import sys

from qmp import Qmp, QmpError

PORTS_A_CONTROLLER = 15
PORTS = range(1, 3 * PORTS_A_CONTROLLER + 1)


def plugged(qmp):
    """Serial number -> port."""
    ids = (item["name"] for item in qmp.run("qom-list", path="/machine/peripheral"))
    found = (re.fullmatch(r"p(\d+)-(.+)", name) for name in ids)
    return {match[2]: int(match[1]) for match in found if match}


def plug(qmp, far, serial, number, port):
    controller, place = divmod(port - 1, PORTS_A_CONTROLLER)
    address = {"type": "unix", "data": {"path": os.path.join(far, serial)}}
    backend = {"type": "socket", "data": {"addr": address, "server": True, "wait": False}}
    qmp.run("chardev-add", id=f"far-{serial}", backend=backend)
    qmp.run(
        "device_add",
        driver="usb-serial",
        id=f"p{port}-{serial}",
        chardev=f"far-{serial}",
        serial=number,
        bus=f"x{controller}.0",
        port=str(place + 1),
        **{"always-plugged": True},
    )


def unplug(qmp, far, serial, port):
    device = f"p{port}-{serial}"
    qmp.run("device_del", id=device)
    qmp.wait_event(lambda e: e["event"] == "DEVICE_DELETED" and e["data"].get("device") == device)
    qmp.run("chardev-remove", id=f"far-{serial}")
    try:
        os.unlink(os.path.join(far, serial))
    except FileNotFoundError:
        pass  # QEMU took it along


def place_of(adapters, serial):
    if serial not in adapters:
        raise QmpError(f"no adapter {serial} is plugged in; there are: {' '.join(sorted(adapters)) or 'none'}")
    return adapters[serial]


def parse(word, taken):
    """"SERIAL[=NUMBER][@PORT]" -> serial, number, port."""
    match = re.fullmatch(r"([A-Za-z0-9]{1,20})(?:=([A-Za-z0-9]{1,20}))?(?:@(\d+))?", word)
    if not match:
        raise QmpError(f"{word!r}: an adapter is SERIAL[=NUMBER][@PORT], the serial number of A-Z a-z 0-9")
    serial, number, port = match[1], match[2] or match[1], int(match[3]) if match[3] else None
    if serial in taken:
        raise QmpError(f"adapter {serial} is already plugged in, at port {taken[serial]}")
    if port is None:
        port = next((p for p in PORTS if p not in taken.values()), None)
        if port is None:
            raise QmpError("all 45 ports are taken")
    elif port not in PORTS:
        raise QmpError(f"port {port} does not exist: use 1 to 45")
    elif port in taken.values():
        raise QmpError(f"port {port} is taken")
    return serial, number, port


def main(socket, far, verb, *words):
    qmp = Qmp(socket)
    adapters = plugged(qmp)
    if verb == "plug" and words:
        wanted = []
        for word in words:  # all checked before the first is plugged in
            serial, number, port = parse(word, adapters)
            adapters[serial] = port
            wanted.append((serial, number, port))
        for serial, number, port in wanted:
            plug(qmp, far, serial, number, port)
    elif verb == "unplug" and words:
        places = [(serial, place_of(adapters, serial)) for serial in words]
        for serial, port in places:
            unplug(qmp, far, serial, port)
    elif verb == "swap" and len(words) == 2:
        (one, two), (here, there) = words, [place_of(adapters, serial) for serial in words]
        unplug(qmp, far, one, here)
        unplug(qmp, far, two, there)
        plug(qmp, far, one, one, there)
        plug(qmp, far, two, two, here)
    elif verb == "list" and not words:
        for serial, port in sorted(adapters.items(), key=lambda item: item[1]):
            print(port, serial)
    else:
        print(__doc__, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    try:
        main(*sys.argv[1:])
    except (QmpError, OSError) as error:
        sys.exit(f"usb.py: {error}")
