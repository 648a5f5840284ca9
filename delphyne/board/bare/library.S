// SPDX-License-Identifier: Apache-2.0
// What compilers call on their own, for images in which nothing else provides it: x0 destination, x1 source or byte, x2 count. And the mask of an
// index.

        .section .text.library, "ax"
        .weak   memcpy, memmove, memset, nospec
memmove:
        sub     x3, x0, x1
        cmp     x3, x2
        b.lo    3f                              // the destination begins inside the source: from the end
memcpy:
        mov     x3, x0
1:      subs    x2, x2, #16
        b.lo    2f
        ldp     x4, x5, [x1], #16
        stp     x4, x5, [x3], #16
        b       1b
2:      adds    x2, x2, #16
        b.eq    4f
5:      ldrb    w4, [x1], #1
        strb    w4, [x3], #1
        subs    x2, x2, #1
        b.ne    5b
4:      ret
3:      cbz     x2, 4b
6:      sub     x2, x2, #1
        ldrb    w4, [x1, x2]
        strb    w4, [x0, x2]
        cbnz    x2, 6b
        ret
memset:
        and     x1, x1, #0xff
        mov     x3, #0x0101010101010101
        mul     x1, x1, x3
        mov     x3, x0
1:      subs    x2, x2, #8
        b.lo    2f
        str     x1, [x3], #8
        b       1b
2:      adds    x2, x2, #8
        b.eq    4b
5:      strb    w1, [x3], #1
        subs    x2, x2, #1
        b.ne    5b
        ret
nospec:                                         // x0 where it is below x1, else 0
        cmp     x0, x1
        csel    x0, x0, xzr, lo
        csdb
        ret
