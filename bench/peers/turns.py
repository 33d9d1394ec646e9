"""The measurement: systems in turn, and only turns in which nobody else used the machine."""

import os
import statistics
import sys
import time
from pathlib import Path

QUIET = 0.05  # a turn during which others used more of the machine is tried again
PAUSE = 0.3  # seconds before a turn, in which the threads of the one before go to sleep


class Load:
    """How much of the processors others used meanwhile, from /proc/stat."""

    def __init__(self):
        self.start = self.read()

    @staticmethod
    def read():
        """(busy seconds of the machine, our own, seconds of all processors together)."""
        fields = [int(f) for f in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
        tick = os.sysconf("SC_CLK_TCK")
        return (sum(fields) - fields[3] - fields[4]) / tick, sum(os.times()[:4]), sum(fields) / tick

    def others(self):
        """The share of all processors, 0 to 1, that was busy with something else."""
        busy, own, total = (now - then for now, then in zip(self.read(), self.start))
        return max(0.0, busy - own) / max(total, 1e-9)


def await_quiet(patience):
    """Wait until nobody else uses the machine, at most `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        load = Load()
        time.sleep(PAUSE)
        if load.others() < QUIET or time.monotonic() > end:
            return


def quiet_turn(system, case, runs, patience, tries):
    """(milliseconds, others' load) of the quietest of a few turns; one turn if nobody disturbs it."""
    best = None
    for _ in range(tries):
        await_quiet(patience)
        load = Load()
        turn = system.turn(case, runs), load.others()
        if best is None or turn[1] < best[1]:
            best = turn
        if best[1] < QUIET:
            break
    return best


def runs_for(budget, case, own, all_turns):
    """How many runs fill `budget` seconds: 3 to 30, from the system's turns or everybody's so far."""
    so_far = [ms for turn in own or all_turns for ms in turn["ms"]]
    estimate = statistics.median(so_far) if so_far else sum(case.lengths) / 4
    return int(min(30, max(3, budget * 1e3 / estimate)))


def measure(found, cases, rounds, budget, patience, tries):
    """The systems in turn: {case: {system's key: [{"ms": [...], "others": load} of each turn]}}."""
    turns = {case.name: {system.key: [] for system in found} for case in cases}
    for round_number in range(rounds):
        # Another one begins in each round, so that nobody always follows the same one.
        shift = round_number % len(found)
        for case in cases:
            taken = turns[case.name]
            for system in found[shift:] + found[:shift]:
                everybody = [turn for of_system in taken.values() for turn in of_system]
                runs = runs_for(budget, case, taken[system.key], everybody)
                ms, load = quiet_turn(system, case, runs, patience, tries)
                taken[system.key].append({"ms": [round(t, 3) for t in ms], "others": round(load, 3)})
                told = f"{statistics.median(ms):.2f} ms, others used {load:.0%} of the processors"
                print(f"round {round_number + 1}, {case.name}, {system.key}: {told}", file=sys.stderr)
    return turns


def quiet(turns):
    """The turns nobody disturbed, or the least disturbed one if there are none."""
    undisturbed = [turn for turn in turns if turn["others"] < QUIET]
    return undisturbed or [min(turns, key=lambda turn: turn["others"])]
