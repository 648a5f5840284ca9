# SPDX-License-Identifier: Apache-2.0
"""What a protected guest is told of workarounds: never that it is safe on a machine of which some CPU that may run it is not.

Functions are any 64 bits; which standings CPUs have noted is any 32 bits for each weakness.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import z3  # type: ignore[import-untyped]

from delphyne.el2.arch import mitigation
from delphyne.el2.guest import abi
from delphyne.el2.kvm import guest_features
from delphyne.prove.path import Formula, Term
from delphyne.prove.symbolic import term
from delphyne.prove.theorem import Given, theorem

VERSION, FEATURES, FIRST, SECOND, THIRD = 0x8000_0000, 0x8000_0001, 0x8000_8000, 0x8000_7FFF, 0x8000_3FFF
"""SMCCC_VERSION, ARCH_FEATURES, and ARCH_WORKAROUND_1 to 3 (Arm DEN0028)."""
MITIGATED, VULNERABLE = 1 << 1, 1 << 2
"""Bits of `mitigation.TARGETS` and `HISTORY`: some CPU has that standing."""
about = partial(theorem, trusts=("mitigation.note: each CPU that may run a guest has noted its standing",))


class Machine:
    """CPUs of any standings."""

    def __init__(self, given: Given) -> None:
        self.targets, self.history = given.u32("standings to Spectre-v2"), given.u32("standings to Spectre-BHB")
        given.replace(mitigation.TARGETS, self._noted(self.targets))
        given.replace(mitigation.HISTORY, self._noted(self.history))

    @staticmethod
    def _noted(bits: Any) -> Any:
        return SimpleNamespace(load=lambda order: bits)

    def has(self, function: Term, bits: int) -> Formula:
        """Whether some CPU has one of these standings to the weakness that the function is about."""
        return z3.Or(z3.And(function == FIRST, term(self.targets) & bits != 0), z3.And(function == THIRD, term(self.history) & bits != 0))


@about(guest_features.feature, guest_features._standing, outcomes=("success", "unaffected", "not supported"))
def feature(given: Given) -> None:
    """SUCCESS for the two calls that always are, and for a workaround that some CPU needs and every CPU has; UNAFFECTED only where no CPU needs it;
    for anything else, and where one CPU is helpless, NOT_SUPPORTED."""
    machine, asked = Machine(given), given.u64("function")
    answer = term(guest_features.feature(asked))
    function = z3.ZeroExt(32, z3.Extract(31, 0, term(asked)))
    always, offered = z3.Or(function == VERSION, function == FEATURES), z3.Or(function == FIRST, function == THIRD)
    helped = z3.And(offered, z3.Not(machine.has(function, VULNERABLE)))
    needed = machine.has(function, MITIGATED)
    given.require((answer == term(abi.SUCCESS)) == z3.Or(always, z3.And(helped, needed)), "may be called, and is needed")
    given.require((answer == term(abi.UNAFFECTED)) == z3.And(helped, z3.Not(needed)), "needed on no CPU")
    given.require((answer == term(abi.NOT_SUPPORTED)) == z3.Not(z3.Or(always, helped)), "else it is not there")
    given.require(z3.Implies(function == SECOND, answer == term(abi.NOT_SUPPORTED)), "the firmware's state is the host's")
    given.outcome("success" if given.holds(answer == 0) else "unaffected" if given.holds(answer == 1) else "not supported")


@about(guest_features.call, guest_features._standing, outcomes=("done", "not supported"))
def call(given: Given) -> None:
    """A call is done exactly if ARCH_FEATURES offers that workaround; on a machine with a helpless CPU, and of anything else, nothing is promised."""
    machine, function = Machine(given), given.u64("function")
    answer, asked = term(guest_features.call(function)), term(function)
    done = z3.And(z3.Or(asked == FIRST, asked == THIRD), z3.Not(machine.has(asked, VULNERABLE)))
    given.require((answer == term(abi.SUCCESS)) == done, "it is done")
    given.require((answer == term(abi.NOT_SUPPORTED)) == z3.Not(done), "or it is not there")
    given.outcome("done" if given.holds(answer == 0) else "not supported")
