# SPDX-License-Identifier: Apache-2.0
"""`python -m delphyne.compiler.front FILE...`: check, and say what is wrong."""

from __future__ import annotations

import sys

from delphyne.compiler.front import check_paths


def main(arguments: list[str]) -> int:
    """Prints the diagnostics of the files; 0 where there are none."""
    found = check_paths(arguments)
    for diagnostic in found:
        print(diagnostic.render(sys.stdout.isatty()))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
