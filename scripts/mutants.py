"""What the mutation tester found: every mutant that survived, and a line of counts a module.

`make mutate` runs it after `mutmut run`; docs/testing.md says how to read it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

COLUMNS = ("killed", "survived", "timeout", "no tests", "not checked")
LINE = re.compile(r"\s*(?P<mutant>(?P<module>[\w.]+)\.x[_ǁ]\S+): (?P<status>[\w ]+)")


def found(lines: Iterable[str]) -> dict[str, dict[str, str]]:
    """Module -> mutant -> what became of it, from lines of `mutmut results`."""
    modules: dict[str, dict[str, str]] = defaultdict(dict)
    for match in filter(None, map(LINE.fullmatch, lines)):
        modules[match["module"]][match["mutant"]] = match["status"]
    return dict(modules)


def table(modules: Mapping[str, Mapping[str, str]]) -> str:
    """Counts of each module and of all, and the share of the tested mutants that survived."""
    counts = {name: Counter(mutants.values()) for name, mutants in modules.items()}
    counts["all"] = sum(counts.values(), Counter())
    width = max(map(len, counts))
    lines = [" " * width + "".join(f"{column:>13s}" for column in (*COLUMNS, "survive"))]
    for name, count in counts.items():
        tested = count["killed"] + count["timeout"] + count["survived"]
        share = f"{count['survived'] / tested:.1%}" if tested else "-"
        cells = "".join(f"{count[column]:13d}" for column in COLUMNS)
        lines.append(f"{name:{width}s}{cells}{share:>13s}")
    return "\n".join(lines)


def main() -> None:
    """Ask mutmut in the current folder, and print both."""
    command = [sys.executable, "-m", "mutmut", "results", "--all", "True"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    modules = found(done.stdout.splitlines())
    for mutants in modules.values():
        for name, status in mutants.items():
            if status == "survived":
                print(f"survived: {name}")
    print(table(modules))
    print("`mutmut show NAME` prints what was changed.")


if __name__ == "__main__":
    main()
