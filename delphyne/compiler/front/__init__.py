# SPDX-License-Identifier: Apache-2.0
"""From Python to the typed tree.

`compile_modules` imports modules in CPython, parses them again, checks every function that can be reached and gives a `tree.Program`, or
raises `Refused`. `check_paths` only gives the diagnostics.
"""

from __future__ import annotations

from delphyne.compiler.front.catalogue import explain
from delphyne.compiler.front.compilation import check, check_paths, compile_functions, compile_modules, compile_paths
from delphyne.compiler.front.diagnostics import Diagnostic, Refused

__all__ = ["Diagnostic", "Refused", "check", "check_paths", "compile_functions", "compile_modules", "compile_paths", "explain"]
