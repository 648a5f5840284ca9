# SPDX-License-Identifier: Apache-2.0
"""The switch between the host and a guest on one CPU: which registers change hands, and the assembly functions that move them (el2.S).

A guest's registers lie in memory at offsets that only the running kernel knows; `Places` has them. They are counted from one base, the start of
the kernel's `kvm_vcpu`, so that the same code serves whatever structure holds a guest's registers. Who fills a `Places` in has checked that each
member lies inside that structure.

Order of a switch (errata 1319367 and 1319537, Arm's notices for Cortex-A57 and A72): while the registers of two regimes are mixed no walk of
EL1's stage 1 may begin, since the processor may begin one on its own. So TCR_EL1.EPD0 and EPD1 are set first, with SCTLR_EL1.M set, and the new
SCTLR_EL1 and then TCR_EL1 are written last, each behind an ISB. It costs little and is done on every processor.

No lock: all of it is this CPU's own.
"""

from __future__ import annotations

from typing import Final

from delphyne.lang import Array, Pa, assembly, current, struct, u64
from delphyne.lang.machine import switch


@struct(align=16, export="PLACES")
class Places:
    """Offsets in bytes from a guest's base. The assembly reads them in pairs: the order of the fields is its order."""

    csselr: u64
    cpacr: u64
    ttbr0: u64
    ttbr1: u64
    esr: u64
    afsr0: u64
    afsr1: u64
    far: u64
    mair: u64
    vbar: u64
    contextidr: u64
    amair: u64
    cntkctl: u64
    par: u64
    tpidr1: u64
    sp1: u64
    elr1: u64
    spsr1: u64
    mdscr: u64
    tpidr0: u64
    tpidrro: u64
    mpidr: u64
    """What VMPIDR_EL2 shows the guest; never written."""
    sctlr: u64
    tcr: u64
    hcr: u64
    mdcr: u64
    hw_mmu: u64
    pmu_host: u64
    """struct kvm_pmu_events, a bit for each counter: those that count for the host alone, and those for its guests alone."""
    pmu_guest: u64
    pmu_counters: u64
    """No place: the bits that each of the two before it has."""
    iflags: u64
    cflags: u64
    gic_hcr: u64
    gic_sre: u64
    used_lrs: u64
    its_vm: u64
    pc: u64
    pstate: u64
    mmu_pgd: u64
    """From the start of the kernel's `kvm_s2_mmu`, as the next."""
    mmu_vmid: u64
    fault_esr: u64
    fault_far: u64
    fault_hpfar: u64
    fault_disr: u64
    spsr_abt: u64
    spsr_und: u64
    spsr_irq: u64
    spsr_fiq: u64
    dacr32: u64
    ifsr32: u64
    apia_low: u64
    apia_high: u64
    apib_low: u64
    apib_high: u64
    apda_low: u64
    apda_high: u64
    apdb_low: u64
    apdb_high: u64
    apga_low: u64
    apga_high: u64
    regs: u64
    """x0 to x30, SP_EL0, the program counter and PSTATE (struct user_pt_regs)."""
    fp: u64
    """V0 to V31, FPSR and FPCR as words (struct user_fpsimd_state)."""
    fpexc32: u64
    dbgvcr32: u64
    vsesr: u64
    disr: u64
    mdccint: u64
    debug_ptr: u64
    zcr: u64
    gic: u64
    """The start of struct vgic_v3_cpu_if."""
    gic_vmcr: u64
    gic_ap0r: u64
    gic_ap1r: u64
    list_registers: u64


@struct(align=16, export="ASKED")
class Asked:
    """What a host asks with a run: its copy of a guest's controls, read once."""

    hcr: u64
    mdcr: u64
    hw_mmu: u64
    iflags: u64
    cflags: u64
    gic_hcr: u64
    gic_sre: u64
    used_lrs: u64
    its_vm: u64
    pc: u64
    pstate: u64
    mmu_pgd: u64
    mmu_vmid: u64


