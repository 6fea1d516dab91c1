"""Plant bugs with mutmut, in all of the chosen modules or in a sample, and count what survives.

`make mutate` runs it; docs/testing.md says how to read it. The same seed draws the same sample.

    python scripts/mutants.py                                # all, hours
    python scripts/mutants.py --share 0.1                    # a tenth of each module's
    python scripts/mutants.py 'spurious.figures.map_posteriors.*'   # one module, minutes
"""

from __future__ import annotations

import argparse
import fnmatch
import math
import random
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from scipy.stats import binomtest

COLUMNS = ("killed", "survived", "timeout", "no tests", "not checked")
LINE = re.compile(r"\s*(?P<mutant>(?P<module>[\w.]+)\.x[_ǁ]\S+): (?P<status>[\w ]+)")
MUTMUT = (sys.executable, "-m", "mutmut")
AT_ONCE = 400  # names in one command line


def main() -> None:
    """Plant, test, print every mutant that survived and a line of counts a module."""
    asked = _arguments()
    if not (known := _results(asked.patterns)):
        # mutmut makes all mutants before it looks at which are asked for.
        _run(["spurious.damage.*_1"])
        known = _results(asked.patterns)
    chosen = sample(known, asked.share, asked.seed)
    print(f"seed {asked.seed}: {len(chosen)} of {sum(map(len, known.values()))} mutants")
    _test(chosen)
    modules = picked(_results(asked.patterns), chosen)
    for mutants in modules.values():
        for name, status in mutants.items():
            if status == "survived":
                print(f"survived: {name}")
    print(table(modules))
    print("`mutmut show NAME` prints what was changed.")


def _test(chosen: Sequence[str]) -> None:
    """Test those without a result, again where mutmut was killed, as long as it gets further."""
    left = unchecked(_results(()), chosen)
    while left:
        _run(left[:AT_ONCE])
        before, left = left, unchecked(_results(()), chosen)
        if len(left) == len(before):
            print(f"mutmut gave no further result: {len(left)} are left")
            return


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("patterns", nargs="*", help="of mutants, such as 'spurious.damage.*'")
    parser.add_argument("--share", type=float, default=1.0, help="of each module's mutants")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    return parser.parse_args()


def _run(names: Sequence[str]) -> None:
    subprocess.run([*MUTMUT, "run", "--max-children", "1", *names])


def _results(patterns: Sequence[str]) -> dict[str, dict[str, str]]:
    command = [*MUTMUT, "results", "--all", "True"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    return found(done.stdout.splitlines(), patterns)


def found(lines: Iterable[str], patterns: Sequence[str] = ()) -> dict[str, dict[str, str]]:
    """Module -> mutant -> what became of it, from lines of `mutmut results`."""
    modules: dict[str, dict[str, str]] = defaultdict(dict)
    for match in filter(None, map(LINE.fullmatch, lines)):
        name = match["mutant"]
        if not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            modules[match["module"]][name] = match["status"]
    return dict(modules)


def picked(
    modules: Mapping[str, Mapping[str, str]], chosen: Iterable[str]
) -> dict[str, dict[str, str]]:
    """Of each module's mutants those that were chosen; an earlier run may have tested others."""
    wanted = set(chosen)
    found = {
        module: {name: status for name, status in mutants.items() if name in wanted}
        for module, mutants in modules.items()
    }
    return {module: mutants for module, mutants in found.items() if mutants}


def unchecked(modules: Mapping[str, Mapping[str, str]], chosen: Iterable[str]) -> list[str]:
    """Those of the chosen mutants that have no result yet, in their order."""
    status = {name: one for mutants in modules.values() for name, one in mutants.items()}
    return [name for name in chosen if status.get(name) == "not checked"]


def sample(modules: Mapping[str, Iterable[str]], share: float, seed: int) -> list[str]:
    """So large a share of each module's mutants, rounded up, drawn without replacement."""
    chosen: list[str] = []
    for module, mutants in sorted(modules.items()):
        names = sorted(mutants)
        draw = random.Random(f"{seed} {module}")
        chosen += draw.sample(names, math.ceil(share * len(names)))
    return chosen


def table(modules: Mapping[str, Mapping[str, str]]) -> str:
    """Counts of each module and of all, and the share of the tested mutants that survived.

    The share has its Wilson interval at 95 %, as if the tested ones were drawn at random.
    """
    counts = {name: Counter(mutants.values()) for name, mutants in modules.items()}
    counts["all"] = sum(counts.values(), Counter())
    width = max(map(len, counts))
    head = "".join(f"{column:>13s}" for column in COLUMNS)
    lines = [f"{'':{width}s}{head}{'survive':>25s}"]
    for name, count in counts.items():
        cells = "".join(f"{count[column]:13d}" for column in COLUMNS)
        lines.append(f"{name:{width}s}{cells}{_share(count):>25s}")
    return "\n".join(lines)


def _share(count: Mapping[str, int]) -> str:
    tested = count["killed"] + count["timeout"] + count["survived"]
    if not tested:
        return "-"
    interval = binomtest(count["survived"], tested).proportion_ci(method="wilson")
    return f"{count['survived'] / tested:.1%} [{interval.low:.1%}, {interval.high:.1%}]"


if __name__ == "__main__":
    main()
