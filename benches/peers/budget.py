"""What we want of ourselves, judged by the figures of one run."""

import math
import statistics

OURS, OPEN, SSHD = "consoleserver", "conserver", "sshd-picocom"


class Figures:
    def __init__(self, run):
        self.run = run

    def median(self, what, name, metric):
        """None where it was not measured."""
        figures = self.run["figures"].get(what, {}).get(name, {}).get(metric)
        return statistics.median(figures) if figures else None

    def exact_rate(self, name):
        """MB/s to one client with nothing lost."""
        lossless = self.median("flood", name, "lossless MB/s")
        return lossless if lossless is not None else self.median("flood", name, "watched MB/s") if self._exact(name) else 0.0

    def _exact(self, name):
        figures = self.run["figures"].get("flood", {}).get(name, {})
        return not any(figures.get("watched lost in log %", [1]) + figures.get("lost at client %", [1]))

    def best_encrypted_peer(self):
        rates = [
            self.exact_rate(name)
            for name, system in self.run["systems"].items()
            if system["encrypted"] and name != OURS and name in self.run["figures"].get("flood", {})
        ]
        return max((rate for rate in rates if rate is not None), default=None)


def times(factor, figure):
    return None if figure is None else factor * figure


def judge(run):
    """A line for each promise whose figures are there."""
    figures = Figures(run)

    def ours(what, metric):
        return figures.median(what, OURS, metric)

    idle, attached = ours("memory", "32 idle pss"), ours("memory", "32 attached pss")
    cpu = ours("flood", "watched CPU ms/MB")
    open_cpu = figures.median("flood", OPEN, "watched CPU ms/MB")
    echo, bare = ours("echo", "p50 µs"), figures.median("echo", "bare", "p50 µs")
    unwatched, watched = ours("paced", "unwatched % of a core"), ours("paced", "watched % of a core")
    rate = figures.exact_rate(OURS) if OURS in run["figures"].get("flood", {}) else None
    connect = ours("connect", "ms")
    # Kind, name, unit, our value, the limit, and whether the limit is a minimum.
    promises = [
        ("must", "32 ports idle", "MB", idle, 10, False),
        ("must", "32 ports, a client at each", "MB", attached, 14, False),
        ("must", "CPU with log and client: conserver's without encryption", "ms/MB", cpu, open_cpu, False),
        ("must", "rate to a client, nothing lost: above the best encrypted peer's", "MB/s", rate, figures.best_encrypted_peer(), True),
        ("must", "echo p50: below sshd + picocom's", "µs", echo, figures.median("echo", SSHD, "p50 µs"), False),
        ("must", "16 ports at 115200, log alone", "% of a core", unwatched, 3, False),
        ("must", "connect: sshd's", "ms", connect, figures.median("connect", SSHD, "ms"), False),
        ("goal", "32 ports idle", "MB", idle, 8, False),
        ("goal", "32 ports, a client at each", "MB", attached, 11, False),
        ("goal", "CPU with log and client: 0.8 of conserver's", "ms/MB", cpu, times(0.8, open_cpu), False),
        ("goal", "rate to a client, nothing lost: conserver's", "MB/s", rate, figures.exact_rate(OPEN) if open_cpu else None, True),
        ("goal", "echo p50: 1.5 times the bare loop", "µs", echo, times(1.5, bare), False),
        ("goal", "16 ports at 115200, log alone", "% of a core", unwatched, 2.5, False),
        ("goal", "16 ports at 115200, a client at each", "% of a core", watched, 6, False),
        ("goal", "connect", "ms", connect, 100, False),
    ]
    return [line(*promise) for promise in promises if promise[3] is not None and promise[4] is not None]


def line(rank, what, unit, ours, limit, at_least):
    met = ours >= limit if at_least else ours <= limit
    ratio = ours / limit if limit else math.inf
    return f"- {rank}, {'met' if met else '**missed**'}: {what}: {ours:.1f} of {limit:.1f} {unit} ({ratio:.2f})"
