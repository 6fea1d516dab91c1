"""Make the reference sample: maps by FlowPM itself, with the right cosmology, at twelve nodes.

The stage `verify` reproduces them with the fast engine. Takes about two minutes on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from spurious import config
from spurious.data.hdf5 import write_maps
from spurious.simulation.verify import make_reference


def main() -> None:
    """Parse the command line, make the sample, write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("data/reference/flowpm.h5"))
    parser.add_argument("--seed", type=int, default=20221121, help="root of the white-noise seeds")
    arguments = parser.parse_args()
    settings = config.Simulation(engine="flowpm")
    write_maps(arguments.output, make_reference(settings, config.Background(), arguments.seed))
    print(f"wrote {arguments.output}")


if __name__ == "__main__":
    main()
