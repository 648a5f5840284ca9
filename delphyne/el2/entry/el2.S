// SPDX-License-Identifier: Apache-2.0
//
// The one assembly file of EL2: first instructions, vectors, the switch to and from lower exception levels, the entry of
// the trap report, locks, and the instructions that LLVM has no intrinsic for. GNU as, no preprocessor.
//
// Lock order: none is taken here; lock_acquire and lock_release are the locks themselves.
// Invariants:
// - EL2 runs with PSTATE.DAIF set from the first instruction on and is never re-entered.
// - While a lower exception level runs, SP_EL2 is this CPU's stack_top and TPIDR_EL2 the address of its Cpu.
// - x29 is a chain of frame records {x29, x30} across every function here that calls Python.
// - Nothing is addressed absolutely: the image is linked at 0 and runs wherever it lies, mapped to itself.
// - Compiled code runs only with the MMU on: it makes unaligned accesses and exclusives, which need Normal memory.
//
// offsets.inc is written by the compiler from the structures with an export prefix (Cpu in arch/cpu.py, Frame in arch/frame.py).

        .include "offsets.inc"
        .arch   armv8-a+crypto
        .cfi_sections .debug_frame

        .equ    EC_HVC64, 0x16

// --- macros ---------------------------------------------------------------------------------------------------------------

// Starts a function that uses `frame` bytes of stack; the stack check reads the pair from .delphyne.frames.
.macro function name, frame=0
        .globl  \name
        .type   \name, %function
        .balign 4
        .pushsection .delphyne.frames, "", %progbits
        .quad   \name, \frame
        .popsection
\name:
        .cfi_startproc
.endm

.macro endfunction name
        .cfi_endproc
        .size   \name, . - \name
.endm

.macro address register, symbol
        adrp    \register, \symbol
        add     \register, \register, :lo12:\symbol
.endm

// A function that returns the address of a linker symbol.
.macro edge name, symbol
function \name
        address x0, \symbol
        ret
endfunction \name
.endm

// A function of one instruction, whose operand, if any, is x0.
.macro operation name, instruction:vararg
function \name
        \instruction
        ret
endfunction \name
.endm

