// SPDX-License-Identifier: Apache-2.0
// A bare machine for tests and measurements: runs a table of calls at EL2, one after the other, and prints what became of each.
//
// The MMU is on with an identity map (0-1 GiB device, 1-4 GiB normal write-back), SIMD is allowed, interrupts are masked.
// A trap of compiled code (bare_trap) or an exception ends the call in hand and the next one starts with a fresh stack.
// Statics and buffers keep their contents from call to call.
//
// One record of bare_cases: function, eight arguments, address and length of the bytes to print afterwards.
// One line on the PL011 for each call, numbers in sixteen hexadecimal digits:
//   V x0 x1 cycles      it returned
//   T site a b cycles   it trapped
//   X esr elr far cycles   it took an exception
// followed by " bytes" where bytes were asked for. PMCCNTR counts instructions under -icount shift=0.

        .equ    UART, 0x09000000
        .equ    CASE_BYTES, 88

        .section .text.bare, "ax"
        .globl  _start
_start:
        adrp    x0, bare_vectors
        add     x0, x0, :lo12:bare_vectors
        msr     vbar_el2, x0
        mov     x0, #0xff00                     // MAIR: 0 device-nGnRnE, 1 normal write-back
        msr     mair_el2, x0
        adrp    x0, bare_table
        msr     ttbr0_el2, x0
        ldr     x0, =0x80823519                 // TCR: 39 bits from level 1, 4 KiB, inner shareable write-back, 40-bit output
        msr     tcr_el2, x0
        mov     x0, #0x33ff                     // CPTR: nothing trapped
        msr     cptr_el2, x0
        isb
        tlbi    alle2
        ic      iallu
        dsb     sy
        isb
        ldr     x0, =0x30c51835                 // SCTLR: RES1, M, C, I
        msr     sctlr_el2, x0
        isb
        adrp    x0, bare_per_cpu
        msr     tpidr_el2, x0
        mov     x0, #1 << 27                    // PMCCFILTR.NSH: count at EL2
        msr     pmccfiltr_el0, x0
        mov     x0, #1 << 31
        msr     pmcntenset_el0, x0
        mov     x0, #0x45                       // PMCR: enable, reset the cycle counter, 64 bits of it
        msr     pmcr_el0, x0
        isb

bare_next:
        adrp    x20, bare_current
        ldr     x21, [x20, :lo12:bare_current]
        ldr     x22, =bare_cases_end
        cmp     x21, x22
        b.hs    bare_exit
        adrp    x0, bare_stack_top
        add     x0, x0, :lo12:bare_stack_top
        mov     sp, x0
        ldr     x16, [x21]
        ldp     x0, x1, [x21, #8]
        ldp     x2, x3, [x21, #24]
        ldp     x4, x5, [x21, #40]
        ldp     x6, x7, [x21, #56]
        adrp    x20, bare_started
        mrs     x19, pmccntr_el0
        str     x19, [x20, :lo12:bare_started]
        blr     x16
        mrs     x19, pmccntr_el0
        mov     x20, x0
        mov     x21, x1
        mov     w0, #'V'
        bl      bare_put
        mov     x0, x20
        bl      bare_hex
        mov     x0, x21
        bl      bare_hex
        b       bare_finish

        .globl  bare_trap
bare_trap:                                      // x0 site, x1 and x2 operands; compiled code never returns from it
        mov     x20, x0
        mov     x21, x1
        mov     x22, x2
        mov     w0, #'T'
bare_three:
        mrs     x19, pmccntr_el0
        bl      bare_put
        mov     x0, x20
        bl      bare_hex
        mov     x0, x21
        bl      bare_hex
        mov     x0, x22
        bl      bare_hex

bare_finish:                                    // x19: the counter at the end
        adrp    x20, bare_started
        ldr     x20, [x20, :lo12:bare_started]
        sub     x0, x19, x20
        bl      bare_hex
        adrp    x19, bare_current
        ldr     x20, [x19, :lo12:bare_current]
        ldp     x21, x22, [x20, #72]
        add     x20, x20, #CASE_BYTES
        str     x20, [x19, :lo12:bare_current]
        cbz     x22, 2f
        mov     w0, #' '
        bl      bare_put
1:      ldrb    w0, [x21], #1
        lsl     x0, x0, #56
        mov     w1, #2
        bl      bare_digits
        subs    x22, x22, #1
        b.ne    1b
2:      mov     w0, #'\n'
        bl      bare_put
        b       bare_next

bare_exit:                                      // semihosting SYS_EXIT, ADP_Stopped_ApplicationExit, status 0
        adrp    x1, bare_exit_block
        add     x1, x1, :lo12:bare_exit_block
        mov     w0, #0x18
        hlt     #0xf000
        b       .

bare_exception:
        mrs     x20, esr_el2
        mrs     x21, elr_el2
        mrs     x22, far_el2
        adrp    x0, bare_stack_top
        add     x0, x0, :lo12:bare_stack_top
        mov     sp, x0
        mov     w0, #'X'
        b       bare_three

bare_hex:                                       // a space and x0; changes x0-x5
        mov     x5, x30
        mov     x4, x0
        mov     w0, #' '
        bl      bare_put
        mov     x0, x4
        mov     x30, x5
        mov     w1, #16
bare_digits:                                    // the upper w1 digits of x0; changes x0-x3
        mov     x3, #UART
1:      lsr     x2, x0, #60
        add     w2, w2, #'0'
        cmp     w2, #'9'
        b.ls    2f
        add     w2, w2, #'a' - '0' - 10
2:      str     w2, [x3]
        lsl     x0, x0, #4
        subs    w1, w1, #1
        b.ne    1b
        ret

bare_put:                                       // w0; changes x3
        mov     x3, #UART
        str     w0, [x3]
        ret

        .globl  bare_nothing
bare_nothing:                                   // what an empty call costs
        ret

        .balign 2048
bare_vectors:
        .rept   16
        .balign 128
        b       bare_exception
        .endr
        .globl  bare_text_end
bare_text_end:

        .section .data.bare, "aw"
        .balign 8
bare_current:
        .quad   bare_cases
bare_started:
        .quad   0
bare_exit_block:
        .quad   0x20026, 0

        .balign 4096
bare_table:                                     // level 1, blocks of 1 GiB
        .quad   0x0060000000000401              // device, not executable
        .quad   0x0000000040000705              // normal memory, inner shareable
        .quad   0x0000000080000705
        .quad   0x00000000c0000705
        .fill   508, 8, 0

        .section .bss.bare, "aw", %nobits
        .balign 4096
        .globl  bare_per_cpu
bare_per_cpu:
        .weak   bare_per_cpu
        .space  4096
        .space  262144
        .globl  bare_stack_top
bare_stack_top:
