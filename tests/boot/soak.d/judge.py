"""Compares a port's log, rotated parts included, with the copy of its device's output (device.py).

What may be missing is what the log says itself (`N bytes lost here`; a raw log cannot say so, and what is missing is found and
counted), and, where a device was pulled out in the middle of a word, the last that it said, as much as a pty holds. Nothing may be
there twice, or be anything else.
"""
import bisect
import gzip
import mmap
import os
import re

ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|u\{[0-9a-f]+\}|[\\nr])")
LOST = re.compile(rb"(\d+) bytes lost here: ")
NAMED = {b"\\": b"\\", b"n": b"\n", b"r": b"\r"}
# Bytes that an unplug may lose: the line discipline's 4 KiB, and as much in the buffers before it.
CUT_MOST = 8192
# A raw log resumes somewhere behind a loss: the length that is searched for, and the largest distance.
NEEDLE = 24
GAP_MOST = 16 << 20


class Mismatch(Exception):
    """Where the log differs from the device's output."""

    def __init__(self, pos, where, expected, seen):
        super().__init__(pos, where, expected, seen)
        self.pos, self.where, self.expected, self.seen = pos, where, expected, seen


def unescape(text):
    def plain(match):
        code = match[1]
        if code in NAMED:
            return NAMED[code]
        return bytes([int(code[1:], 16)]) if code[:1] == b"x" else chr(int(code[2:-1], 16)).encode()

    return ESCAPE.sub(plain, text) if b"\\" in text else text


def parts(directory):
    """The log's files, the oldest first."""

    def age(name):
        number = name.removeprefix("console.log").strip(".").removesuffix(".gz")
        return int(number) if number else 0

    names = sorted((name for name in os.listdir(directory) if name.startswith("console.log")), key=age, reverse=True)
    return [os.path.join(directory, name) for name in names]


def opened(path):
    return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")


def records(directory):
    for path in parts(directory):
        with opened(path) as log:
            for number, line in enumerate(log, 1):
                where = f"{os.path.basename(path)}:{number}"
                stamp, mark, text = line[:29], line[30:32], line[32:-1]
                if not line.endswith(b"\n") or mark not in (b"< ", b"<+", b"# "):
                    raise Mismatch(0, where, b"a record", line[:200])
                yield where + " " + stamp.decode(), mark, text


class Walk:
    """A walk along the device's output."""

    def __init__(self, said, seams):
        self.said, self.seams = said, seams
        self.places = [place for place, _ in seams]
        self.pos = self.lost = self.cut = 0

    def to_cut(self, text):
        """Skips the bytes that an unplug has lost, if `text` continues behind them."""
        for place, how in self.seams[bisect.bisect_left(self.places, self.pos) :]:
            if place - self.pos > CUT_MOST:
                break
            # A port that exits does not write a CR whose LF has not arrived.
            most = CUT_MOST if how == "cut" else 0
            if place - self.pos <= most and self.said[place : place + len(text)] == text:
                self.cut += place - self.pos
                self.pos = place
                return True
        return False

    def over_cut_in_gap(self, start, needles):
        """Tries each length of an unplug's loss that lies within bytes lost by the log since `start`: only the text that follows shows where the loss ends."""
        if not any(how == "cut" and start <= place <= self.pos + CUT_MOST for place, how in self.seams):
            return
        found = [at for needle in needles if (at := self.said.find(needle, self.pos, self.pos + CUT_MOST + len(needle))) >= 0]
        if found:
            self.cut += min(found) - self.pos
            self.pos = min(found)

    def take(self, where, text):
        start = self.pos
        same = common(text, 0, self.said, start)
        if same == len(text):
            self.pos += same
            return
        # The next device's output continues a record that was cut, if the note between them was lost with a killed process. And
        # it may begin like the lost output: so equal bytes may belong to either.
        for taken in range(same, -1, -1):
            self.pos = start + taken
            if self.to_cut(text[taken:]):
                self.pos += len(text) - taken
                return
        raise Mismatch(start, where, bytes(self.said[start : start + max(80, len(text))]), text)

    def end_line(self, where, text, gap=0):
        """The end of the line that stands here; `text` comes after it, and after a gap. Of CR LF the LF may be in the gap."""
        ends = [end for end in (b"\r\n", b"\n", b"\r") if self.said[self.pos : self.pos + len(end)] == end]
        if ends:
            behind = [self.pos + len(end) + gap for end in ends]
            right = [end for end, at in zip(ends, behind) if self.said[at : at + len(text)] == text]
            self.pos += len((right or ends)[0])
            return
        text = b"" if gap else text
        if not self.to_cut(text):
            raise Mismatch(self.pos, where, bytes(self.said[self.pos : self.pos + 80]), b"(the line has ended) " + text)


