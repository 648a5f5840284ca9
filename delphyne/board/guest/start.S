// SPDX-License-Identifier: Apache-2.0
// The bare guest's start at EL1, its vectors, and the few instructions that typed Python has no word for.
//
// KVM starts CPU 0 at guest_start with the MMU off and interrupts masked; PSCI CPU_ON starts another at guest_secondary with its number in x0.
// The MMU is on with an identity map: 0-1 GiB device, 1-4 GiB normal write-back. TPIDR_EL1 holds the CPU's number.

        .equ    STACK_BYTES, 16384

        .section .text.start, "ax"
        .globl  guest_start, guest_secondary
guest_start:
        mov     x0, #0
guest_secondary:
        mov     x20, x0
        msr     tpidr_el1, x0
        adrp    x1, guest_vectors
        add     x1, x1, :lo12:guest_vectors
        msr     vbar_el1, x1
        mov     x1, #0xff00                     // MAIR: 0 device-nGnRnE, 1 normal write-back
        msr     mair_el1, x1
        adrp    x1, guest_table
        msr     ttbr0_el1, x1
        ldr     x1, =0x200803519                // TCR: TTBR0 of 39 bits from level 1, 4 KiB, inner shareable write-back; no TTBR1; 40-bit output
        msr     tcr_el1, x1
        mov     x1, #3 << 20                    // CPACR: SIMD allowed
        msr     cpacr_el1, x1
        isb
        tlbi    vmalle1
        ic      iallu
        dsb     sy
        isb
        ldr     x1, =0x30d0180d                 // SCTLR: RES1, M, C, SA, I
        msr     sctlr_el1, x1
        isb
        adrp    x1, guest_stacks
        mov     x2, #STACK_BYTES
        madd    x1, x2, x20, x1
        add     sp, x1, x2
        mov     x29, #0
        mov     x30, #0
        mov     x0, x20
        cbnz    x20, guest_other_main
        b       guest_main

        // What a trace is cut at, by the addresses of the two; they also keep the virtual counter, for a count that needs no trace.
        .globl  mark_begin, mark_end, take_ticks
mark_begin:
        mrs     x9, cntvct_el0
        adrp    x10, guest_begun
        str     x9, [x10, :lo12:guest_begun]
        ret
