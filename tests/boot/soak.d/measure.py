"""What a process weighs: proportional memory without the ring, which fills as the device talks, and descriptors."""
import os


def weigh(pid):
    pss = ring = 0
    mapping = ""
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            first = line.split(None, 1)[0]
            if not first.endswith(":"):
                mapping = line
            elif first == "Pss:":
                kilobytes = int(line.split()[1])
                if "memfd:console-ring" in mapping:
                    ring += kilobytes
                else:
                    pss += kilobytes
    return {"pid": pid, "pss": pss, "ring": ring, "fds": len(os.listdir(f"/proc/{pid}/fd"))}


def named(name):
    """Process ids of the programs of that name."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as comm:
                if comm.read().strip() == name[:15]:
                    found.append(int(pid))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found
