# SPDX-License-Identifier: Apache-2.0
"""The kernel's side of the contract: what its image says of its structures and calls. The calls themselves come later."""