def walk_text(walk, directory):
    before, gap = False, 0
    where = "nothing"
    rows = list(records(directory))
    for number, (where, mark, escaped) in enumerate(rows):
        if mark == b"# ":
            if found := LOST.match(escaped):
                gap += int(found[1])
            continue
        text = unescape(escaped)
        if before and mark == b"< ":
            # Skips losses, too: what follows shows whether the text continues here.
            walk.end_line(where, text, gap)
        start = walk.pos
        walk.pos += gap
        walk.lost += gap
        if gap:
            after = [unescape(words) for _, kind, words in rows[number + 1 : number + 3] if kind == b"< "]
            walk.over_cut_in_gap(start, [end.join([text, *after]) for end in (b"\r\n", b"\n")])
        gap = 0
        walk.take(where, text)
        before = True
    if before and walk.pos < len(walk.said):
        walk.end_line(where, b"")
    walk.pos += gap
    walk.lost += gap


def walk_raw(walk, directory):
    for path in parts(directory):
        with opened(path) as log:
            data = log.read()
        at = 0
        while at < len(data):
            same = common(data, at, walk.said, walk.pos)
            at += same
            walk.pos += same
            if at == len(data):
                break
            needle = data[at : at + NEEDLE]
            if walk.to_cut(needle):
                continue
            found = walk.said.find(needle, walk.pos, walk.pos + GAP_MOST)
            if found < 0:
                where = f"{os.path.basename(path)}, byte {at}"
                raise Mismatch(walk.pos, where, bytes(walk.said[walk.pos : walk.pos + 80]), data[at : at + 80])
            walk.lost += found - walk.pos
            walk.pos = found


def common(a, at, b, pos):
    """How many bytes are the same from there on."""
    same, step = 0, min(65536, len(a) - at)
    while step:
        one, other = a[at + same : at + same + step], b[pos + same : pos + same + step]
        if one and one == other:
            same += len(one)
        else:
            step //= 2
    return same


def read_seams(said_path):
    """Where the device was unplugged, by the number of bytes that it had written (device.py)."""
    try:
        with open(said_path.removesuffix(".said") + ".seams", encoding="ascii") as lines:
            return [(int(place), how) for place, how in (line.split() for line in lines)]
    except FileNotFoundError:
        return []


def judge(said_path, directory, raw):
    """How many bytes were written, the log reports as lost, and were cut off by unplugging. Raises Mismatch."""
    size = os.path.getsize(said_path)
    with open(said_path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as said:
        walk = Walk(said, read_seams(said_path))
        (walk_raw if raw else walk_text)(walk, directory)
        if walk.pos != size and not (walk.to_cut(b"") and walk.pos == size):
            raise Mismatch(walk.pos, "the end of the log", bytes(said[walk.pos : walk.pos + 80]), b"")
    return {"said": size, "lost": walk.lost, "cut": walk.cut}


def when(said_path, pos):
    """When (since the epoch) the device wrote what is at `pos`: between which two times."""
    before = after = None
    with open(said_path.removesuffix(".said") + ".when", encoding="ascii") as lines:
        for line in lines:
            time, said = line.split()
            if int(said) > pos:
                after = float(time)
                break
            before = float(time)
    return before, after
