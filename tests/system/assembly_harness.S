// SPDX-License-Identifier: Apache-2.0
// Called as el2_main by the real start of el2.S, with Python replaced by nothing: runs functions of el2.S and prints one letter for each
// check on the PL011 of QEMU's virt machine, in capitals where it held.

        .include "offsets.inc"
        .arch   armv8-a+crypto+sve+sme
        .equ    UART, 0x09000000

.macro  verdict letter
        mov     w1, #\letter + 32
        mov     w2, #\letter
        csel    w1, w2, w1, eq
        mov     x2, #UART
        str     w1, [x2]
.endm

.macro  store_vectors to
        adrp    x1, \to
        add     x1, x1, :lo12:\to
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        str     z\n, [x1, #\n, mul vl]
        .endr
        add     x1, x1, #8192
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        str     p\n, [x1, #\n, mul vl]
        .endr
.endm

.macro  store_simd to
        adrp    x1, \to
        add     x1, x1, :lo12:\to
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        str     q\n, [x1], #16
        .endr
.endm

.macro  spoil_simd
        adrp    x1, el2_main
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        ldr     q\n, [x1]
        .endr
        aese    v0.16b, v1.16b                  // does not exist in streaming mode
        mov     x1, #(1 << 24)
        msr     fpcr, x1
        mov     x1, #1
        msr     fpsr, x1
.endm

.macro  enter
        adrp    x0, area
        add     x0, x0, :lo12:area
        bl      simd_enter
.endm

.macro  leave
        adrp    x0, area
        add     x0, x0, :lo12:area
        bl      simd_leave
.endm

        .text
        .globl  el2_main
el2_main:
        mov     x0, #UART
        add     x1, x0, #4096
        mov     x2, #1
        bl      first_map_add

        // nospec: below, at, above the limit
        mov     x0, #3
        mov     x1, #4
        bl      nospec
        mov     x19, x0
        mov     x0, #4
        mov     x1, #4
        bl      nospec
        add     x19, x19, x0
        mov     x0, #-1
        mov     x1, #4
        bl      nospec
        add     x19, x19, x0
        cmp     x19, #3
        verdict 'N

        // a lock: two rounds leave next and owner at 2
        adrp    x20, lock
        add     x20, x20, :lo12:lock
        .rept   2
        mov     x0, x20
        bl      lock_acquire
        mov     x0, x20
        bl      lock_release
        .endr
        ldr     x0, [x20]
        mov     x1, #2
        movk    x1, #2, lsl #32
        cmp     x0, x1
        verdict 'L

        // its tickets, while it is held and another is out: owner 2, next 4
        mov     x0, x20
        bl      lock_acquire
        mov     w1, #4
        str     w1, [x20]
        bl      frames_tickets
        mov     x1, #4
        movk    x1, #2, lsl #32
        cmp     x0, x1
        verdict 'T

        // lines of a range: whatever its length, the last one is the one that holds its last byte
        mov     x20, #0                         // bytes
        mov     x21, #0                         // how often it was wrong
2:      adrp    x22, before
        mov     x0, x22
        add     x1, x22, x20
        mov     x2, #64
        bl      clean_lines
        sub     x0, x0, x22
        add     x1, x20, #63
        and     x1, x1, #~63
        cmp     x0, x1
        cinc    x21, x21, ne
        add     x20, x20, #33
        cmp     x20, #4096
        b.ls    2b
        cmp     x21, #0
        verdict 'C

        // Advanced SIMD, with EL2's own accesses trapped before and after
        mov     x1, #0x33ff
        bic     x1, x1, #(1 << 8)
        bic     x1, x1, #(1 << 12)
        msr     cptr_el2, x1
        isb
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        mov     x1, #(\n * 257 + 1)
        fmov    d\n, x1
        fmov    v\n\().d[1], x1
        .endr
        mov     x1, #(1 << 22)
        msr     fpcr, x1
        mov     x1, #0x10
        msr     fpsr, x1
        store_simd before
        mrs     x1, cptr_el2
        orr     x1, x1, #(1 << 10)
        msr     cptr_el2, x1
        isb
        enter
        spoil_simd
        leave
        mrs     x21, cptr_el2
        tst     x21, #(1 << 10)
        cset    x22, eq
        bic     x1, x21, #(1 << 10)
        msr     cptr_el2, x1
        isb
        mrs     x1, fpcr
        eor     x1, x1, #(1 << 22)
        orr     x22, x22, x1
        mrs     x1, fpsr
        eor     x1, x1, #0x10
        orr     x22, x22, x1
        store_simd after
        mov     x0, #512
        bl      differences
        orr     x0, x0, x22
        cmp     x0, #0
        verdict 'Q

        // scalable vectors of the greatest length
        mrs     x1, id_aa64pfr0_el1
        ubfx    x1, x1, #32, #4
        cbz     x1, 9f
        mov     x1, #15
        msr     s3_4_c1_c2_0, x1                // ZCR_EL2
        isb
        mov     x3, #1
        mov     x4, #1
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        index   z\n\().d, x3, #7
        add     x3, x3, #1000
        .endr
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        whilelo p\n\().b, xzr, x4
        add     x4, x4, #3
        .endr
        bl      vectors_kept
        verdict 'V

        // the same in streaming mode
        mrs     x1, id_aa64pfr1_el1
        ubfx    x1, x1, #24, #4
        cbz     x1, 9f
        mov     x1, #15
        msr     s3_4_c1_c2_6, x1                // SMCR_EL2
        isb
        smstart sm
        mov     x3, #5
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        index   z\n\().d, x3, #9
        add     x3, x3, #3000
        .endr
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        ptrue   p\n\().h
        .endr
        bl      vectors_kept
        mrs     x1, svcr
        and     x1, x1, #1
        eor     x1, x1, #1
        orr     x0, x0, x1
        cmp     x0, #0
        smstop  sm
        verdict 'S

        // a lock that is held while EL2 stops: the waiting CPU does not wait
9:      adrp    x0, lock
        add     x0, x0, :lo12:lock
        mov     w1, #3
        str     w1, [x0]
        adrp    x1, delphyne.el2.control.stop.STOPPING
        add     x1, x1, :lo12:delphyne.el2.control.stop.STOPPING
        mov     w2, #1
        str     w2, [x1]
        bl      lock_acquire
        cmp     x0, #-1
        verdict 'W
        b       10f
        .globl  el2_stopped
el2_stopped:
        cmp     x0, x0
        verdict 'W

10:     mov     w1, #10
        mov     x2, #UART
        str     w1, [x2]
        movz    x0, #0x8400, lsl #16
        movk    x0, #8
        mov     x1, #0
        mov     x2, #0
        mov     x3, #0
        bl      smc_call
        b       park

// x0 = 0, and flags equal, where a scope of Advanced SIMD leaves all vectors and predicates as they were.
vectors_kept:
        mov     x23, x30
        store_vectors before
        enter
        spoil_simd
        leave
        store_vectors after
        mov     x0, #8704
        bl      differences
        cmp     x0, #0
        ret     x23

// x0 = the bits in which the first x0 bytes of before and after differ, or-ed together.
differences:
        adrp    x1, before
        add     x1, x1, :lo12:before
        adrp    x2, after
        add     x2, x2, :lo12:after
        mov     x5, #0
1:      ldr     x3, [x1], #8
        ldr     x4, [x2], #8
        eor     x3, x3, x4
        orr     x5, x5, x3
        subs    x0, x0, #8
        b.ne    1b
        mov     x0, x5
        ret

        .bss
        .balign 64
        .globl  delphyne.el2.memory.frames.LOCK
delphyne.el2.memory.frames.LOCK:
lock:   .skip   64
area:   .skip   SIMD_AREA_SIZEOF
        .balign 64
before: .skip   8704
after:  .skip   8704
        .globl  delphyne.el2.control.stop.STOPPING
delphyne.el2.control.stop.STOPPING:
        .skip   4
