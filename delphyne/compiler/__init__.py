# SPDX-License-Identifier: Apache-2.0
"""Typed Python to AArch64: `front` reads Python and hands a typed tree (`tree`) to `back`, which writes LLVM IR and the image."""
