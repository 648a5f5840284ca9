# SPDX-License-Identifier: Apache-2.0
"""`python -m delphyne.prove [NAME..] [--json] [--mutants]`."""

from __future__ import annotations

from delphyne.prove.command import main

raise SystemExit(main())
