"""Runs benchmarks: ``python -m tests.benchmarks [--quick] [NAME …]``, one line of JSON a figure."""

import argparse
from importlib import import_module

from tests.benchmarks import BENCHMARKS
from tests.benchmarks.measuring import progress


def main() -> None:
    """Reads the command line, runs the benchmarks and prints their figures as they come."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Prints one line of JSON for each figure; progress goes to standard error.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(BENCHMARKS)}; default all")
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that they run, not what is true")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {unknown[0]!r}: choose from {', '.join(BENCHMARKS)}")
    for name in options.names or BENCHMARKS:
        progress(name)
        for figure in import_module(f"tests.benchmarks.{name}").run(quick=options.quick):
            print(figure.to_json(), flush=True)


if __name__ == "__main__":
    main()
