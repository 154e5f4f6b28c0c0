"""Attack servers, and see whether honest clients notice: `make chaos`, or `python -m tests.chaos [-k WORD]`.

Each attack has a server of its own, started as a user starts one. The attacks come from the contract and from what is
known of attacks on servers, not from what this one is known to survive. The exit code is 1 if a bound did not hold.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.chaos.attack import Attack
from tests.chaos.attacker import on_one_processor
from tests.chaos.attacks import ATTACKS
from tests.chaos.report import printed, record, section
from tests.chaos.trial import ROOT, Result, Terms, try_attack

RESULTS = ROOT / "tests" / "benchmarks" / "RESULTS.md"


def main() -> None:
    """Run the attacks that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument(
        "-k", metavar="WORD", action="append", help="attacks with a word in their name; may be repeated"
    )
    parser.add_argument("--seconds", type=float, default=Terms().seconds, help="how long an attack lasts (4)")
    parser.add_argument("--same-address", action="store_true", help="honest clients have the attacker's own address")
    parser.add_argument("--write", action="store_true", help=f"record the results in {RESULTS.name}")
    parser.add_argument("--list", action="store_true", help="print the attacks and their bounds")
    options = parser.parse_args()
    chosen = [each for each in ATTACKS.values() if not options.k or any(word in each.name for word in options.k)]
    if options.list:
        print("\n".join(f"{each.name}: {each.summary} {each.bounds}" for each in chosen))
        return
    # First, for where it fails the others say little.
    chosen.sort(key=lambda each: each.name != "calm")
    if not chosen:
        parser.error(f"no attack has {' or '.join(options.k)} in its name; --list shows all")
    on_one_processor()
    terms = Terms(options.seconds, options.same_address)
    print(f"{len(chosen)} attacks; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", flush=True)
    results = [_tried(each, terms) for each in chosen]
    failed = [result.attack.name for result in results if result.failures()]
    print(
        f"{len(results) - len(failed)} of {len(results)} passed" + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    if "calm" in failed:
        print("calm failed, without an attack: the machine is too busy for times to mean anything")
    if options.write:
        record(RESULTS, section(results))
    sys.exit(bool(failed))


def _tried(attack: Attack, terms: Terms) -> Result:
    with tempfile.TemporaryDirectory(prefix="pullback-chaos-") as folder:
        result = try_attack(attack, Path(folder), terms)
    print(printed(result), flush=True)
    return result


if __name__ == "__main__":
    main()
