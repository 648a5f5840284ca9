# SPDX-License-Identifier: Apache-2.0
"""Delphyne: a hypervisor for EL2 written in typed Python."""
