# SPDX-License-Identifier: Apache-2.0
"""The end of a boot that cannot go on: one line on the console that says what is wrong and what to do, then the machine is turned off.

No lock: only the boot CPU runs.
"""

from __future__ import annotations

from typing import Never

from delphyne.el2.arch import psci
from delphyne.el2.arch.err import Err
from delphyne.el2.control import log as recorder
from delphyne.el2.control import stop
from delphyne.lang import Level, View, log, u8


def refuse(why: View[u8]) -> Never:
    """A mistake that the words describe whole."""
    recorder.show_text(why)
    psci.system_off()
    stay()


def give_up(why: View[u8], error: Err) -> Never:
    """A failure of which more is known than words can say beforehand."""
    recorder.show_text(why)
    log(Level.ERROR, f"error {error}; EL2 does not start")
    psci.system_off()
    stay()


def stay() -> Never:
    """This CPU stops, with the machine on: nobody can turn it off."""
    stop.begin_stop()
    stop.stopped()
