# SPDX-License-Identifier: Apache-2.0
"""Export and import of pages, and the cryptography under them, in general registers and by the crypto extensions."""

from __future__ import annotations
