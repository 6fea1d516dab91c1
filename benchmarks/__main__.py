"""Run benchmarks, print their tables, write benchmarks/results/*.json, figures and the page.

Run it on a machine that does nothing else: `make bench`. It is long; name those that you want.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import page

ROOT = Path(__file__).resolve().parents[1]
NAMES = (
    "simulation",
    "startup",
    "force",
    "floor",
    "resolution",
    "batch",
    "training",
    "step",
    "memory",
    "defences",
    "attacks",
    "suite",
    "search",
)


def main() -> None:
    """Parse the command line, run what it names, write what was found."""
    arguments = _arguments()
    temporary = tempfile.TemporaryDirectory()
    output = Path(temporary.name) if arguments.quick else ROOT / "benchmarks" / "results"
    output.mkdir(exist_ok=True)
    for number, name in enumerate(arguments.names, start=1):
        print(f"\n[{number}/{len(arguments.names)}] {name}", file=sys.stderr, flush=True)
        began = time.perf_counter()
        result = importlib.import_module(f"benchmarks.{name}").run(arguments.quick)
        text = json.dumps(result.as_json(), indent=2, default=float, allow_nan=False)
        (output / f"{name}.json").write_text(text + "\n")
        print(f"{result}\n({time.perf_counter() - began:.0f} s)\n", flush=True)
    if arguments.quick:
        print("--quick: all runs; its numbers and verdicts mean nothing")
    _publish(output, arguments.quick)
    temporary.cleanup()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    choices = "\n".join(f"  {name}: {_summary(name)}" for name in NAMES)
    parser.epilog = f"benchmarks:\n{choices}"
    parser.add_argument("names", nargs="*", metavar="name", help="default: all")
    parser.add_argument(
        "--quick", action="store_true", help="a tiny box, once, to see that all runs; keep nothing"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"{', '.join(sorted(unknown))}: must be one of {', '.join(NAMES)}")
    arguments.names = arguments.names or NAMES
    return arguments


def _summary(name: str) -> str:
    """First line of a benchmark's docstring, without importing what it needs."""
    first = (Path(__file__).parent / f"{name}.py").read_text().split("\n", 1)[0]
    return first.strip('"')


def _publish(output: Path, quick: bool) -> None:
    """Draw the figure, and put all results that are there into the page."""
    paths = {name: output / f"{name}.json" for name in NAMES}
    results = {name: json.loads(path.read_text()) for name, path in paths.items() if path.exists()}
    if "resolution" in results:
        from benchmarks import resolution

        folder = output if quick else ROOT / "docs" / "figures"
        resolution.figure(results["resolution"]).savefig(folder / resolution.FIGURE, dpi=150)
    if not quick:
        page.write(ROOT / "docs" / "performance.md", results)
        print("wrote benchmarks/results and docs/performance.md")


if __name__ == "__main__":
    main()
