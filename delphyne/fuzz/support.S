// SPDX-License-Identifier: Apache-2.0
// What generated programs need of the bare machine besides the calls themselves.

        .section .text.fuzz, "ax"

        .globl  fuzz_begin
fuzz_begin:                                     // before each program: this CPU's data, which programs share, becomes zero
        mrs     x0, tpidr_el2
        add     x1, x0, #4096
1:      stp     xzr, xzr, [x0], #16
        cmp     x0, x1
        b.lo    1b
        ret

// One CPU: a lock is only counted, so that a trap that leaves one held stops nothing.
        .globl  lock_acquire
lock_acquire:                                   // x0: {u32 next; u32 owner}
        ldr     w1, [x0]
        add     w1, w1, #1
        str     w1, [x0]
        ret

        .globl  lock_release
lock_release:
        ldr     w1, [x0, #4]
        add     w1, w1, #1
        str     w1, [x0, #4]
        ret
