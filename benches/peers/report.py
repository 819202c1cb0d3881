#!/usr/bin/env python3
"""Prints the tables of a run, and beneath them the budget: report.py FIGURES.json"""

import json
import math
import statistics
import sys

import budget

SIZES = (1, 16, 32, 48)


def memory(state):
    return [(f"{size} {state} pss", f"{size} port{'s' if size > 1 else ''}", 1) for size in SIZES] + [
        (f"32 {state} private", "32, private", 1)
    ]


# Heading, measurement, columns: metric, heading, decimals.
TABLES = [
    ("Memory, MB (PSS): idle", "memory", memory("idle")),
    ("Memory, MB (PSS): a client at each port", "memory", memory("attached")),
    ("Memory, MB (PSS): idle, after 300 kB at each port", "memory", memory("idle full")),
    ("Memory, MB (PSS): a client at each port, after 300 kB", "memory", memory("attached full")),
    (
        "A flood: the log alone",
        "flood",
        [("alone CPU ms/MB", "CPU ms/MB", 1), ("alone MB/s", "MB/s", 1), ("alone lost in log %", "lost in log, %", 1)],
    ),
    (
        "A flood: log and one client",
        "flood",
        [
            ("watched CPU ms/MB", "CPU ms/MB", 1),
            ("watched MB/s", "MB/s", 1),
            ("watched lost in log %", "lost in log, %", 1),
            ("lost at client %", "lost at client, %", 1),
            ("lossless MB/s", "without loss up to, MB/s", 1),
        ],
    ),
    ("Echo of a key, µs", "echo", [("p50 µs", "p50", 0), ("p99 µs", "p99", 0)]),
    ("Device to log, ms", "latency", [("p50 ms", "p50", 2), ("p95 ms", "p95", 2)]),
    ("Connect, until the device answers, ms", "connect", [("ms", "ms", 0)]),
    (
        "16 ports at 115200 baud, % of a core",
        "paced",
        [("unwatched % of a core", "log alone", 1), ("watched % of a core", "a client at each", 1)],
    ),
    (
        "A client that stops reading, 50 MB",
        "slow",
        [
            ("MB read of the port", "MB read in 8 s", 1),
            ("lost in log %", "of these lost in log, %", 1),
            ("lost at the other %", "lost at the other client, %", 1),
            ("memory MB more", "memory grows by, MB", 1),
        ],
    ),
    ("`kill -9` at 11.5 kB/s", "kill", [("bytes lost", "bytes lost", 0)]),
    ("Unplugged, back after 1 s", "replug", [("back after s", "its words are back after, s", 1), ("session kept", "session kept", 0)]),
]


def number(figure, decimals):
    if math.isinf(figure):
        return "never"
    if figure == 0:
        return "0"
    least = 10**-decimals
    return f"<{least:.{decimals}f}" if 0 < figure < least / 2 else f"{figure:.{decimals}f}"


def cell(figures, decimals):
    """Median (least–most)."""
    if not figures:
        return "–"
    middle, least, most = (number(pick(figures), decimals) for pick in (statistics.median, min, max))
    return middle if least == most else f"{middle} ({least}–{most})"


def table(run, what, columns):
    figures = run["figures"].get(what, {})
    columns = [column for column in columns if any(column[0] in of for of in figures.values())]
    if not columns:
        return
    print(f"| | {' | '.join(heading for _, heading, _ in columns)} |")
    print(f"|---|{'---|' * len(columns)}")
    order = [name for name in [*run["systems"], "bare"] if name in figures]
    for name in order:
        title = run["systems"][name]["title"] if name in run["systems"] else "*the bare loop*"
        if name == "consoleserver":
            title = f"**{title}**"
        print(f"| {title} | {' | '.join(cell(figures[name].get(metric, []), decimals) for metric, _, decimals in columns)} |")


def main(path):
    with open(path) as file:
        run = json.load(file)
    machine = run["machine"]
    print(f"# Console servers side by side, {run['began']}\n")
    print(f"{machine['cores']} cores of {machine['cpu']}, Linux {machine['kernel']}, a trixie in a container; {machine['ssh client']}. ", end="")
    print(f"Load of the machine in the meantime: {min(run['load']):.1f} to {max(run['load']):.1f}. {sum(run['seconds'].values()) / 60:.0f} minutes.\n")
    print("Medians, and the range in brackets. `benches/peers/README.md` says how each is measured, how each system is configured, and how to")
    print("read this: the ratios in a run say more than its figures.\n")
    for each in run["systems"].values():
        print(f"- {each['title']}: {each['versions']}")
    for heading, what, columns in TABLES:
        if what in run["what"]:
            print(f"\n## {heading}\n")
            table(run, what, columns)
    if run["notes"]:
        print("\n## What did not work\n")
        for name, notes in run["notes"].items():
            for note in notes:
                print(f"- {name}: {note}")
    if lines := budget.judge(run):
        print("\n## The budget\n")
        print("\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1])
