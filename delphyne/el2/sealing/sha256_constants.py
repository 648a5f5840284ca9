# SPDX-License-Identifier: Apache-2.0
"""The constants of SHA-256 (FIPS 180-4), computed when the program is built. Read only; no lock."""

from __future__ import annotations

from typing import Final

from delphyne.lang import Array, constant, u32

PRIMES = [n for n in range(2, 312) if all(n % d for d in range(2, n))]
INITIAL: Final = constant(Array[u32, 8].of([int(p**0.5 % 1 * 2**32) for p in PRIMES[:8]]))
"""Section 5.3.3: the fractions of the square roots of the first eight primes."""
ROUNDS: Final = constant(Array[u32, 64].of([int(p ** (1 / 3) % 1 * 2**32) for p in PRIMES]))
"""Section 4.2.2: the fractions of the cube roots of the first sixty-four primes."""