@struct(align=64, export="WORLD")
class World:
    """What one CPU loads for its guest, and what it keeps of its host meanwhile."""

    hcr: u64
    vtcr: u64
    vttbr: u64
    cptr: u64
    mdcr: u64
    cnthctl: u64
    elr: u64
    spsr: u64
    host_hcr: u64
    host_vtcr: u64
    host_vttbr: u64
    host_cptr: u64
    host_mdcr: u64
    host_cnthctl: u64
    csselr: u64
    cpacr: u64
    ttbr0: u64
    ttbr1: u64
    esr: u64
    afsr0: u64
    afsr1: u64
    far: u64
    mair: u64
    vbar: u64
    contextidr: u64
    amair: u64
    cntkctl: u64
    par: u64
    tpidr1: u64
    sp1: u64
    elr1: u64
    spsr1: u64
    mdscr: u64
    tpidr0: u64
    tpidrro: u64
    vmpidr: u64
    sctlr: u64
    tcr: u64


GENERAL_BYTES: Final = u64(8 * 34)
"""struct user_pt_regs."""
FP_BYTES: Final = u64(528)
"""struct user_fpsimd_state."""
DEBUG_BYTES: Final = u64(512)
"""struct kvm_guest_debug_arch: control and value of sixteen breakpoints, then of sixteen watchpoints."""


@assembly
def ask(base: Pa, places: Places, asked: Asked, mmu: Pa) -> None:
    """Fills `asked` from the guest at `base` and the kernel's `kvm_s2_mmu` at `mmu`, one load each."""
    switch.ask(int(base.raw), places, asked, int(mmu.raw))


@assembly
def answer(base: Pa, places: Places, pc: u64, pstate: u64) -> None:
    """Writes a guest's program counter and PSTATE where the host reads them."""
    switch.store(int(base.raw + places.pc), int(pc))
    switch.store(int(base.raw + places.pstate), int(pstate))


@assembly
def answer_fault(base: Pa, places: Places, syndrome: u64, address: u64, page: u64) -> None:
    """Writes ESR_EL2, FAR_EL2 and HPFAR_EL2 where the host reads them."""
    for place, x in ((places.fault_esr, syndrome), (places.fault_far, address), (places.fault_hpfar, page)):
        switch.store(int(base.raw + place), int(x))


@assembly
def answer_word(base: Pa, offset: u64, x: u64) -> None:
    """Writes 64 bits at an offset of `Places`."""
    switch.store(int(base.raw + offset), int(x))


@assembly
def answer_half(base: Pa, offset: u64, x: u64) -> None:
    """Writes the low 32 bits at an offset of `Places`."""
    switch.store(int(base.raw + offset), int(x), 4)


@assembly
def answer_byte(base: Pa, offset: u64, x: u64) -> None:
    """Writes the low 8 bits at an offset of `Places`."""
    switch.store(int(base.raw + offset), int(x), 1)


@assembly
def asked_word(base: Pa, offset: u64) -> u64:
    """Reads 64 bits at an offset of `Places`, once."""
    return u64(switch.load(int(base.raw + offset)))


@assembly
def asked_half(base: Pa, offset: u64) -> u64:
    """Reads 32 bits at an offset of `Places`, once."""
    return u64(switch.load(int(base.raw + offset), 4))


@assembly
def to_guest(base: Pa, places: Places, world: World) -> None:
    """Keeps the host's registers in `world` and loads the guest's, all but the general ones; what traps is `world`'s from here on."""
    switch.to_guest(int(base.raw), places, world)


@assembly
def to_host(base: Pa, places: Places, world: World) -> None:
    """The other way: the guest's registers go to its base, the host's come back, and its stage 2 and traps with them."""
    switch.to_host(int(base.raw), places, world)


@assembly
def registers32_load(base: Pa, places: Places) -> None:
    """The registers that only AArch32 has, before the others (errata 852523 and 853709), while CPTR_EL2 traps no access to FPEXC32_EL2: the traps of
    a guest's are EL2's own as well (Arm ARM D24.2). A host of AArch64 keeps nothing there."""
    switch.registers32_load(int(base.raw), places)


