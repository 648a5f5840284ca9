# SPDX-License-Identifier: Apache-2.0
"""Stock kernel images on the developer's machine: what EL2 will find in them. Packages come through `delphyne.board.debian`."""