// x2 to x29 to or from a Frame.
.macro frame_pairs op, base
        \op     x2, x3, [\base, #FRAME_x + 8 * 2]
        \op     x4, x5, [\base, #FRAME_x + 8 * 4]
        \op     x6, x7, [\base, #FRAME_x + 8 * 6]
        \op     x8, x9, [\base, #FRAME_x + 8 * 8]
        \op     x10, x11, [\base, #FRAME_x + 8 * 10]
        \op     x12, x13, [\base, #FRAME_x + 8 * 12]
        \op     x14, x15, [\base, #FRAME_x + 8 * 14]
        \op     x16, x17, [\base, #FRAME_x + 8 * 16]
        \op     x18, x19, [\base, #FRAME_x + 8 * 18]
        \op     x20, x21, [\base, #FRAME_x + 8 * 20]
        \op     x22, x23, [\base, #FRAME_x + 8 * 22]
        \op     x24, x25, [\base, #FRAME_x + 8 * 24]
        \op     x26, x27, [\base, #FRAME_x + 8 * 26]
        \op     x28, x29, [\base, #FRAME_x + 8 * 28]
.endm

// Of these, what compiled code may change.
.macro call_pairs op
        \op     x2, x3, [sp, #FRAME_x + 8 * 2]
        \op     x4, x5, [sp, #FRAME_x + 8 * 4]
        \op     x6, x7, [sp, #FRAME_x + 8 * 6]
        \op     x8, x9, [sp, #FRAME_x + 8 * 8]
        \op     x10, x11, [sp, #FRAME_x + 8 * 10]
        \op     x12, x13, [sp, #FRAME_x + 8 * 12]
        \op     x14, x15, [sp, #FRAME_x + 8 * 14]
        \op     x16, x17, [sp, #FRAME_x + 8 * 16]
        \op     x29, x30, [sp, #FRAME_x + 8 * 29]
.endm

// What the processor recorded about the exception that brought us to EL2, into a Frame. Uses two registers.
.macro save_syndrome base, a, b
        mrs     \a, elr_el2
        mrs     \b, spsr_el2
        str     \a, [\base, #FRAME_elr]
        str     \b, [\base, #FRAME_spsr]
        mrs     \a, esr_el2
        mrs     \b, far_el2
        str     \a, [\base, #FRAME_esr]
        str     \b, [\base, #FRAME_far]
        mrs     \a, hpfar_el2
        str     \a, [\base, #FRAME_hpfar]
.endm

// SCTLR is written whole: nothing that the loader left in it is to be trusted. The RES1 bits are those of ARMv8.0.
        .equ    SCTLR_EL1_OFF, 0x30d00800
        .equ    SCTLR_EL2_OFF, 0x30c50830
        .equ    SCTLR_ON, 0x0008100d            // WXN, I, SA, C, M
        .equ    HCR_RW, 0x80000000

// The attributes of the first map. MAIR index 0 is Normal write-back, 1 is Device-nGnRE, as in memory/stage1.py.
        .equ    FIRST_MAIR, 0x04ff
        .equ    FIRST_TCR, 0x803510             // T0SZ 16, write-back inner-shareable walks, 4 KiB; bit 23 is RES1 at EL2, EPD1 at EL1
        .equ    LEAF_DEVICE, 0x407
        .equ    LEAF_NORMAL, 0x703                      // AF, inner shareable
        .equ    LEAF_READ_ONLY, 0x80
        .equ    LEAF_XN, 1 << 54                // UXN at EL1
        .equ    LEAF_EL2_AP1, 0x40              // RES1 in a regime of one exception level

// The first CPU's stack ends where its slot does (arch/cpu.py has the layout of the slots).
        .equ    BOOT_STACK_TOP, 0x8000

// --- how long stays at EL2 are -------------------------------------------------------------------------------------------------
//
// An image that was assembled with STAYS measures each stay of each CPU by the physical counter (bench/stays_inside.py). In every other image these
// macros are empty. The counter is read without an ISB: on QEMU under icount, the only place where such an image runs, it is exact.

        .ifdef  STAYS
        .equ    STAY_SHIFT, 7                   // log2 of the bytes that each CPU has
        .equ    STAY_BEGIN, 0                   // the counter, 0 where no stay is measured; origin, ESR, ELR and x0 of this stay
        .equ    STAY_LONGEST, 40                // ticks, origin, ESR, ELR and x0 of the longest
        .equ    STAY_COUNT, 80                  // stays that are over, and ticks in them
        .equ    STAY_CPUS, 64

        .bss
        .balign 128
        .globl  stays
stays:
        .zero   STAY_CPUS << STAY_SHIFT
        .text

// A stay begins; x0 and x1, which are used, were saved at sp + `saved`.
.macro stay_begins origin, saved
        mrs     x0, tpidr_el2
        ldr     x0, [x0, #CPU_index]
        address x1, stays
        add     x1, x1, x0, lsl #STAY_SHIFT
        mrs     x0, cntpct_el0
        str     x0, [x1, #STAY_BEGIN]
        mov     x0, #\origin
        str     x0, [x1, #STAY_BEGIN + 8]
        mrs     x0, esr_el2
        str     x0, [x1, #STAY_BEGIN + 16]
        mrs     x0, elr_el2
        str     x0, [x1, #STAY_BEGIN + 24]
        ldr     x0, [sp, #\saved]
        str     x0, [x1, #STAY_BEGIN + 32]
.endm

// It ends. Uses x2 to x6.
.macro stay_ends
        mrs     x2, tpidr_el2
        ldr     x2, [x2, #CPU_index]
        address x3, stays
        add     x3, x3, x2, lsl #STAY_SHIFT
        ldr     x2, [x3, #STAY_BEGIN]
        cbz     x2, .Lno_stay\@
        mrs     x4, cntpct_el0
        sub     x4, x4, x2
        str     xzr, [x3, #STAY_BEGIN]
        ldp     x5, x6, [x3, #STAY_COUNT]
        add     x5, x5, #1
        add     x6, x6, x4
        stp     x5, x6, [x3, #STAY_COUNT]
        ldr     x5, [x3, #STAY_LONGEST]
        cmp     x4, x5
        b.ls    .Lno_stay\@
        str     x4, [x3, #STAY_LONGEST]
        ldp     x5, x6, [x3, #STAY_BEGIN + 8]
        stp     x5, x6, [x3, #STAY_LONGEST + 8]
        ldp     x5, x6, [x3, #STAY_BEGIN + 24]
        stp     x5, x6, [x3, #STAY_LONGEST + 24]
.Lno_stay\@:
.endm

// What a CPU was about when it went off is no stay. x20 = its Cpu. Uses x2, x3.
.macro no_stay
        ldr     x2, [x20, #CPU_index]
        address x3, stays
        add     x3, x3, x2, lsl #STAY_SHIFT
        str     xzr, [x3, #STAY_BEGIN]
.endm
        .else
.macro stay_begins origin, saved
.endm
.macro stay_ends
.endm
.macro no_stay
.endm
        .endif

// --- arm64 Image header (Linux Documentation/arm64/booting.rst) ------------------------------------------------------------

        .section .head.text, "ax", %progbits
        .globl  image_head
image_head:
        b       start
        .long   0
        .quad   0                               // text_offset: at the 2 MiB boundary itself
        .quad   __image_end - . + 16            // image_size, zeroed memory and stacks included
        .quad   0xa                             // little-endian, 4 KiB pages, anywhere in RAM
        .quad   0, 0, 0
        .ascii  "ARM\x64"
        .long   0

// --- entry of the boot CPU: MMU off, x0 = device tree ---------------------------------------------------------------------

        .text
// x20 device tree, x21 bytes of it that are mapped, x22 SCTLR to set, x25 attributes that differ between EL1 and EL2.
function start
        .cfi_undefined x30
        msr     daifset, #0xf
        mov     x20, x0
        mrs     x9, CurrentEL
        cmp     x9, #(2 << 2)
        b.eq    1f
        cmp     x9, #(1 << 2)
        b.eq    2f
        b       park                            // EL3: nothing here can speak or drop without knowing the firmware

1:      bl      prepare_el2
        mov     x25, #LEAF_EL2_AP1
        mov     x26, #0
        bl      first_map
        bl      tcr_with_pa_range
        movz    x1, #0x8000, lsl #16            // bit 31 is RES1
        orr     x0, x0, x1
        mov     x1, #FIRST_MAIR
        address x2, __first_tables
        ldr     w3, =(SCTLR_EL2_OFF | SCTLR_ON)
        bl      mmu_on_el2
        b       3f

// Entered at EL1: the same map under EL1's registers, so that Python can say so on the console that the tree names.
2:      ldr     w0, =SCTLR_EL1_OFF
        msr     sctlr_el1, x0
        isb
        mov     x25, #0
        mov     x26, #1
        bl      first_map
        bl      tcr_with_pa_range
        ubfx    x1, x0, #16, #3                 // IPS lies at bit 32 of TCR_EL1, PS at bit 16 of TCR_EL2
        bic     x0, x0, #(7 << 16)
        orr     x0, x0, x1, lsl #32
        msr     tcr_el1, x0
        mov     x1, #FIRST_MAIR
        msr     mair_el1, x1
        address x2, __first_tables
        msr     ttbr0_el1, x2
        dsb     sy
        tlbi    vmalle1
        ic      iallu
        dsb     nsh
        isb
        ldr     w3, =(SCTLR_EL1_OFF | SCTLR_ON)
        msr     sctlr_el1, x3
        isb

3:      address x0, __bss_start
        address x1, __bss_end
4:      cmp     x0, x1
        b.hs    5f
        stp     xzr, xzr, [x0], #16
        b       4b

5:      address x0, first_free
        str     x18, [x0]
        address x0, __stacks_start
        add     sp, x0, #BOOT_STACK_TOP
        mov     x29, xzr
        mov     x30, xzr
        mov     x0, x20
        mov     x1, x21
        cbnz    x26, 6f
        bl      el2_main
        b       park
6:      bl      el1_main
        b       park
endfunction start

// Every EL2 register that decides where an exception goes, before anything can raise one. The vectors park while TPIDR_EL2 names no Cpu.
function prepare_el2
        msr     tpidr_el2, xzr
        ldr     w0, =SCTLR_EL2_OFF
        msr     sctlr_el2, x0
        mov     x0, #HCR_RW
        msr     hcr_el2, x0
        address x0, vectors
        msr     vbar_el2, x0
        isb
        ret
endfunction prepare_el2

// x0 = TCR bits that EL1 and EL2 have in common, the PA range of this processor (at most 48 bits) in bits 18..16.
function tcr_with_pa_range
        mrs     x0, id_aa64mmfr0_el1
        and     x0, x0, #0xf
        cmp     x0, #5
        mov     x1, #5
        csel    x0, x0, x1, lo
        lsl     x0, x0, #16
        ldr     w1, =FIRST_TCR
        orr     x0, x0, x1
        ret
endfunction tcr_with_pa_range

// x0 TCR, x1 MAIR, x2 TTBR0, x3 SCTLR. Called with the MMU off from memory that the new map maps to itself.
function mmu_on_el2
        msr     tcr_el2, x0
        msr     mair_el2, x1
        msr     ttbr0_el2, x2
        isb
        dsb     sy
        tlbi    alle2
        ic      iallu
        dsb     nsh
        isb
        msr     sctlr_el2, x3
        isb
        ret
endfunction mmu_on_el2

// --- the first map: the image with its final rights, and the device tree ---------------------------------------------------
//
// Written with the MMU off. Lines of this memory may lie in a cache, left by the loader or fetched by speculation: they are dropped
// before the MMU comes on (Arm ARM B2.10, mismatched attributes).

// In: x20 device tree, x25 and x26 as in start. Out: x21 bytes of device tree mapped. Uses x0-x19.
function first_map
        mov     x19, x30
        .cfi_register x30, x19
        address x0, __first_tables
        address x1, __first_tables_end
        bl      drop_lines                      // a dirty line of the loader's must not be written back over a table
        address x0, __first_tables
        mov     x2, x0
1:      stp     xzr, xzr, [x2], #16
        cmp     x2, x1
        b.lo    1b
        add     x18, x0, #4096                  // the next free table

        mov     x17, #LEAF_XN
        lsl     x16, x26, #53                   // PXN, at EL1 only
        mov     x15, #LEAF_NORMAL
        orr     x15, x15, x25

        address x0, __image_start
        address x14, __text_end
        orr     x1, x15, #LEAF_READ_ONLY
        cbz     x26, 2f
        orr     x1, x1, x17                     // text is never for EL0
2:      bl      first_map_range
        address x14, __rodata_end
        orr     x1, x15, #LEAF_READ_ONLY
        orr     x1, x1, x17
        orr     x1, x1, x16
        bl      first_map_range
        address x14, __image_end
        orr     x1, x15, x17
        orr     x1, x1, x16
        bl      first_map_range

        // The tree is mapped as far as its header says, where that is sane; Python reads the header again and judges it.
        mov     x21, #0
        cbz     x20, 3f
        tst     x20, #7
        b.ne    3f
        ldr     w2, [x20]
        rev     w2, w2
        ldr     w3, =0xd00dfeed
        cmp     w2, w3
        b.ne    3f
        ldr     w2, [x20, #4]
        rev     w2, w2
        cmp     w2, #(2 << 20)
        b.hi    3f
        mov     x21, x2
        add     x14, x20, x21
        and     x0, x20, #~0xfff
        orr     x1, x15, #LEAF_READ_ONLY
        orr     x1, x1, x17
        orr     x1, x1, x16
        bl      first_map_range
3:
        address x0, __first_tables
        address x1, __first_tables_end
        bl      drop_lines
        mov     x30, x19
        .cfi_restore x30
        ret
endfunction first_map

// Drops the cache lines from x0 up to x1 to the point of coherency. Both ends lie on line boundaries. Uses x2, x3.
function drop_lines
        dsb     sy
        mrs     x2, ctr_el0
        ubfx    x2, x2, #16, #4
        mov     x3, #4
        lsl     x2, x3, x2
1:      dc      ivac, x0
        add     x0, x0, x2
        cmp     x0, x1
        b.lo    1b
        dsb     sy
        ret
endfunction drop_lines

// Maps the pages from x0 up to x14, by blocks of 2 MiB where they fit, to themselves with leaf bits x1. Out: x0 = x14 rounded up. Uses x3-x7.
function first_map_range
1:      cmp     x0, x14
        b.hs    4f
        address x3, __first_tables
        mov     x4, #39
2:      lsr     x5, x0, x4
        and     x5, x5, #0x1ff
        cmp     x4, #12
        b.eq    3f
        ldr     x6, [x3, x5, lsl #3]
        cbnz    x6, 5f
        cmp     x4, #21
        b.ne    6f
        tst     x0, #0x1fffff
        b.ne    6f
        sub     x6, x14, x0
        lsr     x6, x6, #21
        cbz     x6, 6f
        eor     x6, x1, #2                      // a block has no page bit
        orr     x6, x6, x0
        str     x6, [x3, x5, lsl #3]
        add     x0, x0, #(2 << 20)
        b       1b
6:
        address x7, __first_tables_end
        cmp     x18, x7
        b.hs    park
        orr     x6, x18, #3
        str     x6, [x3, x5, lsl #3]
        add     x18, x18, #4096
5:      and     x3, x6, #0x0000fffffffff000
        sub     x4, x4, #9
        b       2b
3:      orr     x6, x0, x1
        str     x6, [x3, x5, lsl #3]
        add     x0, x0, #4096
        b       1b
4:      ret
endfunction first_map_range

// first_map_add(x0 = first byte, x1 = first byte after, x2 = 1 for device registers, 0 for RAM): pages that the first map does not hold yet,
// readable and writable. Only while the first map is in use. Invalid to valid: no TLB holds anything to be forgotten.
function first_map_add, 16
        stp     x29, x30, [sp, #-16]!
        .cfi_def_cfa_offset 16
        .cfi_offset x29, -16
        .cfi_offset x30, -8
        mov     x29, sp
        address x8, first_free
        ldr     x18, [x8]
        and     x0, x0, #~0xfff
        mov     x14, x1
        mov     x1, #LEAF_NORMAL
        mov     x3, #LEAF_DEVICE
        cmp     x2, #0
        csel    x1, x1, x3, eq
        mov     x3, #LEAF_XN
        orr     x1, x1, x3
        mrs     x2, CurrentEL
        cmp     x2, #(2 << 2)
        b.eq    1f
        orr     x1, x1, x3, lsr #1              // PXN
        b       2f
1:      orr     x1, x1, #LEAF_EL2_AP1
2:      bl      first_map_range
        str     x18, [x8]
        dsb     ishst
        isb
        ldp     x29, x30, [sp], #16
        .cfi_restore x29
        .cfi_restore x30
        .cfi_def_cfa_offset 0
        ret
endfunction first_map_add

        .bss
        .balign 8
first_free:
        .quad   0
        .text

// --- EL2's own map --------------------------------------------------------------------------------------------------------

// switch_map(x0 TCR, x1 MAIR, x2 TTBR0, x3 SCTLR): leaves the current map for another of which block sizes may differ, which
// needs the MMU off in between (Arm ARM D8.14, break-before-make). No memory is touched while it is off. What was written through
// the old map needs no cache maintenance: TCR makes walks coherent, and both maps give this memory the same attributes.
function switch_map
        mov     x5, x30
        .cfi_register x30, x5
        ldr     w4, =SCTLR_EL2_OFF
        dsb     sy
        msr     sctlr_el2, x4
        isb
        bl      mmu_on_el2
        ret     x5
endfunction switch_map

// --- entry of every other CPU: MMU off, x0 = its Cpu, which the starting CPU has cleaned to the point of coherency ---------

function secondary_entry
        .cfi_undefined x30
        msr     daifset, #0xf
        mrs     x9, CurrentEL
        cmp     x9, #(2 << 2)
        b.ne    park
        mov     x20, x0
        bl      prepare_el2
        ldr     x0, [x20, #CPU_tcr]
        ldr     x1, [x20, #CPU_mair]
        ldr     x2, [x20, #CPU_ttbr]
        ldr     x3, [x20, #CPU_sctlr]
        bl      mmu_on_el2
        msr     tpidr_el2, x20
        no_stay
        ldr     x0, [x20, #CPU_stack_top]
        mov     sp, x0
        mov     x29, xzr
        mov     x30, xzr
        mov     x0, x20
        bl      el2_secondary
        b       park
endfunction secondary_entry

// --- vectors --------------------------------------------------------------------------------------------------------------

// An exception taken from EL2 itself is a bug. The stack may be what failed, so nothing is pushed before sp is on the emergency
// stack. TPIDRRO_EL0 gives the one register that this needs: EL2 does not return from here, and lower levels keep nothing in it that a
// report would want.
.macro from_el2 kind
        .balign 128
        msr     tpidrro_el0, x0
        mrs     x0, tpidr_el2
        cbz     x0, park
        ldr     x0, [x0, #CPU_emergency_top]
        sub     x0, x0, #FRAME_SIZEOF
        str     x1, [x0, #FRAME_x + 8]
        mov     x1, #\kind
        b       crash
.endm

.macro from_lower kind
        .balign 128
        sub     sp, sp, #FRAME_SIZEOF
        stp     x0, x1, [sp, #FRAME_x]
        stay_begins 0, FRAME_x
        mov     x1, #\kind
        b       lower
.endm

// The same for a synchronous exception in AArch64, of which calls are told apart at once.
.macro from_lower_sync
        .balign 128
        sub     sp, sp, #FRAME_SIZEOF
        stp     x0, x1, [sp, #FRAME_x]
        stay_begins 0, FRAME_x
        mrs     x0, esr_el2
        lsr     x0, x0, #26
        cmp     x0, #EC_HVC64
        b.eq    call
        mov     x1, #0
        b       lower
.endm

        .section .text.vectors, "ax", %progbits
        .balign 2048
        .globl  vectors
vectors:
        from_el2 0
        from_el2 1
        from_el2 2
        from_el2 3
        from_el2 0
        from_el2 1
        from_el2 2
        from_el2 3
        from_lower_sync
        from_lower 1
        from_lower 2
        from_lower 3
        from_lower 4
        from_lower 5
        from_lower 6
        from_lower 7
        .balign 128
        .text

// From a lower exception level, x0 and x1 saved, x1 = which vector. gdb's walk ends here: the level below has a memory of its own.
function lower, FRAME_SIZEOF
        .cfi_def_cfa sp, FRAME_SIZEOF
        .cfi_undefined x30
        frame_pairs stp, sp
        str     x30, [sp, #FRAME_x + 8 * 30]
        save_syndrome sp, x2, x3
        mov     x0, sp
        mov     x29, xzr
        mov     x30, xzr
        bl      el2_lower
        mov     x0, sp
        add     sp, sp, #FRAME_SIZEOF
        .cfi_def_cfa_offset 0
        b       .Lresume_lower
endfunction lower

// A call (HVC) from AArch64, x0 and x1 saved. What compiled code keeps anyhow, x19 to x28, is not saved, nor x18, which it never touches; what the
// processor recorded beyond the return state says nothing of a call.
function call, FRAME_SIZEOF
        .cfi_def_cfa sp, FRAME_SIZEOF
        .cfi_undefined x30
        mrs     x0, elr_el2
        mrs     x1, spsr_el2
        call_pairs stp
        stp     x0, x1, [sp, #FRAME_elr]
        mov     x0, sp
        mov     x29, xzr
        mov     x30, xzr
        bl      el2_call
        ldp     x0, x1, [sp, #FRAME_elr]
        msr     elr_el2, x0
        msr     spsr_el2, x1
        stay_ends
        call_pairs ldp
        ldp     x0, x1, [sp, #FRAME_x]
        add     sp, sp, #FRAME_SIZEOF
        .cfi_def_cfa_offset 0
        eret
        dsb     nsh
        isb
endfunction call

// enter_lower(x0 = Frame): runs the lower exception level from that state. Whoever called it is forgotten: the next exception starts on an
// empty stack.
function enter_lower
        .cfi_undefined x30
        mrs     x1, tpidr_el2
        ldr     x1, [x1, #CPU_stack_top]
        mov     sp, x1
.Lresume_lower:
        ldr     x1, [x0, #FRAME_elr]
        ldr     x2, [x0, #FRAME_spsr]
        msr     elr_el2, x1
        msr     spsr_el2, x2
        stay_ends
        frame_pairs ldp, x0
        ldr     x30, [x0, #FRAME_x + 8 * 30]
        ldp     x0, x1, [x0, #FRAME_x]
        eret
        dsb     nsh                             // nothing is to be speculated beyond the return
        isb
endfunction enter_lower

// --- guests: vectors, the general registers ------------------------------------------------------------------------------------
//
// While a guest runs, SP_EL2 lies where guest_enter left it, on the stack of the host's call, and VBAR_EL2 names the table below. Everything that
// a guest's exit runs before its mitigation is free of indirect branches, as all of EL2 is but for its returns.

        .equ    ENTER_BYTES, 128
        .equ    ENTER_GENERAL, 96
        .equ    ENTER_X18, 112
        .equ    GENERAL_SP, 8 * 31
        .equ    MITIGATE_FIRMWARE, 20
        .equ    MITIGATE_CLEAR, 21
        .equ    EC_HVC32, 0x12
        .equ    WORKAROUND_1, 0x80008000
        .equ    WORKAROUND_2, 0x80007fff
        .equ    WORKAROUND_3, 0x80003fff
        .if     FRAME_x
        .error  "general registers are saved by one macro into a Frame and into struct user_pt_regs, which both begin with x0"
        .endif

.macro from_guest kind
        .balign 128
        hint    #16                             // esb: an SError of the guest's own must not be taken for one of the host's (FEAT_RAS)
        stp     x0, x1, [sp, #-16]!
        stay_begins 1, 0
        mov     x1, #\kind
        b       guest_exit
.endm

        .section .text.vectors, "ax", %progbits
        .balign 2048
        .globl  guest_vectors
guest_vectors:
        from_el2 0
        from_el2 1
        from_el2 2
        from_el2 3
        from_el2 0
        from_el2 1
        from_el2 2
        .balign 128
        b       serror_at_el2
        from_guest 0
        from_guest 1
        from_guest 2
        from_guest 3
        from_guest 4
        from_guest 5
        from_guest 6
        from_guest 7
        .balign 128
        .text

// guest_enter(x0 = x0 to x30 and SP_EL0 of the guest) -> x0 = through which vector it left
function guest_enter, ENTER_BYTES+16
        stp     x29, x30, [sp, #-ENTER_BYTES]!
        .cfi_def_cfa_offset ENTER_BYTES
        .cfi_offset x29, -ENTER_BYTES
        .cfi_offset x30, -(ENTER_BYTES - 8)
        mov     x29, sp
        stp     x19, x20, [sp, #16]
        stp     x21, x22, [sp, #32]
        stp     x23, x24, [sp, #48]
        stp     x25, x26, [sp, #64]
        stp     x27, x28, [sp, #80]
        str     x18, [sp, #ENTER_X18]
        mrs     x1, sp_el0
        stp     x0, x1, [sp, #ENTER_GENERAL]
        ldr     x1, [x0, #GENERAL_SP]
        msr     sp_el0, x1
        stay_ends
        frame_pairs ldp, x0
        ldr     x30, [x0, #FRAME_x + 8 * 30]
        ldp     x0, x1, [x0, #FRAME_x]
        eret
        dsb     nsh                             // nothing is to be speculated beyond the return
        isb
endfunction guest_enter

// A guest left: its x0 and x1 are on the stack, x1 = which vector.
function guest_exit
        .cfi_def_cfa sp, ENTER_BYTES+16
        .cfi_offset x29, -ENTER_BYTES
        .cfi_offset x30, -(ENTER_BYTES - 8)
        mrs     x0, tpidr_el2
        ldr     x0, [x0, #CPU_mitigation]
        cbnz    x0, .Lmitigate
.Lmitigated:
        ldr     x0, [sp, #16 + ENTER_GENERAL]
        frame_pairs stp, x0
        str     x30, [x0, #FRAME_x + 8 * 30]
        ldp     x2, x3, [sp], #16
        .cfi_def_cfa_offset ENTER_BYTES
        stp     x2, x3, [x0, #FRAME_x]
        mrs     x2, sp_el0
        str     x2, [x0, #GENERAL_SP]
        ldr     x2, [sp, #ENTER_GENERAL + 8]
        msr     sp_el0, x2
        ldr     x18, [sp, #ENTER_X18]
        ldp     x19, x20, [sp, #16]
        ldp     x21, x22, [sp, #32]
        ldp     x23, x24, [sp, #48]
        ldp     x25, x26, [sp, #64]
        ldp     x27, x28, [sp, #80]
        mov     x0, x1
        ldp     x29, x30, [sp], #ENTER_BYTES
        .cfi_restore x29
        .cfi_restore x30
        .cfi_def_cfa_offset 0
        ret

        // What a guest trained the branch predictors to do is forgotten before anything is predicted by them (Arm's Spectre-BHB and Spectre-v2
        // advisories). x0 = what this processor needs (arch/mitigation.py), x1 = which vector. A guest that asks for the same by a call has its answer.
.Lmitigate:
        .cfi_def_cfa sp, ENTER_BYTES+16
        .cfi_offset x29, -ENTER_BYTES
        .cfi_offset x30, -(ENTER_BYTES - 8)
        tbnz    x0, #MITIGATE_CLEAR, 2f
        tbnz    x0, #MITIGATE_FIRMWARE, 3f
1:      b       4f                              // the loop of the advisory: taken branches, as many as the history holds
4:      subs    x0, x0, #1
        b.ne    1b
        dsb     nsh
        isb
        b       .Lmitigated
2:      hint    #22                             // clrbhb
        isb
        b       .Lmitigated
3:      stp     x2, x3, [sp, #-16]!
        .cfi_def_cfa_offset ENTER_BYTES+32
        stp     x1, x0, [sp, #-16]!
        .cfi_def_cfa_offset ENTER_BYTES+48
        ldr     w0, [sp, #8]
        and     w0, w0, #~(1 << MITIGATE_FIRMWARE)
        orr     w0, w0, #(1 << 31)              // the fast call whose low bits the flag carries
        smc     #0
        ldp     x1, x0, [sp], #16
        .cfi_def_cfa_offset ENTER_BYTES+32
        ldp     x2, x3, [sp], #16
        .cfi_def_cfa_offset ENTER_BYTES+16
        tst     x1, #3                          // synchronous, from either state
        b.ne    .Lmitigated
        mrs     x0, esr_el2
        lsr     x0, x0, #26
        cmp     x0, #EC_HVC64
        ccmp    x0, #EC_HVC32, #4, ne
        b.ne    .Lmitigated
        ldr     x0, [sp]
        str     x2, [sp, #-16]!
        .cfi_def_cfa_offset ENTER_BYTES+32
        ldr     w2, =WORKAROUND_1
        cmp     w0, w2
        b.eq    5f
        ldr     w2, =WORKAROUND_2
        cmp     w0, w2
        b.eq    5f
        ldr     w2, =WORKAROUND_3
        cmp     w0, w2
        b.eq    5f
        ldr     x2, [sp], #16
        .cfi_def_cfa_offset ENTER_BYTES+16
        b       .Lmitigated
5:      ldr     x2, [sp], #16
        ldp     x0, x1, [sp], #16
        mov     x0, xzr
        eret
        dsb     nsh
        isb
endfunction guest_exit

// An SError at EL2 while a guest's traps are in place: take_serror waits for it at one place only.
function serror_at_el2
        .cfi_undefined x30
        stp     x0, x1, [sp, #-16]!
        mrs     x0, elr_el2
        address x1, .Lserror_window
        cmp     x0, x1
        b.eq    1f
        add     x1, x1, #4
        cmp     x0, x1
        b.eq    1f
        ldp     x0, x1, [sp], #16
        b       serror_is_fatal
1:      ldp     x0, x1, [sp], #16
        address x0, .Lserror_taken
        msr     elr_el2, x0
        eret
        dsb     nsh
        isb
        .balign 128
serror_is_fatal:
        from_el2 3
endfunction serror_at_el2

// take_serror() -> x0 = 1 where a physical SError was pending, which is taken here: its cause is what ran before. The syndrome of the exit is kept.
function take_serror
        dsb     sy
        isb
        mrs     x0, isr_el1
        tbnz    x0, #8, 1f
        mov     x0, #0
        ret
1:      mrs     x2, elr_el2
        mrs     x3, spsr_el2
        mrs     x4, esr_el2
        mrs     x5, far_el2
        mov     x6, x30
        .cfi_register x30, x6
        msr     daifclr, #4
.Lserror_window:
        isb
        msr     daifset, #4
        mov     x0, #0
        b       2f
.Lserror_taken:
        msr     daifset, #4
        mov     x0, #1
2:      msr     elr_el2, x2
        msr     spsr_el2, x3
        msr     esr_el2, x4
        msr     far_el2, x5
        ret     x6
endfunction take_serror

edge guest_vectors_address, guest_vectors

// --- guests: the other registers -------------------------------------------------------------------------------------------------
//
// x0 = a guest's base, x1 = its Places, x2 = the CPU's World (arch/world.py). Nothing is checked here: who fills in a Places has.

        .equ    TCR_EPD0, 1 << 7
        .equ    TCR_EPD1, 1 << 23
        .equ    HSTR_T15, 1 << 15

.macro places_in_a_row a, b
        .if     PLACES_\b - PLACES_\a - 8
        .error  "Places: \b does not follow \a"
        .endif
.endm

.macro keep a, b, register_a, register_b
        mrs     x3, \register_a
        mrs     x4, \register_b
        stp     x3, x4, [x2, #WORLD_\a]
        .if     WORLD_\b - WORLD_\a - 8
        .error  "World: \b does not follow \a"
        .endif
.endm

.macro bring a, b, register_a, register_b
        ldp     x3, x4, [x2, #WORLD_\a]
        msr     \register_a, x3
        msr     \register_b, x4
.endm

.macro load_guest a, b, register_a, register_b
        places_in_a_row \a, \b
        ldp     x3, x4, [x1, #PLACES_\a]
        ldr     x5, [x0, x3]
        ldr     x6, [x0, x4]
        msr     \register_a, x5
        msr     \register_b, x6
.endm

.macro save_guest a, b, register_a, register_b
        ldp     x3, x4, [x1, #PLACES_\a]
        mrs     x5, \register_a
        mrs     x6, \register_b
        str     x5, [x0, x3]
        str     x6, [x0, x4]
.endm

// The registers that both worlds have and that go through no other order than this.
.macro shared_registers do
        \do     csselr, cpacr, csselr_el1, cpacr_el1
        \do     ttbr0, ttbr1, ttbr0_el1, ttbr1_el1
        \do     esr, afsr0, esr_el1, afsr0_el1
        \do     afsr1, far, afsr1_el1, far_el1
        \do     mair, vbar, mair_el1, vbar_el1
        \do     contextidr, amair, contextidr_el1, amair_el1
        \do     cntkctl, par, cntkctl_el1, par_el1
        \do     tpidr1, sp1, tpidr_el1, sp_el1
        \do     elr1, spsr1, elr_el1, spsr_el1
        \do     mdscr, tpidr0, mdscr_el1, tpidr_el0
.endm

// No walk of EL1's stage 1 may begin from here on; x3 = TCR_EL1, x4 = SCTLR_EL1 as they were.
.macro forbid_walks
        mrs     x3, tcr_el1
        mrs     x4, sctlr_el1
        orr     x5, x3, #TCR_EPD0
        orr     x5, x5, #TCR_EPD1
        msr     tcr_el1, x5
        isb
        orr     x5, x4, #1
        msr     sctlr_el1, x5
        isb
.endm

function to_guest
        forbid_walks
        stp     x4, x3, [x2, #WORLD_sctlr]
        shared_registers keep
        shared_registers load_guest
        mrs     x3, tpidrro_el0
        mrs     x4, vmpidr_el2
        stp     x3, x4, [x2, #WORLD_tpidrro]
        ldp     x3, x4, [x1, #PLACES_tpidrro]
        ldr     x3, [x0, x3]
        ldr     x4, [x0, x4]
        msr     tpidrro_el0, x3
        msr     vmpidr_el2, x4

        mrs     x3, hcr_el2
        mrs     x4, vtcr_el2
        stp     x3, x4, [x2, #WORLD_host_hcr]
        mrs     x3, vttbr_el2
        mrs     x4, cptr_el2
        stp     x3, x4, [x2, #WORLD_host_vttbr]
        mrs     x3, mdcr_el2
        mrs     x4, cnthctl_el2
        stp     x3, x4, [x2, #WORLD_host_mdcr]
        bring   hcr, vtcr, hcr_el2, vtcr_el2
        bring   vttbr, cptr, vttbr_el2, cptr_el2
        bring   mdcr, cnthctl, mdcr_el2, cnthctl_el2
        bring   elr, spsr, elr_el2, spsr_el2
        mov     x3, #HSTR_T15
        msr     hstr_el2, x3
        address x3, guest_vectors
        msr     vbar_el2, x3
        isb
        places_in_a_row sctlr, tcr
        ldp     x3, x4, [x1, #PLACES_sctlr]
        ldr     x3, [x0, x3]
        ldr     x4, [x0, x4]
        msr     sctlr_el1, x3
        isb
        msr     tcr_el1, x4
        ret
endfunction to_guest

function to_host
        forbid_walks
        ldp     x5, x6, [x1, #PLACES_sctlr]
        str     x4, [x0, x5]
        str     x3, [x0, x6]
        shared_registers save_guest
        ldr     x3, [x1, #PLACES_tpidrro]
        mrs     x4, tpidrro_el0
        str     x4, [x0, x3]

        bring   host_hcr, host_vtcr, hcr_el2, vtcr_el2
        bring   host_vttbr, host_cptr, vttbr_el2, cptr_el2
        bring   host_mdcr, host_cnthctl, mdcr_el2, cnthctl_el2
        msr     hstr_el2, xzr
        address x3, vectors
        msr     vbar_el2, x3
        shared_registers bring
        bring   tpidrro, vmpidr, tpidrro_el0, vmpidr_el2
        isb
        ldp     x3, x4, [x2, #WORLD_sctlr]
        msr     sctlr_el1, x3
        isb
        msr     tcr_el1, x4
        ret
endfunction to_host

.macro shared_registers32 do
        \do     spsr_abt, spsr_und, spsr_abt, spsr_und
        \do     spsr_irq, spsr_fiq, spsr_irq, spsr_fiq
        \do     dacr32, ifsr32, dacr32_el2, ifsr32_el2
        \do     fpexc32, dbgvcr32, fpexc32_el2, dbgvcr32_el2
.endm

function registers32_load
        shared_registers32 load_guest
        ret
endfunction registers32_load

function registers32_save
        shared_registers32 save_guest
        ret
endfunction registers32_save

// ask(x0 = base, x1 = Places, x2 = Asked, x3 = the kernel's kvm_s2_mmu)
.macro ask_pair a, b, op
        places_in_a_row \a, \b
        ldp     x4, x5, [x1, #PLACES_\a]
        .ifc    \op, ldr
        ldr     x6, [x0, x4]
        ldr     x7, [x0, x5]
        .else
        \op     w6, [x0, x4]
        \op     w7, [x0, x5]
        .endif
        stp     x6, x7, [x2, #ASKED_\a]
.endm

function ask
        ask_pair hcr, mdcr, ldr
        ldr     x4, [x1, #PLACES_hw_mmu]
        ldr     x6, [x0, x4]
        str     x6, [x2, #ASKED_hw_mmu]
        ask_pair iflags, cflags, ldrb
        places_in_a_row gic_hcr, gic_sre
        ldp     x4, x5, [x1, #PLACES_gic_hcr]
        ldr     w6, [x0, x4]
        ldr     w7, [x0, x5]
        stp     x6, x7, [x2, #ASKED_gic_hcr]
        places_in_a_row used_lrs, its_vm
        ldp     x4, x5, [x1, #PLACES_used_lrs]
        ldr     w6, [x0, x4]
        ldr     x7, [x0, x5]
        stp     x6, x7, [x2, #ASKED_used_lrs]
        ask_pair pc, pstate, ldr
        places_in_a_row mmu_pgd, mmu_vmid
        ldp     x4, x5, [x1, #PLACES_mmu_pgd]
        ldr     x6, [x3, x4]
        ldr     x7, [x3, x5]
        stp     x6, x7, [x2, #ASKED_mmu_pgd]
        ret
endfunction ask

// answer(x0 = base, x1 = Places, x2 = program counter, x3 = PSTATE)
function answer
        ldp     x4, x5, [x1, #PLACES_pc]
        str     x2, [x0, x4]
        str     x3, [x0, x5]
        ret
endfunction answer

// answer_fault(x0 = base, x1 = Places, x2 = ESR, x3 = FAR, x4 = HPFAR)
function answer_fault
        places_in_a_row fault_esr, fault_far
        places_in_a_row fault_far, fault_hpfar
        ldp     x5, x6, [x1, #PLACES_fault_esr]
        ldr     x7, [x1, #PLACES_fault_hpfar]
        str     x2, [x0, x5]
        str     x3, [x0, x6]
        str     x4, [x0, x7]
        ret
endfunction answer_fault

function answer_word
        str     x2, [x0, x1]
        ret
endfunction answer_word

function answer_half
        str     w2, [x0, x1]
        ret
endfunction answer_half

function answer_byte
        strb    w2, [x0, x1]
        ret
endfunction answer_byte

function asked_word
        ldr     x0, [x0, x1]
        ret
endfunction asked_word

function asked_half
        ldr     w0, [x0, x1]
        ret
endfunction asked_half

// keys_of_guest(x0 = base, x1 = Places, x2 = 1 to save, 0 to load); keys_of_host(x0 = ten words, x1 likewise)
        .equ    KEYS, 5
.macro each_key do
        \do     apia_low, apia_high, s3_0_c2_c1_0, s3_0_c2_c1_1
        \do     apib_low, apib_high, s3_0_c2_c1_2, s3_0_c2_c1_3
        \do     apda_low, apda_high, s3_0_c2_c2_0, s3_0_c2_c2_1
        \do     apdb_low, apdb_high, s3_0_c2_c2_2, s3_0_c2_c2_3
        \do     apga_low, apga_high, s3_0_c2_c3_0, s3_0_c2_c3_1
.endm

function keys_of_guest
        cbz     w2, 1f
        each_key save_guest
        ret
1:      each_key load_guest
        ret
endfunction keys_of_guest

.macro keep_key low, high, register_low, register_high
        mrs     x3, \register_low
        mrs     x4, \register_high
        stp     x3, x4, [x0], #16
.endm

.macro bring_key low, high, register_low, register_high
        ldp     x3, x4, [x0], #16
        msr     \register_low, x3
        msr     \register_high, x4
.endm

function keys_of_host
        cbz     w1, 1f
        each_key keep_key
        ret
1:      each_key bring_key
        ret
endfunction keys_of_host

// debug_load(x0 = controls and values of breakpoints, then of watchpoints, sixteen of each; x1, x2 = how many of either are there)
.macro debug_rows do, register, count
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        \do     \register, \n, \count
        .endr
9:
.endm

.macro debug_in register, n, count
        cmp     \count, #\n
        b.ls    9f
        ldr     x3, [x0, #8 * \n]
        msr     \register\n\()_el1, x3
.endm

.macro debug_out register, n, count
        cmp     \count, #\n
        b.ls    9f
        mrs     x3, \register\n\()_el1
        str     x3, [x0, #8 * \n]
.endm

.macro debug_all do
        debug_rows \do, dbgbcr, x1
        add     x0, x0, #128
        debug_rows \do, dbgbvr, x1
        add     x0, x0, #128
        debug_rows \do, dbgwcr, x2
        add     x0, x0, #128
        debug_rows \do, dbgwvr, x2
.endm

function debug_load
        debug_all debug_in
        ret
endfunction debug_load

function debug_save
        debug_all debug_out
        ret
endfunction debug_save

function debug_keep
        b       debug_save
endfunction debug_keep

function debug_bring
        b       debug_load
endfunction debug_bring

operation profiling_sync, hint #17
operation trace_sync, hint #18

// list_registers_load(x0 = list registers in memory, x1 = how many, 1 to 16). By name: ICH_LR<n>_EL2 is S3_4_C12_C12_<n> up to 7, then C13.
.macro list_register_in register
        ldr     x2, [x0], #8
        msr     \register, x2
        subs    x1, x1, #1
        b.eq    9f
.endm

.macro list_register_out register
        mrs     x2, \register
        str     x2, [x0], #8
        msr     \register, xzr
        subs    x1, x1, #1
        b.eq    9f
.endm

.macro list_registers do
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7
        \do     s3_4_c12_c12_\n
        .endr
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7
        \do     s3_4_c12_c13_\n
        .endr
9:      ret
.endm

function list_registers_load
        list_registers list_register_in
endfunction list_registers_load

function list_registers_save
        list_registers list_register_out
endfunction list_registers_save

// --- when EL2 itself fails --------------------------------------------------------------------------------------------------

// Both ways in lay the same record at the new stack pointer: {x29, x30} of the failing code, its stack pointer, and above it a Frame.
.macro crash_cfi
        .cfi_escape 0x0f, 0x03, 0x8d, 0x10, 0x06        // CFA: the stack pointer kept at x29 + 16
        .cfi_escape 0x10, 0x1d, 0x02, 0x8d, 0x00        // x29 is kept at x29
        .cfi_escape 0x10, 0x1e, 0x02, 0x8d, 0x08        // x30 is kept at x29 + 8
.endm

// __trap(x0 = site, x1, x2 = operands): a check in compiled code failed. Always on the emergency stack, so that no function needs room for
// the report on the stack that the check bounds.
function __trap, FRAME_SIZEOF+32
        mrs     x16, tpidr_el2
        mov     x17, sp
        cbz     x16, 1f
        ldr     x17, [x16, #CPU_crashing]
        cbnz    x17, park                       // the report itself failed
        mov     x17, #1
        str     x17, [x16, #CPU_crashing]
        ldr     x17, [x16, #CPU_emergency_top]
1:      sub     x17, x17, #FRAME_SIZEOF + 32
        stp     x29, x30, [x17]
        mov     x16, sp
        str     x16, [x17, #16]
        add     x16, x17, #32
        stp     x0, x1, [x16, #FRAME_x]
        frame_pairs stp, x16
        str     x30, [x16, #FRAME_x + 8 * 30]
        mov     sp, x17
        mov     x29, sp
        crash_cfi
        sub     x3, x30, #4
        str     x3, [x16, #FRAME_elr]
        ldr     x3, [x17, #16]
        str     x3, [x16, #FRAME_sp]
        mov     x3, x16
        bl      trap_report
        bl      el2_farewell
endfunction __trap

// An exception from EL2 itself: x0 = a Frame on the emergency stack, x1 = which vector, x1 saved, x0 in TPIDRRO_EL0.
function crash, FRAME_SIZEOF+32
        frame_pairs stp, x0
        cbnz    x1, 1f                          // not synchronous
        mrs     x2, elr_el2
        address x3, .Lwalks
        sub     x2, x2, x3
        cmp     x2, #.Lwalks_end - .Lwalks
        b.hs    1f
        address x2, walk_failed
        msr     elr_el2, x2
        frame_pairs ldp, x0
        ldr     x1, [x0, #FRAME_x + 8]
        eret
        dsb     nsh
        isb
1:
        str     x30, [x0, #FRAME_x + 8 * 30]
        mrs     x2, tpidrro_el0
        str     x2, [x0, #FRAME_x]
        mov     x2, sp
        str     x2, [x0, #FRAME_sp]
        mrs     x2, tpidr_el2
        ldr     x3, [x2, #CPU_crashing]
        cbnz    x3, park
        mov     x3, #1
        str     x3, [x2, #CPU_crashing]
        save_syndrome x0, x2, x3
        sub     x3, x0, #32
        mrs     x2, elr_el2
        add     x2, x2, #4                      // as if the failing instruction had been a call
        stp     x29, x2, [x3]
        mov     x2, sp
        str     x2, [x3, #16]
        mov     sp, x3
        mov     x29, sp
        crash_cfi
        bl      crash_report
        bl      el2_farewell
endfunction crash

// park(): this CPU does nothing ever again.
function park
        .cfi_undefined x30
        msr     daifset, #0xf
1:      wfi
        b       1b
endfunction park

// --- locks ------------------------------------------------------------------------------------------------------------------

// lock_acquire(x0 = {u32 next; u32 owner}): takes a ticket and waits for its turn. The load-acquire exclusive of `owner` arms the monitor
// that the releasing store clears, which is what ends wfe. Once EL2 is stopping nobody may wait: the owner may be gone.
function lock_acquire
        prfm    pstl1keep, [x0]
1:      ldaxr   w1, [x0]
        add     w2, w1, #1
        stxr    w3, w2, [x0]
        cbnz    w3, 1b
        add     x0, x0, #4
2:      ldaxr   w2, [x0]
        cmp     w1, w2
        b.eq    4f
        address x3, delphyne.el2.control.stop.STOPPING
        ldr     w3, [x3]
        cbnz    w3, 3f
        wfe
        b       2b
3:      b       el2_stopped
4:      ret
endfunction lock_acquire

function lock_release
        ldr     w1, [x0, #4]
        add     w1, w1, #1
        add     x0, x0, #4
        stlr    w1, [x0]
        ret
endfunction lock_release

// frames_tickets() -> x0: of frames.LOCK, which the caller holds, `owner` in bits 63:32 and `next` in 31:0. Others take tickets meanwhile: a hint.
function frames_tickets
        address x1, delphyne.el2.memory.frames.LOCK
        ldp     w0, w1, [x1]
        orr     x0, x0, x1, lsl #32
        ret
endfunction frames_tickets

// nospec(x0 = index, x1 = limit): the index, or 0 where it is not below the limit, also while the comparison is only predicted.
function nospec
        cmp     x0, x1
        csel    x0, x0, xzr, lo
        hint    #20                             // csdb
        ret
endfunction nospec

function wake_all
        dsb     ish
        sev
        ret
endfunction wake_all

operation wait_for_event, wfe

// --- device registers: one plain load or store each, which a hypervisor below could emulate --------------------------------------

operation mmio_read8, ldrb w0, [x0]
operation mmio_read32, ldr w0, [x0]
operation mmio_read64, ldr x0, [x0]
operation mmio_write8, strb w1, [x0]
operation mmio_write32, str w1, [x0]
operation mmio_write64, str x1, [x0]

// --- firmware -------------------------------------------------------------------------------------------------------------

// smc_call(function, x1, x2, x3) -> x0; hvc_call likewise, for a program that runs at EL1 (SMC Calling Convention, 64-bit).
function smc_call
        smc     #0
        ret
endfunction smc_call

// smc_relay(x0 = Frame): the SMC with x0 to x17 of the frame, and what they are afterwards into it. x18 to x30 are the firmware's to keep.
function smc_relay, 32
        stp     x29, x30, [sp, #-32]!
        .cfi_def_cfa_offset 32
        .cfi_offset x29, -32
        .cfi_offset x30, -24
        mov     x29, sp
        str     x0, [sp, #16]
        mov     x30, x0
        ldp     x2, x3, [x30, #FRAME_x + 8 * 2]
        ldp     x4, x5, [x30, #FRAME_x + 8 * 4]
        ldp     x6, x7, [x30, #FRAME_x + 8 * 6]
        ldp     x8, x9, [x30, #FRAME_x + 8 * 8]
        ldp     x10, x11, [x30, #FRAME_x + 8 * 10]
        ldp     x12, x13, [x30, #FRAME_x + 8 * 12]
        ldp     x14, x15, [x30, #FRAME_x + 8 * 14]
        ldp     x16, x17, [x30, #FRAME_x + 8 * 16]
        ldp     x0, x1, [x30, #FRAME_x]
        smc     #0
        ldr     x30, [sp, #16]
        stp     x0, x1, [x30, #FRAME_x]
        stp     x2, x3, [x30, #FRAME_x + 8 * 2]
        stp     x4, x5, [x30, #FRAME_x + 8 * 4]
        stp     x6, x7, [x30, #FRAME_x + 8 * 6]
        stp     x8, x9, [x30, #FRAME_x + 8 * 8]
        stp     x10, x11, [x30, #FRAME_x + 8 * 10]
        stp     x12, x13, [x30, #FRAME_x + 8 * 12]
        stp     x14, x15, [x30, #FRAME_x + 8 * 14]
        stp     x16, x17, [x30, #FRAME_x + 8 * 16]
        ldp     x29, x30, [sp], #32
        .cfi_restore x29
        .cfi_restore x30
        .cfi_def_cfa_offset 0
        ret
endfunction smc_relay

function hvc_call
        hvc     #0
        ret
endfunction hvc_call

// random_number() -> x0: RNDRRS, which says by PSTATE.Z that it had nothing in time. 0 then.
function random_number
        mrs     x0, s3_3_c2_c4_1
        csel    x0, xzr, x0, eq
        ret
endfunction random_number

// --- addresses of the image -------------------------------------------------------------------------------------------------

edge image_start, __image_start
edge image_text_end, __text_end
edge image_rodata_end, __rodata_end
edge image_data_end, __bss_end
edge image_stacks_start, __stacks_start
edge image_end, __image_end
edge image_sites_start, __sites_start
edge image_sites_end, __sites_end
edge secondary_entry_address, secondary_entry
edge demo_page_address, demo_page

// --- TLB, cache and address translation (delphyne/lang/hw.py) ----------------------------------------------------------------
//
// No barriers: the caller places them (memory/flush.py). TLBI by address takes bits 55:12 of the address in bits 43:0; what lies above in a
// canonical or intermediate address must not reach the fields there (TTL, ASID).

.macro tlbi_address name, operation
function \name
        ubfx    x0, x0, #12, #44
        tlbi    \operation, x0
        ret
endfunction \name
.endm

tlbi_address tlbi_ipas2e1is, ipas2e1is
tlbi_address tlbi_ipas2le1is, ipas2le1is
tlbi_address tlbi_ipas2e1, ipas2e1
tlbi_address tlbi_vae2is, vae2is
tlbi_address tlbi_vale2is, vale2is
tlbi_address tlbi_vae2, vae2
operation tlbi_vmalle1is, tlbi vmalle1is
operation tlbi_vmalle1, tlbi vmalle1
operation tlbi_vmalls12e1is, tlbi vmalls12e1is
operation tlbi_vmalls12e1, tlbi vmalls12e1
operation tlbi_alle1is, tlbi alle1is
operation tlbi_alle1, tlbi alle1
operation tlbi_alle2is, tlbi alle2is
operation tlbi_alle2, tlbi alle2
operation dc_civac, dc civac, x0
operation dc_cvac, dc cvac, x0
operation dc_cvau, dc cvau, x0
operation dc_ivac, dc ivac, x0
operation dc_zva, dc zva, x0
operation ic_ialluis, ic ialluis
operation ic_iallu, ic iallu
operation ic_ivau, ic ivau, x0
operation at_s1e2r, at s1e2r, x0
operation at_s1e2w, at s1e2w, x0

// Functions of (x0 = a line, x1 = end, x2 = bytes of a line), which do one thing or two to each line: 32 lines at a time, while there are as many
// below the end. A page is two or four rounds.
.macro by_lines name, first, second=
function \name
1:      add     x3, x0, x2, lsl #5
        cmp     x3, x1
        b.hi    3f
        .rept   32
        dc      \first, x0
        .ifnb   \second
        dc      \second, x0
        .endif
        add     x0, x0, x2
        .endr
        b       1b
2:      dc      \first, x0
        .ifnb   \second
        dc      \second, x0
        .endif
        add     x0, x0, x2
3:      cmp     x0, x1
        b.lo    2b
        ret
endfunction \name
.endm

by_lines clean_lines, civac
by_lines zero_blocks, zva
by_lines clear_lines, zva, civac

// Translations by tables that are a lower level's. Where such a table lies in memory that answers with an external abort, the instruction itself
// raises that abort at EL2 (Arm ARM D8.15, AArch64.AddressTranslation in its pseudocode). `crash` knows these functions by their addresses and goes on
// at walk_failed; what it and the processor spoil until then is kept here. Nothing else in them can raise an exception.
.macro walk instruction:vararg
        mrs     x1, tpidrro_el0
        mrs     x2, elr_el2
        mrs     x3, spsr_el2
        mrs     x4, esr_el2
        mrs     x5, far_el2
        mrs     x6, hpfar_el2
        \instruction
        ret
.endm

.Lwalks:
function at_s12e1r
        walk    at s12e1r, x0
endfunction at_s12e1r
function at_s12e1w
        walk    at s12e1w, x0
endfunction at_s12e1w
function at_s1e1r
        walk    at s1e1r, x0
endfunction at_s1e1r
function at_s1e1w
        walk    at s1e1w, x0
endfunction at_s1e1w
.Lwalks_end:

        .equ    PAR_WALK_ABORT, 0x14 << 1 | 1   // F; FST: external abort on a walk, level 0

// The rest of a translation that raised an external abort: PAR_EL1 says so.
function walk_failed
        msr     tpidrro_el0, x1
        msr     elr_el2, x2
        msr     spsr_el2, x3
        msr     esr_el2, x4
        msr     far_el2, x5
        msr     hpfar_el2, x6
        mov     x0, #PAR_WALK_ABORT
        msr     par_el1, x0
        ret
endfunction walk_failed

// --- SIMD registers ---------------------------------------------------------------------------------------------------------

// simd_enter(x0 = SimdArea): CPTR_EL2 is kept and its traps of EL2's own accesses taken away, then everything that Advanced SIMD instructions
// change is saved: it may be the host's or a guest's. Where there are scalable vectors, an Advanced SIMD write zeroes what lies above its 128
// bits, so whole vectors are saved; EL2's vector length is what it lets lower levels have at most. Streaming mode, in which most of these
// instructions do not exist, is left, which zeroes vectors and predicates. ZA is not touched by any of this. Predicates and FFR are not
// touched outside streaming mode, and in streaming mode there is no FFR to save.
.macro simd_pairs op
        \op     q0, q1, [x1], #32
        \op     q2, q3, [x1], #32
        \op     q4, q5, [x1], #32
        \op     q6, q7, [x1], #32
        \op     q8, q9, [x1], #32
        \op     q10, q11, [x1], #32
        \op     q12, q13, [x1], #32
        \op     q14, q15, [x1], #32
        \op     q16, q17, [x1], #32
        \op     q18, q19, [x1], #32
        \op     q20, q21, [x1], #32
        \op     q22, q23, [x1], #32
        \op     q24, q25, [x1], #32
        \op     q26, q27, [x1], #32
        \op     q28, q29, [x1], #32
        \op     q30, q31, [x1], #32
.endm

.macro scalable_vectors op
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
        \op     z\n, [x1, #\n, mul vl]
        .endr
.endm

.macro predicates op
        .irp    n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
        \op     p\n, [x1, #\n, mul vl]
        .endr
.endm

        .equ    CPTR_TZ, 1 << 8
        .equ    CPTR_TFP, 1 << 10
        .equ    CPTR_TSM, 1 << 12
        .equ    SVCR_SM_BIT, 0

        .arch_extension sve
        .arch_extension sme

function simd_enter
        mrs     x2, cptr_el2
        str     x2, [x0, #SIMD_AREA_traps]
        bic     x2, x2, #CPTR_TFP
        bic     x2, x2, #CPTR_TZ
        bic     x2, x2, #CPTR_TSM
        msr     cptr_el2, x2
        isb
        mrs     x2, fpcr
        mrs     x3, fpsr
        str     x2, [x0, #SIMD_AREA_fpcr]
        str     x3, [x0, #SIMD_AREA_fpsr]
        add     x1, x0, #SIMD_AREA_registers
        mrs     x2, id_aa64pfr1_el1
        ubfx    x2, x2, #24, #4                 // SME
        cbz     x2, 1f
        mrs     x2, svcr
        str     x2, [x0, #SIMD_AREA_streaming]
        tbz     x2, #SVCR_SM_BIT, 1f
        scalable_vectors str
        add     x1, x0, #SIMD_AREA_predicates
        predicates str
        smstop  sm
        ret
1:      mrs     x2, id_aa64pfr0_el1
        ubfx    x2, x2, #32, #4                 // SVE
        cbz     x2, 2f
        scalable_vectors str
        ret
2:      simd_pairs stp
        ret
endfunction simd_enter

function simd_leave
        add     x1, x0, #SIMD_AREA_registers
        mrs     x2, id_aa64pfr1_el1
        ubfx    x2, x2, #24, #4
        cbz     x2, 1f
        ldr     x2, [x0, #SIMD_AREA_streaming]
        tbz     x2, #SVCR_SM_BIT, 1f
        smstart sm
        scalable_vectors ldr
        add     x1, x0, #SIMD_AREA_predicates
        predicates ldr
        b       3f
1:      mrs     x2, id_aa64pfr0_el1
        ubfx    x2, x2, #32, #4
        cbz     x2, 2f
        scalable_vectors ldr
        b       3f
2:      simd_pairs ldp
3:      ldr     x2, [x0, #SIMD_AREA_fpcr]
        ldr     x3, [x0, #SIMD_AREA_fpsr]
        msr     fpcr, x2
        msr     fpsr, x3
        ldr     x2, [x0, #SIMD_AREA_traps]
        msr     cptr_el2, x2
        isb
        ret
endfunction simd_leave

// fp_load(x0 = struct user_fpsimd_state), fp_save likewise
        .equ    FP_STATUS, 512

function fp_load
        mov     x1, x0
        simd_pairs ldp
        ldr     w2, [x0, #FP_STATUS]
        ldr     w3, [x0, #FP_STATUS + 4]
        msr     fpsr, x2
        msr     fpcr, x3
        ret
endfunction fp_load

function fp_save
        mov     x1, x0
        simd_pairs stp
        mrs     x2, fpsr
        mrs     x3, fpcr
        str     w2, [x0, #FP_STATUS]
        str     w3, [x0, #FP_STATUS + 4]
        ret
endfunction fp_save

// sve_load(x0 = Z0.. P0.. FFR, x1 = bytes in a vector, x2 = struct user_fpsimd_state for the status), sve_save likewise
function sve_load
        mov     x4, x1
        mov     x1, x0
        scalable_vectors ldr
        add     x1, x0, x4, lsl #5
        ldr     p0, [x1, #16, mul vl]
        wrffr   p0.b
        predicates ldr
        ldr     w3, [x2, #FP_STATUS]
        ldr     w4, [x2, #FP_STATUS + 4]
        msr     fpsr, x3
        msr     fpcr, x4
        ret
endfunction sve_load

function sve_save
        mov     x4, x1
        mov     x1, x0
        scalable_vectors str
        add     x1, x0, x4, lsl #5
        predicates str
        rdffr   p0.b
        str     p0, [x1, #16, mul vl]
        ldr     p0, [x1, #0, mul vl]
        mrs     x3, fpsr
        mrs     x4, fpcr
        str     w3, [x2, #FP_STATUS]
        str     w4, [x2, #FP_STATUS + 4]
        ret
endfunction sve_save

        .arch_extension nosme
        .arch_extension nosve

// --- the program that `make run` runs at EL1 -----------------------------------------------------------------------------------
//
// One page of constants of EL2, which stage 2 lets EL1 read and execute at DEMO_IPA (entry/demo.py). Its calls are HVCs with the function in
// x0. The MMU of EL1 is off, so that its addresses are intermediate addresses.

        .section .rodata.demo, "a", %progbits
        .balign 4096
        .globl  demo_page
demo_page:
        mov     x0, #1                          // SAY: x1 = address of a message, x2 = its length
        adr     x1, demo_message
        mov     x2, #(demo_message_end - demo_message)
        hvc     #0
        mov     x20, x0
        mov     x0, #2                          // TOUCHED: what a load from an address that stage 2 does not map gave
        movz    x3, #0x9000, lsl #16
        ldr     w1, [x3, #0x24]
        hvc     #0
        mov     x0, #3                          // ADD: x1 + x2, which EL2 adds without looking
        mov     x1, #-16
        mov     x2, #17
        hvc     #0
1:      wfi
        b       1b
demo_message:
        .ascii  "hello from EL1"
demo_message_end:
        .balign 4096
