# SPDX-License-Identifier: Apache-2.0
"""Who owns each frame of RAM, and the translation tables that say so to the processor.

`frames` is the table of owners; `pages` hands out the pages that translation tables are made of; `tables` is what the stages share, `stage1`
is EL2's own map, `stage2` those of the host and the guests; `flush` makes the processor forget; `invariants` says what always holds.

Locks, in the order in which they are taken: `frames.LOCK` (10), the lock that guards a `tables.Space` (20 to 29), `pages.LOCK` (30).
"""
