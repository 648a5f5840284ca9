# SPDX-License-Identifier: Apache-2.0
"""The back end: a typed program to IR, objects, native code and the bootable image."""
