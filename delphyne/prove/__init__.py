# SPDX-License-Identifier: Apache-2.0
"""The third way to run EL2's files: on symbolic values, under an SMT solver.

`run` proves the theorems of `delphyne.prove.theorems` and reports them; `engine` re-executes a function along each of its paths;
`symbolic` holds the integers, `memory` the tables of unknown content, `trace` the order of stores, barriers and TLB operations;
`mutants` changes the source and asks whether a theorem notices.
"""

from __future__ import annotations

from delphyne.prove.command import run

__all__ = ["run"]
