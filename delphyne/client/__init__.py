# SPDX-License-Identifier: Apache-2.0
"""What runs on the host. Standard library only, and little of that: hosts are small, and under emulation every import takes its time."""
