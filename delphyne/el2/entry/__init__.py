# SPDX-License-Identifier: Apache-2.0
"""First instructions, per-CPU start and exception dispatch."""
