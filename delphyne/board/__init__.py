# SPDX-License-Identifier: Apache-2.0
"""QEMU machines, images, and how they are run."""
