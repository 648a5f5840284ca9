# SPDX-License-Identifier: Apache-2.0
"""The bare guest: typed Python at EL1 in a virtual machine of KVM, which causes each kind of exit, checks what came of it, and marks its beginning
and end for whoever counts instructions."""

from __future__ import annotations
