# SPDX-License-Identifier: Apache-2.0
"""Measurements of the language and its tools. The C that compiled Python is compared with is in bench/ beside this package."""

from __future__ import annotations