@assembly
def registers32_save(base: Pa, places: Places) -> None:
    """The same, back, once the host's CPTR_EL2 is."""
    switch.registers32_save(int(base.raw), places)


@assembly
def guest_enter(general: Pa) -> u64:
    """Runs the guest whose general registers lie at `general` until it leaves; returns through which vector (`frame.Vector`)."""
    return u64(current.machine().guest(int(general.raw)))


@assembly
def fp_load(fp: Pa) -> None:
    """V0 to V31, FPSR and FPCR, which CPTR_EL2 must not trap."""
    switch.vectors_load(int(fp.raw), switch.QUADWORD, int(fp.raw))


@assembly
def fp_save(fp: Pa) -> None:
    """The same, back."""
    switch.vectors_save(int(fp.raw), switch.QUADWORD, int(fp.raw))


@assembly
def sve_load(state: Pa, length: u64, fp: Pa) -> None:
    """Z0 to Z31, P0 to P15 and FFR in vectors of `length` bytes as the kernel lays them out at `state`, FPSR and FPCR from `fp`."""
    switch.vectors_load(int(state.raw), int(length), int(fp.raw))
    switch.predicates_load(int(state.raw), int(length))


@assembly
def sve_save(state: Pa, length: u64, fp: Pa) -> None:
    """The same, back."""
    switch.vectors_save(int(state.raw), int(length), int(fp.raw))
    switch.predicates_save(int(state.raw), int(length))


@assembly
def keys_of_host(keys: Array[u64, 10], save: bool) -> None:
    """The five pointer-authentication keys of EL1 to or from EL2's own memory."""
    switch.keys_of_host(keys, save)


@assembly
def keys_of_guest(base: Pa, places: Places, save: bool) -> None:
    """The same to or from a guest's."""
    switch.keys_of_guest(int(base.raw), places, save)


@assembly
def debug_load(registers: Pa, breakpoints: u64, watchpoints: u64) -> None:
    """Breakpoint and watchpoint registers, as many as there are of each (1 to 16)."""
    for word, name in switch.debug_registers(int(breakpoints), int(watchpoints)):
        current.machine().write_register(name, switch.load(int(registers.raw) + 8 * word))


@assembly
def debug_save(registers: Pa, breakpoints: u64, watchpoints: u64) -> None:
    """The same, back."""
    for word, name in switch.debug_registers(int(breakpoints), int(watchpoints)):
        switch.store(int(registers.raw) + 8 * word, current.machine().read_register(name))


@assembly
def debug_keep(registers: Array[u64, 64], breakpoints: u64, watchpoints: u64) -> None:
    """As `debug_save`, into EL2's own memory."""
    for word, name in switch.debug_registers(int(breakpoints), int(watchpoints)):
        registers[word] = u64(current.machine().read_register(name))


@assembly
def debug_bring(registers: Array[u64, 64], breakpoints: u64, watchpoints: u64) -> None:
    """As `debug_load`, from EL2's own memory."""
    for word, name in switch.debug_registers(int(breakpoints), int(watchpoints)):
        current.machine().write_register(name, int(registers[word]))


@assembly
def profiling_sync() -> None:
    """PSB CSYNC: what was profiled before has reached its buffer (FEAT_SPE)."""


@assembly
def trace_sync() -> None:
    """TSB CSYNC: what was traced before has reached its buffer (FEAT_TRF)."""


@assembly
def list_registers_load(registers: Pa, count: u64) -> None:
    """The first `count` (1 to 16) list registers of the virtual interrupt controller."""
    for number, name in enumerate(switch.list_registers(int(count))):
        current.machine().write_register(name, switch.load(int(registers.raw) + 8 * number))


@assembly
def list_registers_save(registers: Pa, count: u64) -> None:
    """The same, back; they are empty afterwards."""
    for number, name in enumerate(switch.list_registers(int(count))):
        switch.store(int(registers.raw) + 8 * number, current.machine().read_register(name))
        current.machine().write_register(name, 0)


@assembly
def take_serror() -> bool:
    """Takes a physical SError that is pending, at EL2, without the RAS extension; whether there was one."""
    return switch.take_serror()
