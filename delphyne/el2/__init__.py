# SPDX-License-Identifier: Apache-2.0
"""The hypervisor: typed Python that is compiled for EL2, and one assembly file."""
