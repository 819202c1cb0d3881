"""What was measured, as it comes in."""

import contextlib
import sys
import traceback

from system import Failure

# A system that has failed this often in one measurement is skipped for the rest of it.
TRIES = 2


class Book:
    def __init__(self, most_rounds):
        self.most_rounds = most_rounds
        self.figures = {}  # what → system → metric → figures
        self.notes = {}  # system → sentences
        self.failures = {}

    def rounds(self, wanted):
        return range(min(wanted, self.most_rounds or wanted))

    def add(self, what, system, metric, figure):
        self.figures.setdefault(what, {}).setdefault(system.name, {}).setdefault(metric, []).append(figure)

    def values(self, what, system, metric):
        return self.figures.get(what, {}).get(system.name, {}).get(metric, [])

    def note(self, system, text):
        notes = self.notes.setdefault(system.name, [])
        if text not in notes:
            notes.append(text)
            print(f"  {system.name}: {text}", file=sys.stderr)

    def able(self, systems, what):
        return [system for system in systems if self.failures.get((system.name, what), 0) < TRIES]

    @contextlib.contextmanager
    def at(self, system, what):
        """An error here fails this system only; the others continue."""
        try:
            yield
        except Failure as failure:
            self._failed(system, what, str(failure))
        except OSError as error:
            traceback.print_exc()
            self._failed(system, what, str(error))

    def _failed(self, system, what, why):
        self.failures[system.name, what] = self.failures.get((system.name, what), 0) + 1
        self.note(system, f"{what}: {why}")