mark_end:
        mrs     x9, cntvct_el0
        adrp    x10, guest_begun
        add     x10, x10, :lo12:guest_begun
        ldp     x11, x12, [x10]
        sub     x9, x9, x11
        add     x12, x12, x9
        str     x12, [x10, #8]
        ret
take_ticks:                                     // -> x0: the counter's steps between marks since this was last called
        adrp    x10, guest_begun
        add     x10, x10, :lo12:guest_begun
        ldr     x0, [x10, #8]
        str     xzr, [x10, #8]
        ret

        .globl  hypercall                       // x0 function, x1-x3 arguments -> x0
hypercall:
        hvc     #0
        ret

        .globl  store_big_endian, load_big_endian
        // x0: a device's address, x1: what is stored. Without the MMU, whose walks would want tables in the same order.
        .macro  in_big_endian
        mrs     x9, sctlr_el1
        bic     x10, x9, #1                     // M
        orr     x10, x10, #1 << 25              // EE
        msr     sctlr_el1, x10
        isb
        .endm
        .macro  as_before
        msr     sctlr_el1, x9
        isb
        .endm
store_big_endian:
        in_big_endian
        str     x1, [x0]
        as_before
        ret
load_big_endian:                                // -> x0
        in_big_endian
        ldr     x0, [x0]
        as_before
        ret

        .globl  turned_round                    // x0 -> x0 with its bytes in the other order
turned_round:
        rev     x0, x0
        ret

        .globl  write_debug_register            // x0: a breakpoint's address -> 3, where each instruction behind the exits ran once
write_debug_register:
        mov     x9, x0
        msr     dbgbvr0_el1, x9                 // trapped; from now on KVM keeps the guest's debug registers apart
        add     x9, x9, #1
        mov     w0, #0x84000000                 // PSCI_VERSION
        hvc     #0
        add     x9, x9, #1
        mrs     x10, dbgbvr0_el1
        add     x9, x9, #1
        sub     x0, x9, x10
        ret

        .globl  firmware_call                   // the same by SMC
firmware_call:
        smc     #0
        ret

        // What may raise an exception, on CPU 0 alone: x0 is 0 afterwards, or the exception's syndrome.
        .macro  may_fault
        adr     x9, 1f
        adrp    x10, guest_resume
        str     x9, [x10, :lo12:guest_resume]
        .endm
        .macro  did_not_fault
        mov     x0, #0
1:      adrp    x10, guest_resume
        str     xzr, [x10, :lo12:guest_resume]
        .endm

        .globl  try_load, try_store, try_word
try_load:                                       // x0 address
        may_fault
        ldr     x9, [x0]
        did_not_fault
        ret
try_store:                                      // x0 address, x1 value
        may_fault
        str     x1, [x0]
        did_not_fault
        ret
try_word:                                       // x0 an instruction that touches x0 to x3 alone, x1 what these hold
        adrp    x12, guest_word
        add     x12, x12, :lo12:guest_word
        str     w0, [x12]
        dc      cvau, x12
        dsb     ish
        ic      ivau, x12
        dsb     ish
        isb
        mov     x13, x30
        mov     x0, x1
        mov     x2, x1
        mov     x3, x1
        may_fault
        blr     x12
        did_not_fault
        mov     x30, x13
        ret

        .balign 64
guest_word:                                     // its place, and the way back
        nop
        ret

        .globl  try_narrow                      // x0 where A32 instructions lie, x1 what r0 holds, x2 what r1 holds -> x0: how it came back
try_narrow:
        dc      cvau, x0
        dsb     ish
        ic      ivau, x0
        dsb     ish
        isb
        mrs     x9, daif
        stp     x9, x30, [sp, #-16]!
        msr     daifset, #15
        adr     x9, 1f
        adrp    x10, guest_resume
        str     x9, [x10, :lo12:guest_resume]
        mov     x9, #0x1d0                      // AArch32, user mode, interrupts masked: those of EL1 alone
        msr     spsr_el1, x9
        msr     elr_el1, x0
        mov     x0, x1
        mov     x1, x2
        eret
1:      adrp    x10, guest_resume
        str     xzr, [x10, :lo12:guest_resume]
        ldp     x9, x30, [sp], #16
        msr     daif, x9
        ret

        .globl  use_table, usual_table          // x0: the table of level 1 that translates from now on, which has to map what runs
usual_table:
        adrp    x0, guest_table
        ret
use_table:
        dsb     ishst
        msr     ttbr0_el1, x0
        isb
        tlbi    vmalle1
        dsb     nsh
        isb
        ret

        .globl  add_exclusively                 // x0 address, x1 how often one is added to the word there
add_exclusively:
        ldxr    x9, [x0]
        add     x9, x9, #1
        stxr    w10, x9, [x0]
        cbnz    w10, add_exclusively
        subs    x1, x1, #1
        b.ne    add_exclusively
        ret

        .arch_extension lse
        .globl  add_atomically                  // the same by the instruction of FEAT_LSE
add_atomically:
        mov     x9, #1
2:      stadd   x9, [x0]
        subs    x1, x1, #1
        b.ne    2b
        ret
        .arch_extension nolse

        .globl  wait_for_interrupt
wait_for_interrupt:
        dsb     sy
        wfi
        ret

        .globl  relax
relax:
        yield
        ret

        .globl  mask_interrupts, unmask_interrupts
mask_interrupts:
        msr     daifset, #2
        ret
unmask_interrupts:
        msr     daifclr, #2
        ret

        .globl  secondary_address
secondary_address:
        adrp    x0, guest_secondary
        add     x0, x0, :lo12:guest_secondary
        ret

        .globl  fill_simd                       // x0: register n becomes x0 + n in both halves
fill_simd:
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        dup     v\n\().2d, x0
        add     x0, x0, #1
        .endr
        ret

        .globl  read_simd                       // one instruction with a SIMD register
read_simd:
        fmov    x0, d0
        ret

        .globl  count_wrong_simd                // x0 as given to fill_simd -> how many of 64 halves differ
count_wrong_simd:
        mov     x2, #0
        .irp    n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        umov    x1, v\n\().d[0]
        cmp     x1, x0
        cinc    x2, x2, ne
        umov    x1, v\n\().d[1]
        cmp     x1, x0
        cinc    x2, x2, ne
        add     x0, x0, #1
        .endr
        mov     x0, x2
        ret

        .globl  mmio_read32, mmio_read64, mmio_write32, mmio_write64
mmio_read32:
        ldr     w0, [x0]
        ret
mmio_read64:
        ldr     x0, [x0]
        ret
mmio_write32:
        str     w1, [x0]
        ret
mmio_write64:
        str     x1, [x0]
        ret

        .globl  __trap                          // x0 site, x1 and x2 operands: a failed check of compiled code
__trap:
        b       guest_trapped

guest_interrupted:
        sub     sp, sp, #192
        stp     x0, x1, [sp, #0]
        stp     x2, x3, [sp, #16]
        stp     x4, x5, [sp, #32]
        stp     x6, x7, [sp, #48]
        stp     x8, x9, [sp, #64]
        stp     x10, x11, [sp, #80]
        stp     x12, x13, [sp, #96]
        stp     x14, x15, [sp, #112]
        stp     x16, x17, [sp, #128]
        stp     x18, x29, [sp, #144]
        str     x30, [sp, #160]
        bl      guest_interrupt
        ldp     x0, x1, [sp, #0]
        ldp     x2, x3, [sp, #16]
        ldp     x4, x5, [sp, #32]
        ldp     x6, x7, [sp, #48]
        ldp     x8, x9, [sp, #64]
        ldp     x10, x11, [sp, #80]
        ldp     x12, x13, [sp, #96]
        ldp     x14, x15, [sp, #112]
        ldp     x16, x17, [sp, #128]
        ldp     x18, x29, [sp, #144]
        ldr     x30, [sp, #160]
        add     sp, sp, #192
        eret

guest_faulted:
        adrp    x10, guest_resume
        ldr     x9, [x10, :lo12:guest_resume]
        cbz     x9, 1f
        msr     elr_el1, x9
        mrs     x0, esr_el1
        eret
1:      mrs     x0, esr_el1
        mrs     x1, elr_el1
        mrs     x2, far_el1
        b       guest_exception

guest_left_narrow:                              // an exception of AArch32 at EL0 ends try_narrow: back to it at EL1, and not by ERET
        adrp    x10, guest_resume
        ldr     x9, [x10, :lo12:guest_resume]
        mrs     x0, esr_el1
        br      x9

        .balign 2048
guest_vectors:
        .rept   5
        b       guest_faulted
        .balign 128
        .endr
        b       guest_interrupted               // IRQ at EL1 on its own stack
        .balign 128
        .rept   6
        b       guest_faulted
        .balign 128
        .endr
        b       guest_left_narrow               // synchronous, EL0 in AArch32
        .balign 128
        .rept   3
        b       guest_faulted
        .balign 128
        .endr

        .section .data.start, "aw"
        .balign 4096
guest_table:                                    // level 1, blocks of 1 GiB
        .quad   0x0060000000000401              // device, not executable
        .quad   0x0000000040000705              // normal memory, inner shareable
        .quad   0x0000000080000705
        .quad   0x00000000c0000705
        .fill   508, 8, 0
        .section .bss.start, "aw", %nobits
        .balign 4096
guest_stacks:
        .space  8 * STACK_BYTES
guest_begun:
        .space  16                              // the counter at mark_begin; the sum of what passed up to mark_end
guest_resume:
        .space  8                               // where an exception that may happen goes on, or 0
