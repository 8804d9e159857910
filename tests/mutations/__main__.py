"""Take guards away by hand: `python -m tests.mutations WORD...` runs those whose name holds a word, all without one.

With `--among PATH` these tests are asked instead of the named one: it tells which of them would notice.
"""

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tests.mutations.gate import AT_ONCE, Gate
from tests.mutations.listed import GUARDS
from tests.processes.services import throw_away_servers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--among", help="tests to ask instead of the named one")
    parser.add_argument("--no-control", action="store_true", help="trust that the tests pass with every guard in place")
    asked = parser.parse_args()
    guards = [guard for guard in GUARDS if not asked.words or any(word in guard.name for word in asked.words)]
    if asked.among:
        guards = [replace(guard, noticed_by=asked.among) for guard in guards]
    with tempfile.TemporaryDirectory(prefix="guards-") as folder, throw_away_servers(Path(folder) / "s") as servers:
        Path(folder).chmod(0o711)  # so that the servers' account can pass, when we are root
        gate = Gate(Path(folder) / "g", servers)
        try:
            wrong = {} if asked.no_control else gate.control(guards)
            for test, why in wrong.items():
                print(f"CONTROL {test}\n    {why[:600]}")
            with ThreadPoolExecutor(AT_ONCE) as pool:
                judged = [pool.submit(gate.judge, guard) for guard in guards]
                for future in judged:
                    result = future.result()
                    print(f"{'red' if result.red else 'SURVIVED':8} {result.seconds:5.1f} s  {result.name}")
                    print(f"    {result.why[:600]}", flush=True)
        finally:
            gate.close()
    red = sum(future.result().red for future in judged)
    print(f"{red} of {len(guards)} red")
    return 0 if red == len(guards) and not wrong else 1


if __name__ == "__main__":
    raise SystemExit(main())
