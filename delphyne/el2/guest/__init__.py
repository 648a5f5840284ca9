# SPDX-License-Identifier: Apache-2.0
"""Virtual machines and their virtual CPUs: what EL2 keeps of each, and how each ends."""
