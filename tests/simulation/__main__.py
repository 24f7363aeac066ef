"""``make simulate``: many seeds, or one again; see ``docs/explanation/simulation.md``."""
# ruff: noqa: T201

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from contextlib import nullcontext

from tests.simulation.many import live_through
from tests.simulation.mutations import MUTATIONS, planted
from tests.simulation.world import Result, Simulator

#: The trace's tail that is shown of a seed that failed.
TAIL = 60
#: A planted bug must be found by one of so many seeds.
BOUND = 200

LOST = frozenset({"lost", "stuck", "not_fired"})
TWICE = frozenset(
    {"ended_twice", "token_twice", "overlap", "fired_twice", "claimed_twice", "key_twice"}
    | {"unfenced", "done_unstarted"}
)


def main() -> int:
    """Exit status 1 when a promise was broken, or a planted bug not found."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many (200)")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first (0)")
    parser.add_argument("--seed", type=int, help="just this one, with its whole trace")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--mutations", action="store_true", help="plant bugs, and find them")
    parser.add_argument("--plant", choices=MUTATIONS, help="one bug; in one process")
    parser.add_argument("--fingerprints", action="store_true", help="a hash of each history")
    asked = parser.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of a set of texts is a part of the history.
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "tests.simulation", *sys.argv[1:]])
    if asked.mutations:
        return find_planted()
    with planted(asked.plant) if asked.plant else nullcontext():
        if asked.seed is not None:
            return replay(asked.seed)
        seeds = range(asked.first, asked.first + asked.seeds)
        return run(seeds, 1 if asked.plant else asked.processes, asked.fingerprints)


def run(seeds: range, processes: int, fingerprints: bool) -> int:
    """Live through all of them and sum up."""
    count: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    failed, virtual, steps = [], 0.0, 0
    for result in live_through(seeds, processes, tail=TAIL):
        count += result.count
        faults += result.faults
        virtual += result.seconds
        steps += result.steps
        verdicts.update(found.verdict for found in result.violations)
        if fingerprints:
            print(result.seed, result.fingerprint)
        if result.violations:
            failed.append(result.seed)
            show(result)
    print(f"{len(seeds)} seeds, {virtual:,.0f} s of virtual time, {steps:,} turns")
    print("faults injected: " + (_words(faults) or "none"))
    print(_words(count))
    lost = sum(n for verdict, n in verdicts.items() if verdict in LOST)
    twice = sum(n for verdict, n in verdicts.items() if verdict in TWICE)
    print(f"lost = {lost}, twice = {twice}, other = {verdicts.total() - lost - twice}")
    if failed:
        print(f"{len(failed)} seeds failed: {', '.join(map(str, failed[:20]))}")
    return 1 if failed else 0


def show(result: Result) -> None:
    """What is wrong with it, how it ended, and how to see it again."""
    print(f"\nseed {result.seed} broke {len(result.violations)} promises:")
    for found in result.violations[:10]:
        print(f"  {found.verdict}: {found.subject}: {found.detail}")
    print("the end of its trace:")
    print("\n".join("  " + line for line in result.trace[-TAIL:]))
    print(f"replay it with: make simulate SEED={result.seed}\n", flush=True)


def replay(seed: int) -> int:
    """One seed, told from its beginning."""
    result = Simulator().live(seed)
    print("\n".join(result.trace))
    print(f"\nfingerprint {result.fingerprint}")
    print("faults: " + (_words(result.faults) or "none"))
    print(_words(result.count))
    for found in result.violations:
        print(f"BROKEN {found.verdict}: {found.subject}: {found.detail}")
    return 1 if result.violations else 0


def find_planted() -> int:
    """Each planted bug, and the first seed that finds it."""
    simulator = Simulator()
    missed = 0
    for name in MUTATIONS:
        with planted(name):
            lives = map(simulator.live, range(BOUND))
            found = next((life for life in lives if life.violations), None)
        if found is None:
            missed += 1
            print(f"{name}: NOT FOUND by {BOUND} seeds")
        else:
            first = found.violations[0]
            print(f"{name}: found by seed {found.seed}: {first.verdict}")
    return 1 if missed else 0


def _words(count: Counter[str]) -> str:
    return ", ".join(f"{what} {n:,}" for what, n in sorted(count.items()))


if __name__ == "__main__":
    sys.exit(main())
