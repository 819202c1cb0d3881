"""What is measured, in the order of the tables; each has `run(systems, book)`."""

import importlib

NAMES = ["memory", "flood", "echo", "latency", "connect", "paced", "slow", "kill", "replug"]


def module(name):
    return importlib.import_module(f"measure.{name}")
