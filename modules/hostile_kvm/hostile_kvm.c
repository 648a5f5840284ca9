// SPDX-License-Identifier: GPL-2.0-only
/*
 * A host kernel that abuses KVM's calls to the hypervisor below it, with virtual machines of its own making.
 *
 * Commands are written to /dev/hostile_kvm, a line each; what came of them is read from it, one line each that starts with "hostile_kvm:". Numbers
 * are hexadecimal. EL2 BASE and PAGES name memory of the hypervisor's.
 *
 *   target EL2 PAGES     comes first: memory of the hypervisor's, the physical address of its first page and how many there are in a row; or a page of
 *                        this kernel's that is no longer its own
 *   calls VOID           every call with every pointer that is wrong; VOID is a physical address at which nothing answers
 *   controls             every control that a vCPU or its VM can carry, wrong, one kind at a time; and what a guest then runs with
 *   reach                guests that read, write and execute the target through tables made for it
 *   code SEED COUNT      guests that execute what no guest should, COUNT pairs of instructions by SEED
 *   walks VOID           guests whose own tables lie in devices, in nothing, in themselves
 *   pools                more VMs and vCPUs than the hypervisor remembers
 *   far                  a guest with a page in every GiB that it can address: more tables than there are
 *   together COUNT       one vCPU wanted by all CPUs, its page mapped and unmapped under its exclusives and, where there are, its atomics
 *   flip COUNT           COUNT entries of a vCPU for each word that the hypervisor reads, which other CPUs change meanwhile, on and on
 *   race COUNT           COUNT times a page under a guest that stores to it is mapped, unmapped and flushed, in every way that there is
 *   blocks COUNT         COUNT times 2 MiB under a guest that checks them are split, collapsed, and moved
 *   freed COUNT          COUNT entries of a vCPU whose structures other CPUs give back and use for something else meanwhile
 *   listed               instructions that no guest has, one by one
 *   gich GICD GICH COUNT on a host with a GICv2, whose registers are there: COUNT times odd words in its virtual interface control while a guest runs, on each CPU
 *   maintain COUNT       COUNT entries of a guest that does nothing but invalidate its TLBs and caches
 *   storm SEED COUNT     COUNT pseudo-random operations, on every CPU its share at once
 *   end                  the VMs are gone, and the hypervisor is told
 *
 * After each of them a guest as it should be has to run. Those that change what another CPU uses want two CPUs.
 *
 * The VMs are fakes: a struct kvm, tables and vCPUs in pages of this module, of which the kernel's KVM knows nothing. Whatever is wrong with one is
 * of the hypervisor's business alone, so that KVM's own guests may run at the same time and must not notice.
 */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/kthread.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/smp.h>
#include <linux/version.h>
#include <linux/vmalloc.h>
#include <asm/neon.h>
#include <asm/sysreg.h>
#include "command_device.h"

#define KVM_CALLS	0xc6000000UL
#define CALL(name)	(KVM_CALLS + __KVM_HOST_SMCCC_FUNC_##name)
#define SET_VECTORS	0UL
#define RESET_VECTORS	2UL
#define REFUSED		(~0UL)
#define EXIT_IRQ	0UL
#define EXIT_TRAP	2UL
#define EXIT_ILLEGAL	3UL
#define WITH_SERROR	(1UL << 31)

#define VMS		80
#define VCPUS		8			/* of each VM */
#define VCPU_ORDER	2
#define ROUNDS		6			/* runs until a guest that goes on is left alone */

/* A guest's memory: code with vectors in its second half, and a page of data. The rest of this 2 MiB is what an attack maps. */
#define CODE		0x40000000UL
#define DATA		(CODE + PAGE_SIZE)
#define FREE		(CODE + 2 * PAGE_SIZE)
#define VECTORS		0x800
#define S2_PAGE		0x7ffUL			/* valid page, AF, inner shareable, read and write, Normal */
#define S2_BLOCK	0x7fdUL
#define S2_TABLE	0x3UL
#define VTCR		(24UL | 1UL << 6)	/* 40 bits from level 1, two tables in a row */
#define EL1H		0x3c5UL
#define SCTLR_OFF	0x30d00800UL
#define NOP		0xd503201fU
#define HVC(number)	(0xd4000002U | (number) << 5)
#define CAUGHT		0x7000			/* the immediate of the HVC in each vector */
#define LDR_X1_X0	0xf9400001U
#define STR_X1_X0	0xf9000001U
#define DEBUG_DIRTY_BIT	(1 << 4)

struct vm {
	struct kvm *kvm;
	u64 *root, *middle, *last;
	u32 *code;
	u64 *data;
	struct kvm_vcpu *vcpus[VCPUS];
};

static struct vm vms[VMS];
static u64 el2_base, el2_pages;
static void __iomem *el2_window, *mmio_window;
static u64 *split;				/* pages in a row for the kernel that lie in memory the other way round, and nothing behind */

/* One call: what x0 holds afterwards, and x1 in *result. */
static u64 call(u64 number, u64 a, u64 b, u64 c, u64 *result)
{
	register u64 x0 asm("x0") = number;
	register u64 x1 asm("x1") = a;
	register u64 x2 asm("x2") = b;
	register u64 x3 asm("x3") = c;

	asm volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3) :
		     : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "memory");
	if (result)
		*result = x1;
	return x0;
}

static void clean(void *start, size_t size)
{
	u64 at;

	for (at = (u64)start & ~63UL; at < (u64)start + size; at += 16)
		asm volatile("dc civac, %0" :: "r"(at) : "memory");
	asm volatile("dsb sy\n ic ialluis\n dsb sy\n isb" ::: "memory");
}

static u64 next(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* ---- what the hypervisor is shown ------------------------------------------------------------------------------------------------------------ */

static struct kvm_s2_mmu *mmu_of(struct vm *vm)
{
	return &vm->kvm->arch.mmu;
}

static u64 *vtcr_of(struct vm *vm)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	return &mmu_of(vm)->vtcr;
#else
	return &vm->kvm->arch.vtcr;
#endif
}

static u64 *vmid_of(struct vm *vm)
{
	return (u64 *)&mmu_of(vm)->vmid.id;
}

static u64 *register_of(struct kvm_vcpu *vcpu, int number)
{
	return &vcpu->arch.ctxt.sys_regs[number];
}

/* The tables and controls of a VM as they should be. */
static void make_vm(struct vm *vm)
{
	struct kvm_s2_mmu *mmu = mmu_of(vm);

	memset(vm->root, 0, 2 * PAGE_SIZE);
	memset(vm->middle, 0, PAGE_SIZE);
	memset(vm->last, 0, PAGE_SIZE);
	vm->root[CODE >> 30] = virt_to_phys(vm->middle) | S2_TABLE;
	vm->middle[0] = virt_to_phys(vm->last) | S2_TABLE;
	vm->last[0] = virt_to_phys(vm->code) | S2_PAGE;
	vm->last[1] = virt_to_phys(vm->data) | S2_PAGE;
	mmu->pgd_phys = virt_to_phys(vm->root);
	mmu->arch = &vm->kvm->arch;
	*vtcr_of(vm) = VTCR;
	*vmid_of(vm) = 0x100 + (vm - vms);
}

static void make_vcpu(struct vm *vm, struct kvm_vcpu *vcpu)
{
	memset(vcpu, 0, sizeof(*vcpu));
	vcpu->kvm = vm->kvm;
	vcpu->arch.hw_mmu = mmu_of(vm);
	vcpu->arch.hcr_el2 = HCR_RW;
	vcpu->arch.vgic_cpu.vgic_v3.vgic_sre = 7;
	vcpu->arch.ctxt.regs.pc = CODE;
	vcpu->arch.ctxt.regs.pstate = EL1H;
	*register_of(vcpu, SCTLR_EL1) = SCTLR_OFF;
	*register_of(vcpu, MPIDR_EL1) = 1UL << 31;
	*register_of(vcpu, CPACR_EL1) = 3UL << 20;
	*register_of(vcpu, VBAR_EL1) = CODE + VECTORS;
}

/* Guest code: the words given, then a call with immediate 1; every exception of EL1 is a call as well. */
static void write_code(struct vm *vm, const u32 *words, unsigned int count)
{
	unsigned int i;

	memset(vm->code, 0, PAGE_SIZE);
	for (i = 0; i < count; i++)
		vm->code[i] = words[i];
	vm->code[count] = HVC(1);
	for (i = 0; i < 16; i++)
		vm->code[(VECTORS + i * 128) / 4] = HVC(CAUGHT + i);
	clean(vm->code, PAGE_SIZE);
}

static int allocate_vm(struct vm *vm)
{
	int i;

	vm->kvm = (struct kvm *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, get_order(sizeof(struct kvm)));
	vm->root = (u64 *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, 1);
	vm->middle = (u64 *)get_zeroed_page(GFP_KERNEL);
	vm->last = (u64 *)get_zeroed_page(GFP_KERNEL);
	vm->code = (u32 *)get_zeroed_page(GFP_KERNEL);
	vm->data = (u64 *)get_zeroed_page(GFP_KERNEL);
	if (!vm->kvm || !vm->root || !vm->middle || !vm->last || !vm->code || !vm->data)
		return -ENOMEM;
	for (i = 0; i < VCPUS; i++) {
		vm->vcpus[i] = (struct kvm_vcpu *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, VCPU_ORDER);
		if (!vm->vcpus[i])
			return -ENOMEM;
	}
	BUILD_BUG_ON(sizeof(struct kvm_vcpu) > PAGE_SIZE << VCPU_ORDER);
	write_code(vm, NULL, 0);
	make_vm(vm);
	for (i = 0; i < VCPUS; i++)
		make_vcpu(vm, vm->vcpus[i]);
	return 0;
}

/* ---- running a guest ------------------------------------------------------------------------------------------------------------------------- */

/* One entry, as KVM makes it: interrupts off, SIMD registers of nobody. The guest's virtual timer is turned off, and no offset stays. */
static u64 enter(struct kvm_vcpu *vcpu, u64 *code)
{
	u64 answer;

	kernel_neon_begin();
	local_irq_disable();
	answer = call(CALL(__kvm_vcpu_run), (u64)vcpu, 0, 0, code);
	write_sysreg(0, cntv_ctl_el0);
	isb();
	local_irq_enable();
	kernel_neon_end();
	return answer;
}

/* Entries until the guest leaves for something other than an interrupt: the code of that exit, EXIT_IRQ where it goes on and on, or REFUSED. */
static u64 run(struct kvm_vcpu *vcpu)
{
	u64 code = EXIT_IRQ;
	int i;

	for (i = 0; i < ROUNDS && (code & ~WITH_SERROR) == EXIT_IRQ; i++)
		if (enter(vcpu, &code))
			return REFUSED;
	return code;
}

static u64 class_of(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.fault.esr_el2 >> 26 & 0x3f;
}

/* Whether the guest got to the end of its code. */
static bool has_ended(struct kvm_vcpu *vcpu, u64 code)
{
	return (code & ~WITH_SERROR) == EXIT_TRAP && class_of(vcpu) == 0x16 && (vcpu->arch.fault.esr_el2 & 0xffff) == 1;
}

static void flush_all(struct vm *vm)
{
	call(CALL(__kvm_tlb_flush_vmid), (u64)mmu_of(vm), 0, 0, NULL);
}

/* Whether a guest as it should be runs its code to the end: what every attack is followed by. */
static bool is_well(void)
{
	struct vm *vm = &vms[0];
	static const u32 words[] = { LDR_X1_X0, NOP, STR_X1_X0 };
	u64 code;

	make_vm(vm);
	make_vcpu(vm, vm->vcpus[0]);
	vm->data[0] = 0x600d;
	vm->vcpus[0]->arch.ctxt.regs.regs[0] = DATA;
	write_code(vm, words, ARRAY_SIZE(words));
	flush_all(vm);
	code = run(vm->vcpus[0]);
	return has_ended(vm->vcpus[0], code) && vm->vcpus[0]->arch.ctxt.regs.regs[1] == 0x600d;
}

#define finish(name, format, ...) say("%s: " format "; a guest %s", name, ##__VA_ARGS__, is_well() ? "runs" : "does not run")

/* ---- calls with wrong pointers --------------------------------------------------------------------------------------------------------------- */

enum { RUN, ADJUST, FLUSH_PAGE, FLUSH_ALL, FLUSH_CPU, SAVE, RESTORE, POINTER_CALLS };

static const u64 pointer_calls[POINTER_CALLS] = {
	CALL(__kvm_vcpu_run), CALL(__kvm_adjust_pc), CALL(__kvm_tlb_flush_vmid_ipa), CALL(__kvm_tlb_flush_vmid), CALL(__kvm_flush_cpu_context),
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	CALL(__vgic_v3_save_vmcr_aprs), CALL(__vgic_v3_restore_vmcr_aprs),
#else
	CALL(__vgic_v3_save_aprs), CALL(__vgic_v3_restore_aprs),
#endif
};

#define WRONG_POINTERS	15		/* of POINTERS; the others are the kernel's own memory, for which some calls are right */
#define POINTERS	17

/* An address that no structure of a sane kernel has. */
static u64 wrong_pointer(unsigned int kind)
{
	switch (kind) {
	case 0: return 0;
	case 1: return 1;
	case 2: return offsetof(struct kvm_vcpu, arch.vgic_cpu.vgic_v3);
	case 3: return ~0UL;
	case 4: return ~7UL;
	case 5: return 0x0008000000000000UL;
	case 6: return 0x1000;
	case 7: return (u64)vms[1].vcpus[0] + 4;
	case 8: return (u64)split + PAGE_SIZE - 8;
	case 9: return (u64)split + 2 * PAGE_SIZE - 8;
	case 10: return (u64)split + 3 * PAGE_SIZE;
	case 11: return (u64)el2_window;
	case 12: return (u64)mmio_window;
	case 13: return (u64)__va(el2_base);
	case 14: return el2_base;
	case 15: return (u64)wrong_pointer & ~7UL;
	default: return (u64)vms[1].last;
	}
}

/* With this CPU's TTBR0 walk beginning at `root`, which is no table. */
static u64 call_through(u64 root, u64 number, u64 pointer, u64 *result)
{
	unsigned long flags, ttbr, tcr;
	u64 answer;

	local_irq_save(flags);
	ttbr = read_sysreg(ttbr0_el1);
	tcr = read_sysreg(tcr_el1);
	write_sysreg((tcr & ~(0x3fUL | 1UL << 7 | 3UL << 14)) | 16, tcr_el1);
	write_sysreg(root, ttbr0_el1);
	isb();
	asm volatile("tlbi vmalle1\n dsb nsh\n isb" ::: "memory");
	answer = call(number, pointer, 0, 0, result);
	write_sysreg(ttbr, ttbr0_el1);
	write_sysreg(tcr, tcr_el1);
	isb();
	asm volatile("tlbi vmalle1\n dsb nsh\n isb" ::: "memory");
	local_irq_restore(flags);
	return answer;
}

/* A flush for what the hypervisor does not know is done: it has nothing to flush. */
static bool is_flush(unsigned int number)
{
	return number >= FLUSH_PAGE && number <= FLUSH_CPU;
}

static void make_calls(u64 nothing)
{
	const u64 roots[] = { nothing, el2_base, virt_to_phys(vms[1].data) };
	u64 made = 0, served = 0;
	unsigned int number, kind, i;

	for (number = 0; number < POINTER_CALLS; number++) {
		for (kind = 0; kind < POINTERS; kind++, made++) {
			u64 at = wrong_pointer(kind);
			bool failed;

			kernel_neon_begin();
			local_irq_disable();
			failed = call(pointer_calls[number], at, CODE, 3, NULL);
			local_irq_enable();
			kernel_neon_end();
			if (!failed && !is_flush(number) && (kind < WRONG_POINTERS || number < FLUSH_PAGE)) {
				say("call %u with pointer %u is served", number, kind);
				served++;
			}
		}
		for (i = 0; i < ARRAY_SIZE(roots); i++, made++)
			served += !call_through(roots[i], pointer_calls[number], 0x10000000, NULL) && !is_flush(number);
	}
	finish("calls", "made %llu served %llu", made, served);
}

/* ---- wrong controls -------------------------------------------------------------------------------------------------------------------------- */

/* A number that means something, or nearly, or nothing. */
static u64 odd(u64 *state)
{
	u64 x = next(state), offset = x >> 32 & 0xff8;

	switch (x & 15) {
	case 0: return 0;
	case 1: return ~0UL;
	case 2: return 1UL << (x >> 8 & 63);
	case 3: return ~(1UL << (x >> 8 & 63));
	case 4: return x >> 8 & 0x1f;
	case 5: return x >> 32;
	case 6: return CODE + offset;
	case 7: return DATA + offset;
	case 8: return FREE + (x >> 8 & 0x1ff000) + offset;
	case 9: return el2_base + (next(state) % el2_pages) * PAGE_SIZE + offset;
	case 10: return wrong_pointer(next(state) % WRONG_POINTERS);
	case 11: return (x & 0x7f) | (x & (1 << 8) ? 0x84000000 : 0xc4000000);
	case 12: return 0xffffffffffff0000UL | (x >> 8 & 0xffff);
	default: return next(state);
	}
}

/* Memory that a table of a VM may name without harm for this kernel: the VM's own, the hypervisor's, a clock's, and what is not there. */
static u64 odd_output(struct vm *vm, u64 *state)
{
	u64 x = next(state);

	switch (x & 7) {
	case 0: case 1: return el2_base + (x >> 8) % el2_pages * PAGE_SIZE;
	case 2: return virt_to_phys(vm->data);
	case 3: return virt_to_phys(vm->last);
	case 4: return virt_to_phys(vm->root);
	case 5: return 0x9010000;
	case 6: return 0xb000000;
	default: return (x >> 4 & 0x7ffffffff000UL) | 1UL << 47;
	}
}

static void spoil_tables(struct vm *vm, u64 *state)
{
	static const u64 bits[] = { S2_PAGE, S2_TABLE, S2_BLOCK, 0x77f, 0x3ff, 0x73f, 0x7c3, 0x7ff | 3UL << 53, 0xfff, 0x7ff | 1UL << 52 };
	u64 x = next(state), output = odd_output(vm, state), kind = bits[x % ARRAY_SIZE(bits)];
	u64 *table = x & 1 << 8 ? vm->last : x & 1 << 9 ? vm->middle : vm->root;
	unsigned int slot = (x >> 16) % (table == vm->root ? 1024 : 512);

	/* A block may not span this kernel's own memory. */
	if (table != vm->last && !(kind & 2))
		output = (output | 1UL << 46) & ~((1UL << 30) - 1);
	if (x & 1 << 10)
		slot = table == vm->root ? 1 : 0;
	if (table == vm->root && (x >> 11 & 3) == 0)
		slot = 1;
	WRITE_ONCE(table[slot], x & 1 << 14 ? 0 : output | kind);
}

enum {
	HOST_HCR, HOST_MDCR, HOST_HCRX, VMID, ROOT, GEOMETRY, ARCH, OTHER_MMU, LISTS, INTERFACE, SCALABLE, DEBUG, FLAGS, PROGRAM, SYSTEM_REGISTERS,
	COUNTERS, TABLES, GENERAL, KINDS
};

static const char *const kinds[KINDS] = {
	"hcr", "mdcr", "hcrx", "vmid", "root", "geometry", "arch", "mmu", "lists", "interface", "scalable", "debug", "flags", "program", "registers",
	"counters", "tables", "general",
};

static void spoil(unsigned int kind, struct vm *vm, struct kvm_vcpu *vcpu, u64 *state)
{
	struct vgic_v3_cpu_if *gic = &vcpu->arch.vgic_cpu.vgic_v3;
	u64 x = next(state);
	int i;

	switch (kind) {
	case HOST_HCR:
		vcpu->arch.hcr_el2 = odd(state);
		break;
	case HOST_MDCR:
		vcpu->arch.mdcr_el2 = odd(state);
		break;
	case HOST_HCRX:
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
		vcpu->arch.hcrx_el2 = odd(state);
#endif
		break;
	case VMID:
		*vmid_of(vm) = odd(state);
		break;
	case ROOT:
		mmu_of(vm)->pgd_phys = x & 1 ? odd(state) : odd_output(vm, state) & ~0x1fffUL;
		break;
	case GEOMETRY:
		*vtcr_of(vm) = x & 1 ? odd(state) : (x >> 8 & 0x1002000c0UL) | (x & 14 ? 0 : 1UL << 14) | (15 + (x >> 4 & 31));
		break;
	case ARCH:
		mmu_of(vm)->arch = (struct kvm_arch *)odd(state);
		break;
	case OTHER_MMU:
		vcpu->arch.hw_mmu = x & 1 ? mmu_of(&vms[(x >> 8) % VMS]) : (struct kvm_s2_mmu *)odd(state);
		break;
	case LISTS:
		gic->used_lrs = odd(state);
		for (i = 0; i < 16; i++)
			gic->vgic_lr[i] = odd(state);
		break;
	case INTERFACE:
		gic->vgic_hcr = odd(state);
		gic->vgic_vmcr = odd(state);
		gic->vgic_sre = x & 7;
		for (i = 0; i < 4; i++) {
			gic->vgic_ap0r[i] = odd(state);
			gic->vgic_ap1r[i] = odd(state);
		}
		gic->its_vpe.its_vm = (struct its_vm *)(x >> 8 & 1);
		break;
	case SCALABLE:
		vcpu->arch.cflags = odd(state);
		vcpu->arch.sve_max_vl = x & 1 ? odd(state) : 16 * (x >> 8 & 15);
		vcpu->arch.sve_state = x & 2 ? (void *)wrong_pointer((x >> 16) % WRONG_POINTERS) : (void *)vms[VMS - 1].vcpus[0];
		break;
	case DEBUG:
		vcpu->arch.iflags |= DEBUG_DIRTY_BIT;
		vcpu->arch.debug_ptr = (void *)(x & 1 ? odd(state) : (u64)vcpu + (x >> 8) % (sizeof(*vcpu) + 64));
		break;
	case FLAGS:
		vcpu->arch.iflags = x;
		vcpu->arch.cflags = x >> 8;
		break;
	case PROGRAM:
		vcpu->arch.ctxt.regs.pc = odd(state);
		vcpu->arch.ctxt.regs.pstate = x & 1 ? odd(state) : (x >> 8 & 0xfff003df) | 0x1f >> (x & 3);
		break;
	case SYSTEM_REGISTERS:
		for (i = 0; i < 8; i++)
			*register_of(vcpu, next(state) % NR_SYS_REGS) = odd(state);
		if (x & 1)
			*register_of(vcpu, SCTLR_EL1) = SCTLR_OFF | (x >> 8 & 0x1005);
		break;
	case COUNTERS:
		memcpy(&vcpu->arch.pmu.events, &x, sizeof(x));
		break;
	case TABLES:
		spoil_tables(vm, state);
		break;
	case GENERAL:
		for (i = 0; i < 31; i++)
			vcpu->arch.ctxt.regs.regs[i] = odd(state);
		break;
	}
}

/* ---- code that no guest should execute ------------------------------------------------------------------------------------------------------- */

static u32 any_word(u64 *state)
{
	u32 x = next(state);

	switch (next(state) % 14) {
	case 0: return 0xd5000000 | (x & 0xffffff);				/* system registers, hints, barriers, maintenance */
	case 1: return 0xd4000000 | (x & 0xe0ffff);				/* SVC, HVC, SMC and their like */
	case 2: return 0xd4000000 | (x & 0x1fffe0) | (x & 1 ? 2 : 3);		/* HVC and SMC */
	case 3: return 0x04000000 | (x & 0xe1ffffff);				/* SVE */
	case 4: return 0xc0000000 | (x & 0x21ffffff);				/* SME */
	case 5: return 0xdac10000 | (x & 0xffff);				/* pointer authentication */
	case 6: return 0xd9200000 | (x & 0xdfffff);				/* memory tags */
	case 7: return 0xf83f9000 | (x & 0x73ff);				/* accesses of 64 bytes */
	case 8: return 0xd5031000 | (x & 0x3f);				/* WFET and WFIT */
	case 9: return 0x08000000 | (x & 0xc1ffffff);				/* exclusives and compare-and-swap */
	case 10: return 0x38200000 | (x & 0xc0dff3ff);				/* atomics */
	case 11: return 0x08000000 | (x & 0xf5ffffff);				/* loads and stores */
	case 12: return x & 1 ? 0xd69f03e0 : x & 2 ? 0xd69f0bff : 0x0e000000 | (x & 0xf1ffffff);	/* ERET, SIMD */
	default: return x;
	}
}

/* SIMD of two registers on half precision: where nothing is allocated QEMU 7.2 fails an assertion (target/arm/translate-a64.c). */
static bool stops_qemu(u32 word)
{
	return (word & 0x8f7e0c00) == 0x0e780800;
}

static u32 odd_word(u64 *state)
{
	u32 word = any_word(state);

	while (stops_qemu(word))
		word = any_word(state);
	return word;
}

struct tally {
	u64 made, refused, going, ended, caught, illegal, serrors, traps, classes;
};

static void count(struct tally *tally, struct kvm_vcpu *vcpu, u64 code)
{
	tally->made++;
	if (code == REFUSED) {
		tally->refused++;
		return;
	}
	tally->serrors += !!(code & WITH_SERROR);
	code &= ~WITH_SERROR;
	if (code == EXIT_IRQ) {
		tally->going++;
	} else if (code == EXIT_ILLEGAL) {
		tally->illegal++;
	} else if (has_ended(vcpu, code)) {
		tally->ended++;
	} else if (code == EXIT_TRAP && class_of(vcpu) == 0x16 && (vcpu->arch.fault.esr_el2 & 0xfff0) == CAUGHT) {
		tally->caught++;
	} else {
		tally->traps++;
		tally->classes |= 1UL << class_of(vcpu);
	}
}

#define say_tally(name, tally, format, ...) \
	finish(name, format "made %llu refused %llu illegal %llu going %llu ended %llu caught %llu traps %llu serrors %llu classes %llx", ##__VA_ARGS__, \
	       (tally).made, (tally).refused, (tally).illegal, (tally).going, (tally).ended, (tally).caught, (tally).traps, (tally).serrors, \
	       (tally).classes)

static void run_odd_code(struct vm *vm, struct kvm_vcpu *vcpu, struct tally *tally, u64 *state)
{
	u32 words[2] = { odd_word(state), odd_word(state) };

	write_code(vm, words, ARRAY_SIZE(words));
	count(tally, vcpu, run(vcpu));
}

static void try_controls(void)
{
	struct vm *vm = &vms[2];
	unsigned int kind, i;

	for (kind = 0; kind < KINDS; kind++) {
		struct tally tally = {};
		u64 state = 0x9e3779b97f4a7c15UL * (kind + 1);

		for (i = 0; i < 48; i++) {
			struct kvm_vcpu *vcpu = vm->vcpus[i % VCPUS];

			make_vm(vm);
			make_vcpu(vm, vcpu);
			vcpu->arch.ctxt.regs.regs[0] = DATA;
			spoil(kind, vm, vcpu, &state);
			flush_all(vm);
			run_odd_code(vm, vcpu, &tally, &state);
		}
		say_tally("controls", tally, "%s ", kinds[kind]);
	}
}

static void try_code(u64 seed, u64 wanted)
{
	struct vm *vm = &vms[3];
	struct kvm_vcpu *vcpu = vm->vcpus[0];
	struct tally tally = {};
	u64 state = (seed + 1) * 0x9e3779b97f4a7c15UL;

	make_vm(vm);
	while (tally.made < wanted) {
		make_vcpu(vm, vcpu);
		spoil(GENERAL, vm, vcpu, &state);
		vcpu->arch.hcr_el2 |= next(&state) & (HCR_TWI | HCR_TWE | HCR_TVM | HCR_TID3);
		run_odd_code(vm, vcpu, &tally, &state);
	}
	say_tally("code", tally, "");
}

/* ---- the hypervisor's memory ----------------------------------------------------------------------------------------------------------------- */

enum { BY_PAGE, BY_FETCH, BY_BLOCK, BY_GIANT, BY_LAST_TABLE, BY_MIDDLE_TABLE, BY_ROOT, ROUTES };

static const char *const routes[ROUTES] = { "page", "fetch", "block", "giant", "last-table", "middle-table", "root" };

/* Whether a guest got at the page by this route: read it, wrote it, executed it, or was led on by it. */
static bool is_reached(unsigned int route, u64 page)
{
	static const u32 words[] = { LDR_X1_X0, STR_X1_X0 };
	struct vm *vm = &vms[4];
	struct kvm_vcpu *vcpu = vm->vcpus[0];
	u64 at = FREE, code;
	unsigned int i;

	make_vm(vm);
	make_vcpu(vm, vcpu);
	write_code(vm, words, ARRAY_SIZE(words));
	switch (route) {
	case BY_PAGE:
		vm->last[2] = page | S2_PAGE;
		break;
	case BY_FETCH:
		vm->last[2] = page | S2_PAGE;
		vcpu->arch.ctxt.regs.pc = FREE;
		break;
	case BY_BLOCK:
		vm->middle[1] = (page & ~((1UL << 21) - 1)) | S2_BLOCK;
		at = CODE + (1UL << 21) + (page & ((1UL << 21) - 1));
		break;
	case BY_GIANT:
		vm->root[2] = (page & ~((1UL << 30) - 1)) | S2_BLOCK;
		at = (2UL << 30) + (page & ((1UL << 30) - 1));
		break;
	case BY_LAST_TABLE:
		vm->middle[1] = page | S2_TABLE;
		at = CODE + (1UL << 21) + (page >> 12 & 511) * PAGE_SIZE;
		break;
	case BY_MIDDLE_TABLE:
		vm->root[2] = page | S2_TABLE;
		at = (2UL << 30) + (page >> 12 & 511) * (1UL << 21);
		break;
	case BY_ROOT:
		mmu_of(vm)->pgd_phys = page;
		break;
	}
	vcpu->arch.ctxt.regs.regs[0] = at;
	flush_all(vm);
	for (i = 0; i < 2; i++) {
		code = run(vcpu);
		if (code == REFUSED)
			continue;
		if ((code & ~WITH_SERROR) != EXIT_TRAP || (class_of(vcpu) != 0x24 && class_of(vcpu) != 0x20))
			return true;
		vcpu->arch.ctxt.regs.pc += 4;
	}
	return false;
}

static void reach(void)
{
	unsigned int route;
	u64 i;

	for (route = 0; route < ROUTES; route++) {
		u64 tried = 0, reached = 0;

		for (i = 0; i < el2_pages; i += route <= BY_FETCH || i + 1 == el2_pages ? 1 : min(16ULL, el2_pages - 1 - i), tried++)
			reached += is_reached(route, el2_base + i * PAGE_SIZE);
		finish("reach", "%s tried %llu reached %llu", routes[route], tried, reached);
	}
}

/* ---- a guest's own tables -------------------------------------------------------------------------------------------------------------------- */

#define S1_BLOCK	0x701UL			/* AF, inner shareable, attributes of index 0; not for EL0 */
#define S1_TABLE	0x3UL
#define TCR_39		(25UL | 3UL << 8 | 1UL << 10 | 3UL << 12 | 1UL << 23 | 2UL << 32)
#define TCR_HA_BIT	(1UL << 39)
#define GUEST_BITS	40			/* as VTCR says */

static void with_own_tables(struct vm *vm, struct kvm_vcpu *vcpu, u64 root)
{
	static const u32 words[] = { LDR_X1_X0, STR_X1_X0 };

	make_vm(vm);
	make_vcpu(vm, vcpu);
	memset(vm->data, 0, PAGE_SIZE);
	write_code(vm, words, ARRAY_SIZE(words));
	*register_of(vcpu, TTBR0_EL1) = root;
	*register_of(vcpu, TCR_EL1) = TCR_39;
	*register_of(vcpu, MAIR_EL1) = 0xff;
	*register_of(vcpu, SCTLR_EL1) = SCTLR_OFF | 5;
	vcpu->arch.ctxt.regs.regs[0] = FREE;
}

static void try_walks(u64 nothing)
{
	struct vm *vm = &vms[5];
	struct kvm_vcpu *vcpu = vm->vcpus[0];
	struct tally tally = {};
	const u64 outputs[] = { nothing, 0x9010000, el2_base, virt_to_phys(vm->root), 0x9010000 };
	const unsigned int address_bits = id_aa64mmfr0_parange_to_phys_shift(read_sysreg(id_aa64mmfr0_el1) & 15);
	unsigned int i, slot, beyond = 0;

	/* The root in nothing, a device, the hypervisor, the VM's own stage 2; as Normal memory, as a device, read-only with flags to be set. */
	for (i = 0; i < 4 * ARRAY_SIZE(outputs); i++) {
		static const u64 kinds[] = { S2_PAGE, 0x7c3 | 1 << 2, 0x77f, 0x73f };

		with_own_tables(vm, vcpu, FREE + PAGE_SIZE);
		vm->last[3] = outputs[i / 4] | kinds[i % 4];
		if (i % 4 > 1)
			*register_of(vcpu, TCR_EL1) |= TCR_HA_BIT;
		flush_all(vm);
		count(&tally, vcpu, run(vcpu));
	}
	/* Every entry leads to the table that it stands in; then the root is where nothing is mapped, and the table read-only with flags to be set. */
	for (i = 0; i < 4; i++) {
		with_own_tables(vm, vcpu, i == 1 ? FREE : DATA);
		for (slot = 0; slot < 512; slot++)
			vm->data[slot] = i == 0 ? DATA | S1_TABLE : (u64)slot << 30 | (i == 2 ? S1_BLOCK & ~0x400UL : S1_BLOCK);
		if (i >= 2) {
			*register_of(vcpu, TCR_EL1) |= TCR_HA_BIT;
			vm->last[1] = virt_to_phys(vm->data) | 0x77f;
		}
		clean(vm->data, PAGE_SIZE);
		flush_all(vm);
		count(&tally, vcpu, run(vcpu));
	}
	/* Without a stage 1: each bit of an address that the processor has and the guest's stage 2 has not. */
	for (i = GUEST_BITS; i < address_bits; i++, beyond++) {
		with_own_tables(vm, vcpu, DATA);
		*register_of(vcpu, SCTLR_EL1) = SCTLR_OFF;
		vcpu->arch.ctxt.regs.regs[0] = 1UL << i;
		count(&tally, vcpu, run(vcpu));
	}
	say_tally("walks", tally, "beyond %u ", beyond);
}

/* ---- pools ----------------------------------------------------------------------------------------------------------------------------------- */

static void fill_pools(void)
{
	struct tally tally = {};
	unsigned int pass, i, j;

	for (pass = 0; pass < 2; pass++)
		for (j = 0; j < VCPUS; j++)
			for (i = 0; i < VMS; i++) {
				struct kvm_vcpu *vcpu = vms[i].vcpus[pass ? VCPUS - 1 - j : j];

				make_vm(&vms[i]);
				make_vcpu(&vms[i], vcpu);
				write_code(&vms[i], NULL, 0);
				count(&tally, vcpu, run(vcpu));
			}
	say_tally("pools", tally, "");
}

/* One page of a guest in every GiB of its addresses: more tables than there are, and start slots to the last. */
static void go_far(void)
{
	static const u32 words[] = { LDR_X1_X0 };
	struct vm *vm = &vms[6];
	struct kvm_vcpu *vcpu = vm->vcpus[0];
	struct tally tally = {};
	unsigned int slot;

	make_vm(vm);
	write_code(vm, words, ARRAY_SIZE(words));
	for (slot = 0; slot < 1024; slot++)
		vm->root[slot] = virt_to_phys(vm->middle) | S2_TABLE;
	for (slot = 1024; slot-- > 0;) {
		make_vcpu(vm, vcpu);
		vcpu->arch.ctxt.regs.regs[0] = ((u64)slot << 30) + PAGE_SIZE;
		count(&tally, vcpu, run(vcpu));
		if ((slot & 255) == 128)
			flush_all(vm);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
		if (slot == 32)
			call(CALL(__kvm_tlb_flush_vmid_range), (u64)mmu_of(vm), 0, 1UL << 28, NULL);
#endif
	}
	/* It has all the tables now. */
	say_tally("far", tally, "");
}

/* ---- on every CPU ---------------------------------------------------------------------------------------------------------------------------- */

struct job {
	void (*work)(struct job *job);
	unsigned int cpu;
	u64 state, wanted;
	struct tally tally;
	struct completion done;
};

static DEFINE_PER_CPU(struct job, jobs);

static int do_job(void *data)
{
	struct job *job = data;

	job->work(job);
	complete(&job->done);
	return 0;
}

static struct tally do_on_every_cpu(void (*work)(struct job *job), u64 seed, u64 wanted)
{
	struct tally sum = {};
	int cpu;

	for_each_online_cpu(cpu) {
		struct job *job = per_cpu_ptr(&jobs, cpu);
		struct task_struct *task;

		memset(job, 0, sizeof(*job));
		job->work = work;
		job->cpu = cpu;
		job->state = (seed + 1) * (cpu + 1) * 0x9e3779b97f4a7c15UL;
		job->wanted = wanted / num_online_cpus();
		init_completion(&job->done);
		task = kthread_create(do_job, job, "hostile/%d", cpu);
		if (IS_ERR(task)) {
			complete(&job->done);
			continue;
		}
		kthread_bind(task, cpu);
		wake_up_process(task);
	}
	for_each_online_cpu(cpu) {
		struct tally *tally = &per_cpu_ptr(&jobs, cpu)->tally;

		wait_for_completion(&per_cpu_ptr(&jobs, cpu)->done);
		sum.made += tally->made;
		sum.refused += tally->refused;
		sum.going += tally->going;
		sum.ended += tally->ended;
		sum.caught += tally->caught;
		sum.illegal += tally->illegal;
		sum.serrors += tally->serrors;
		sum.traps += tally->traps;
		sum.classes |= tally->classes;
	}
	return sum;
}

static void on_every_cpu(const char *name, void (*work)(struct job *job), u64 seed, u64 wanted)
{
	struct tally sum = do_on_every_cpu(work, seed, wanted);

	say_tally(name, sum, "");
}

/* One vCPU wanted by all; its page comes and goes, and the table of its own that leads to it changes, while it works there by exclusives. */
static void run_together(struct job *job)
{
	struct vm *vm = &vms[7];
	struct kvm_vcpu *vcpu = vm->vcpus[0];
	u64 code, i;

	for (i = 0; i < job->wanted; i++) {
		if (job->cpu == 0 || i & 1) {
			if (enter(vcpu, &code))
				code = REFUSED;
			count(&job->tally, vcpu, code);
		} else {
			u64 x = next(&job->state);

			WRITE_ONCE(vm->last[2], x & 1 ? virt_to_phys(vm->data) | (x & 2 ? S2_PAGE : 0x77f) : 0);
			WRITE_ONCE(vm->data[1], x & 4 ? CODE | S1_BLOCK : (FREE + PAGE_SIZE) | S1_TABLE);
			dsb(ish);
			call(x & 8 ? CALL(__kvm_tlb_flush_vmid) : CALL(__kvm_tlb_flush_vmid_ipa), (u64)mmu_of(vm), FREE, x >> 4 & 3, NULL);
			job->tally.made++;
		}
		if (!(i & 63))
			cond_resched();
	}
}

static void try_together(u64 wanted)
{
	/* 1: ldxr x1, [x0]; stxr w2, x1, [x0]; str x1, [x0, #8]; ldaddal x1, x2, [x0]; b 1b */
	u32 words[] = { 0xc85f7c01, 0xc8027c01, 0xf9000401, 0xf8e10002, 0x17fffffc };
	struct vm *vm = &vms[7];

	with_own_tables(vm, vm->vcpus[0], DATA);
	vm->data[1] = CODE | S1_BLOCK;
	vm->last[3] = 0xb000000 | S2_PAGE;
	if (!(read_sysreg(id_aa64isar0_el1) >> 20 & 15))
		words[3] = NOP;
	write_code(vm, words, ARRAY_SIZE(words));
	vm->vcpus[0]->arch.ctxt.regs.regs[0] = FREE + 64;
	flush_all(vm);
	on_every_cpu("together", run_together, 0, wanted);
}

static void storm_call(struct job *job, struct vm *vm, struct kvm_vcpu *vcpu)
{
	u64 *state = &job->state, x = next(state), mmu = (u64)mmu_of(vm), address = odd(state), number = odd(state);
	u64 gic = (u64)&vcpu->arch.vgic_cpu.vgic_v3;

	if (!(x & 0xf00))
		mmu = gic = (u64)(vcpu = (struct kvm_vcpu *)wrong_pointer(next(state) % WRONG_POINTERS));
	kernel_neon_begin();
	switch (x & 15) {
	case 0: call(CALL(__kvm_adjust_pc), (u64)vcpu, 0, 0, NULL); break;
	case 1: call(CALL(__kvm_tlb_flush_vmid_ipa), mmu, address, number, NULL); break;
	case 2: call(CALL(__kvm_tlb_flush_vmid_ipa), mmu, address, x >> 16 & 3, NULL); break;
	case 3: call(CALL(__kvm_tlb_flush_vmid), mmu, 0, 0, NULL); break;
	case 4: call(CALL(__kvm_flush_cpu_context), mmu, 0, 0, NULL); break;
	case 5: call(CALL(__kvm_flush_vm_context), address, 0, 0, NULL); break;
	case 6: call(CALL(__vgic_v3_init_lrs), address, 0, 0, NULL); break;
	case 7: call(CALL(__kvm_get_mdcr_el2), address, 0, 0, NULL); break;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	case 8: call(CALL(__kvm_tlb_flush_vmid_range), mmu, address, number, NULL); break;
	case 9: call(CALL(__kvm_tlb_flush_vmid_range), mmu, CODE, x >> 16 & 0xfff, NULL); break;
	case 10: call(CALL(__vgic_v3_save_vmcr_aprs), gic, 0, 0, NULL); break;
	case 11: call(CALL(__vgic_v3_restore_vmcr_aprs), gic, 0, 0, NULL); break;
#else
	case 8: call(CALL(__vgic_v3_write_vmcr), number, 0, 0, NULL); break;
	case 9: call(CALL(__vgic_v3_read_vmcr), number, 0, 0, NULL); break;
	case 10: call(CALL(__vgic_v3_save_aprs), gic, 0, 0, NULL); break;
	case 11: call(CALL(__vgic_v3_restore_aprs), gic, 0, 0, NULL); break;
#endif
	case 12: call(RESET_VECTORS, address, number, 0, NULL); break;
	case 13: call(SET_VECTORS, address, number, 0, NULL); break;
	case 14:
		call(CALL(__kvm_timer_set_cntvoff), address, 0, 0, NULL);
		call(CALL(__kvm_timer_set_cntvoff), 0, 0, 0, NULL);
		break;
	case 15: call(KVM_CALLS + (number & 0x3f ? 64 : number), address, number, 0, NULL); break;
	}
	kernel_neon_end();
	job->tally.made++;
}

static void storm_here(struct job *job)
{
	u64 *state = &job->state;

	while (job->tally.made < job->wanted) {
		u64 x = next(state), i;
		struct vm *vm = &vms[8 + x % (VMS - 9)];
		struct kvm_vcpu *vcpu = vm->vcpus[x >> 8 & (VCPUS - 1)];

		if (x & 1 << 16)
			make_vm(vm);
		if (x & 1 << 17)
			make_vcpu(vm, vcpu);
		for (i = 0; i < (x >> 20 & 3); i++)
			spoil(next(state) % KINDS, vm, vcpu, state);
		if (x & 3 << 24)
			run_odd_code(vm, vcpu, &job->tally, state);
		else
			storm_call(job, vm, vcpu);
		cond_resched();
	}
}

/* ---- words that change while they are read --------------------------------------------------------------------------------------------------- */

#define MARK		0x600dUL
#define ALIAS		0x10000000UL		/* where a map of our own has two vCPUs, in the lower half */
#define ALIAS_BYTES	0x10000UL
#define OWN_PAGE	(0x703UL | 1UL << 54)	/* valid page, AF, inner shareable, Normal for Linux; not for EL0 to execute */

static struct {
	void *at;
	unsigned int size;
	u64 values[2];
	bool by_map, over;
	u64 changes, foreign;
} flip;
static u64 *own_map[4];				/* tables from the root to the pages */

/* Each word that the hypervisor reads from this kernel's memory on the way into a guest and out of it, and something else that it may hold. */
enum {
	FLIP_LISTS, FLIP_HCR, FLIP_MDCR, FLIP_STRANGE_MMU, FLIP_OTHER_MMU, FLIP_ARCH, FLIP_ROOT, FLIP_VMID, FLIP_VTCR, FLIP_PSTATE, FLIP_DEBUG,
	FLIP_VECTORS, FLIP_VECTOR_BYTES, FLIP_SRE, FLIP_GIC_HCR, FLIP_LEAF, FLIP_TABLE, FLIP_MAP, FLIPS
};

static const char *const flips[FLIPS] = {
	"lists", "hcr", "mdcr", "strange-mmu", "other-mmu", "arch", "root", "vmid", "vtcr", "pstate", "debug", "vectors", "vector-bytes", "sre", "gic-hcr",
	"leaf", "table", "map",
};

static void choose_flip(unsigned int kind, struct vm *vm, struct kvm_vcpu *vcpu)
{
	struct vgic_v3_cpu_if *gic = &vcpu->arch.vgic_cpu.vgic_v3;

#define FLIP(word, good, bad) do { \
		flip.at = (void *)&(word); flip.size = sizeof(word); flip.values[0] = (u64)(good); flip.values[1] = (u64)(bad); } while (0)
	switch (kind) {
	case FLIP_LISTS: FLIP(gic->used_lrs, 1, ~0UL); break;
	case FLIP_HCR: FLIP(vcpu->arch.hcr_el2, HCR_RW, ~0UL); break;
	case FLIP_MDCR: FLIP(vcpu->arch.mdcr_el2, 0, ~0UL); break;
	case FLIP_STRANGE_MMU: FLIP(vcpu->arch.hw_mmu, mmu_of(vm), el2_window); break;
	case FLIP_OTHER_MMU: FLIP(vcpu->arch.hw_mmu, mmu_of(vm), mmu_of(&vms[2])); break;
	case FLIP_ARCH: FLIP(mmu_of(vm)->arch, &vm->kvm->arch, el2_window); break;
	case FLIP_ROOT: FLIP(mmu_of(vm)->pgd_phys, virt_to_phys(vm->root), el2_base & ~0x1fffUL); break;
	case FLIP_VMID: FLIP(*vmid_of(vm), *vmid_of(vm), ~0UL); break;
	case FLIP_VTCR: FLIP(*vtcr_of(vm), VTCR, ~0UL); break;
	case FLIP_PSTATE: FLIP(vcpu->arch.ctxt.regs.pstate, EL1H, 0x3c9); break;
	case FLIP_DEBUG:
		vcpu->arch.iflags |= DEBUG_DIRTY_BIT;
		FLIP(vcpu->arch.debug_ptr, &vcpu->arch.vcpu_debug_state, el2_window);
		break;
	case FLIP_VECTORS:
		vcpu->arch.cflags = ~0;
		vcpu->arch.sve_max_vl = 16;
		FLIP(vcpu->arch.sve_state, vms[VMS - 1].vcpus[0], el2_window);
		break;
	case FLIP_VECTOR_BYTES:
		vcpu->arch.cflags = ~0;
		vcpu->arch.sve_state = (void *)vms[VMS - 1].vcpus[0];
		FLIP(vcpu->arch.sve_max_vl, 16, ~0UL);
		break;
	case FLIP_SRE: FLIP(gic->vgic_sre, 7, 0); break;
	case FLIP_GIC_HCR: FLIP(gic->vgic_hcr, 1, ~0UL); break;
	case FLIP_LEAF: FLIP(vm->last[1], virt_to_phys(vm->data) | S2_PAGE, el2_base | S2_PAGE); break;
	case FLIP_TABLE: FLIP(vm->middle[0], virt_to_phys(vm->last) | S2_TABLE, el2_base | S2_TABLE); break;
	case FLIP_MAP: FLIP(own_map[3][1], (virt_to_phys(vcpu) + PAGE_SIZE) | OWN_PAGE, el2_base | OWN_PAGE); break;
	}
#undef FLIP
}

static void put_flip(u64 value)
{
	switch (flip.size) {
	case 1: WRITE_ONCE(*(u8 *)flip.at, value); break;
	case 4: WRITE_ONCE(*(u32 *)flip.at, value); break;
	default: WRITE_ONCE(*(u64 *)flip.at, value); break;
	}
}

/* The lower half's map: two vCPUs of a VM, one after the other. */
static void make_own_map(struct vm *vm)
{
	unsigned int level, i;

	for (level = 0; level < 4; level++)
		memset(own_map[level], 0, PAGE_SIZE);
	for (level = 0; level < 3; level++)
		own_map[level][ALIAS >> (39 - 9 * level) & 511] = virt_to_phys(own_map[level + 1]) | S2_TABLE;
	for (i = 0; i < 1 << VCPU_ORDER; i++) {
		own_map[3][i] = (virt_to_phys(vm->vcpus[0]) + i * PAGE_SIZE) | OWN_PAGE;
		own_map[3][ALIAS_BYTES / PAGE_SIZE + i] = (virt_to_phys(vm->vcpus[1]) + i * PAGE_SIZE) | OWN_PAGE;
	}
	dsb(ish);
}

static void as_new_for_flip(struct vm *vm, struct kvm_vcpu *vcpu)
{
	static const u32 words[] = { LDR_X1_X0 };

	make_vcpu(vm, vcpu);
	vm->data[0] = MARK;
	vcpu->arch.ctxt.regs.regs[0] = DATA;
	write_code(vm, words, ARRAY_SIZE(words));
}

/*
 * The first CPU enters, the second one changes the word. Each burst of changes begins and ends with the other value, and each entry waits for the end of
 * one: an emulator stops the second CPU between two pieces of code, which is always behind the same value, and may not let it run for long.
 */
static void run_flipped(struct job *job)
{
	struct vm *vm = &vms[1];
	u64 code, i, burst;

	for (burst = 0; job->cpu == 1 && !READ_ONCE(flip.over); burst++) {
		for (i = 0; i < 512; i++)
			put_flip(flip.values[(i + burst) & 1]);
		WRITE_ONCE(flip.changes, flip.changes + 512);
		cond_resched();
	}
	if (job->cpu)
		return;
	for (i = 0; i < job->wanted; i++) {
		struct kvm_vcpu *vcpu = vm->vcpus[flip.by_map ? i & 1 : 0];
		u64 before = READ_ONCE(flip.changes);

		vcpu->arch.ctxt.regs.pc = CODE;
		vcpu->arch.ctxt.regs.regs[1] = 0;
		flush_all(vm);
		while (READ_ONCE(flip.changes) == before)
			cpu_relax();
		if (flip.by_map) {
			if (call_through(virt_to_phys(own_map[0]), CALL(__kvm_vcpu_run), ALIAS + (i & 1 ? ALIAS_BYTES : 0), &code))
				code = REFUSED;
		} else if (enter(vcpu, &code)) {
			code = REFUSED;
		}
		count(&job->tally, vcpu, code);
		if (code != REFUSED && has_ended(vcpu, code) && vcpu->arch.ctxt.regs.regs[1] != MARK)
			flip.foreign++;
		if (!(i & 63))
			cond_resched();
	}
	WRITE_ONCE(flip.over, true);
}

static int try_flips(u64 wanted)
{
	unsigned int kind;

	if (num_online_cpus() < 2)
		return -EINVAL;
	for (kind = 0; kind < FLIPS; kind++) {
		struct vm *vm = &vms[1];
		struct tally tally;

		make_vm(vm);
		make_vm(&vms[2]);
		write_code(&vms[2], (const u32[]){ LDR_X1_X0 }, 1);
		vms[2].data[0] = MARK;
		as_new_for_flip(vm, vm->vcpus[1]);
		as_new_for_flip(vm, vm->vcpus[0]);
		make_own_map(vm);
		choose_flip(kind, vm, vm->vcpus[0]);
		flip.over = false;
		flip.by_map = kind == FLIP_MAP;
		flip.changes = flip.foreign = 0;
		tally = do_on_every_cpu(run_flipped, 0, wanted * num_online_cpus());
		make_vm(vm);
		make_vcpu(vm, vm->vcpus[0]);
		say_tally("flip", tally, "%s changes %llu foreign %llu ", flips[kind], flip.changes, flip.foreign);
	}
	return 0;
}

/* ---- a page that comes and goes under a guest ------------------------------------------------------------------------------------------------ */

#define STALE_LOOKS	64

static struct {
	bool over;
	u64 mapped, stale;
} race;

enum { GONE_PAGE, GONE_ANY_LEVEL, GONE_ALL, GONE_TABLE, GONE_RANGE, GONE_WAYS };

/* The page at FREE is taken away and the hypervisor told, in one of the ways in which KVM does. */
static void take_away(struct vm *vm, unsigned int way)
{
	const u64 mmu = (u64)mmu_of(vm);

	if (way == GONE_TABLE)
		WRITE_ONCE(vm->middle[0], 0);
	WRITE_ONCE(vm->last[2], 0);
	dsb(ishst);
	switch (way) {
	case GONE_PAGE: call(CALL(__kvm_tlb_flush_vmid_ipa), mmu, FREE, 3, NULL); break;
	case GONE_ANY_LEVEL: call(CALL(__kvm_tlb_flush_vmid_ipa), mmu, FREE, 0, NULL); break;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 12, 0)
	case GONE_RANGE: call(CALL(__kvm_tlb_flush_vmid_range), mmu, CODE, 512, NULL); break;
#endif
	default: call(CALL(__kvm_tlb_flush_vmid), mmu, 0, 0, NULL); break;
	}
	if (way == GONE_TABLE)
		WRITE_ONCE(vm->middle[0], virt_to_phys(vm->last) | S2_TABLE);
	dsb(ishst);
}

static void run_race(struct job *job)
{
	struct vm *vm = &vms[7];
	struct kvm_vcpu *vcpu = vm->vcpus[0];
	volatile u64 *page = vm->data;
	u64 i, j, code;

	if (job->cpu == 0) {
		while (!READ_ONCE(race.over)) {
			count(&job->tally, vcpu, enter(vcpu, &code) ? REFUSED : code);
			cond_resched();
		}
		return;
	}
	for (i = 0; job->cpu == 1 && i < job->wanted; i++) {
		page[8] = 0;
		WRITE_ONCE(vm->last[2], virt_to_phys(vm->data) | S2_PAGE);
		dsb(ishst);
		for (j = 0; j < 20000000 && page[8] != MARK; j++)
			cpu_relax();
		race.mapped += page[8] == MARK;
		take_away(vm, i % GONE_WAYS);
		page[8] = ~MARK;
		dsb(ish);
		for (j = 0; j < STALE_LOOKS; j++)
			udelay(1);
		race.stale += page[8] != ~MARK;
		if (!(i & 15))
			cond_resched();
	}
	if (job->cpu == 1)
		WRITE_ONCE(race.over, true);
}

static int try_race(u64 wanted)
{
	/* 1: str x1, [x0]; b 1b */
	static const u32 words[] = { STR_X1_X0, 0x17ffffff };
	struct vm *vm = &vms[7];
	struct tally tally;

	if (num_online_cpus() < 2)
		return -EINVAL;
	make_vm(vm);
	make_vcpu(vm, vm->vcpus[0]);
	write_code(vm, words, ARRAY_SIZE(words));
	vm->vcpus[0]->arch.ctxt.regs.regs[0] = FREE + 64;
	vm->vcpus[0]->arch.ctxt.regs.regs[1] = MARK;
	flush_all(vm);
	memset(&race, 0, sizeof(race));
	tally = do_on_every_cpu(run_race, 0, wanted * num_online_cpus());
	say_tally("race", tally, "mapped %llu stale %llu ", race.mapped, race.stale);
	return 0;
}

/* ---- 2 MiB that are split and collapsed under a guest ---------------------------------------------------------------------------------------- */

#define BLOCK_ORDER	9
#define BLOCK_AT	(CODE + (1UL << 21))

static struct {
	u64 *pieces[2];				/* 2 MiB each */
	u64 *table;
	bool over;
	u64 splits, collapses, moves, with_foreign;
} blocks;

/* The table of all its pages, of which `foreign` may be one of the hypervisor's. */
static void fill_block_table(u64 *piece, int foreign)
{
	int i;

	for (i = 0; i < 512; i++)
		blocks.table[i] = (virt_to_phys(piece) + i * PAGE_SIZE) | S2_PAGE;
	if (foreign >= 0)
		blocks.table[foreign] = el2_base | S2_PAGE;
}

/* As KVM does it: what a table led to is flushed with all of the VM; or at once, which only fits where the same frames lie behind both. */
static void set_middle(struct vm *vm, u64 word, bool break_first)
{
	if (break_first) {
		WRITE_ONCE(vm->middle[1], 0);
		dsb(ishst);
		flush_all(vm);
	}
	WRITE_ONCE(vm->middle[1], word);
	dsb(ishst);
	if (!break_first)
		call(CALL(__kvm_tlb_flush_vmid_ipa), (u64)mmu_of(vm), BLOCK_AT, 2, NULL);
}

static void run_blocks(struct job *job)
{
	struct vm *vm = &vms[6];
	struct kvm_vcpu *vcpu = vm->vcpus[0];
	u64 i, code, *piece = blocks.pieces[0];

	if (job->cpu == 0) {
		while (!READ_ONCE(blocks.over)) {
			code = enter(vcpu, &code) ? REFUSED : code;
			count(&job->tally, vcpu, code);
			if (job->tally.ended)
				break;
			cond_resched();
		}
		return;
	}
	for (i = 0; job->cpu == 1 && i < job->wanted; i++) {
		u64 x = next(&job->state);

		switch (x & 3) {
		case 0:		/* split, as for dirty logging; a page that the guest does not use may be the hypervisor's */
			fill_block_table(piece, x & 4 ? 16 + (x >> 8) % 400 : -1);
			set_middle(vm, virt_to_phys(blocks.table) | S2_TABLE, x & 8);
			blocks.splits++;
			blocks.with_foreign += !!(x & 4);
			break;
		case 1:		/* collapsed where it is */
			set_middle(vm, virt_to_phys(piece) | S2_BLOCK, x & 8);
			blocks.collapses++;
			break;
		case 2:		/* collapsed into another one, as khugepaged does: gone, copied, there again */
			set_middle(vm, 0, true);
			memcpy(blocks.pieces[piece == blocks.pieces[0]], piece, PAGE_SIZE << BLOCK_ORDER);
			piece = blocks.pieces[piece == blocks.pieces[0]];
			set_middle(vm, virt_to_phys(piece) | S2_BLOCK, false);
			blocks.moves++;
			break;
		case 3:		/* a page of it goes and comes back */
			fill_block_table(piece, -1);
			set_middle(vm, virt_to_phys(blocks.table) | S2_TABLE, true);
			WRITE_ONCE(blocks.table[x >> 4 & 7], 0);
			dsb(ishst);
			call(CALL(__kvm_tlb_flush_vmid_ipa), (u64)mmu_of(vm), BLOCK_AT + (x >> 4 & 7) * PAGE_SIZE, 3, NULL);
			WRITE_ONCE(blocks.table[x >> 4 & 7], (virt_to_phys(piece) + (x >> 4 & 7) * PAGE_SIZE) | S2_PAGE);
			dsb(ishst);
			break;
		}
		if (!(i & 15))
			cond_resched();
	}
	if (job->cpu == 1)
		WRITE_ONCE(blocks.over, true);
}

static int try_blocks(u64 wanted)
{
	/*
	 * x0 walks eight pages; each holds what was stored there on the round before, x1 - 1:
	 * 1: ldr x2, [x0, x3]; sub x4, x1, #1; cmp x2, x4; b.ne 2f; str x1, [x0, x3]; add x3, x3, #4096; and x3, x3, #0x7fff; cbnz x3, 1b;
	 * add x1, x1, #1; b 1b; 2: (HVC 1 by write_code)
	 */
	static const u32 words[] = {
		0xf8636802, 0xd1000424, 0xeb04005f, 0x540000e1, 0xf8236801, 0x91400463, 0x92403863, 0xb5ffff23, 0x91000421, 0x17fffff7,
	};
	struct vm *vm = &vms[6];
	struct kvm_vcpu *vcpu = vm->vcpus[0];
	struct tally tally;

	if (num_online_cpus() < 2)
		return -EINVAL;
	make_vm(vm);
	make_vcpu(vm, vcpu);
	write_code(vm, words, ARRAY_SIZE(words));
	memset(blocks.pieces[0], 0, PAGE_SIZE << BLOCK_ORDER);
	vm->middle[1] = virt_to_phys(blocks.pieces[0]) | S2_BLOCK;
	vcpu->arch.ctxt.regs.regs[0] = BLOCK_AT;
	vcpu->arch.ctxt.regs.regs[1] = 1;
	flush_all(vm);
	blocks.over = false;
	blocks.splits = blocks.collapses = blocks.moves = blocks.with_foreign = 0;
	tally = do_on_every_cpu(run_blocks, 0, wanted * num_online_cpus());
	vm->middle[1] = 0;
	flush_all(vm);
	say_tally("blocks", tally, "rounds %llu splits %llu foreign %llu collapses %llu moves %llu ", vcpu->arch.ctxt.regs.regs[1], blocks.splits,
		  blocks.with_foreign, blocks.collapses, blocks.moves);
	return 0;
}

/* ---- structures that are given back while they are in use ------------------------------------------------------------------------------------ */

static bool freed_over;

static void run_freed(struct job *job)
{
	struct vm *vm = &vms[7], *other = &vms[8];
	struct kvm_vcpu *vcpu = vm->vcpus[0];
	u64 i, code;

	for (i = 0; job->cpu == 0 && i < job->wanted; i++) {
		count(&job->tally, vcpu, enter(vcpu, &code) ? REFUSED : code);
		if (!(i & 63))
			cond_resched();
	}
	if (job->cpu == 0)
		WRITE_ONCE(freed_over, true);
	while (job->cpu && !READ_ONCE(freed_over)) {
		u64 x = next(&job->state);

		job->tally.made++;
		switch (x & 7) {
		case 0: memset(vcpu, x & 8 ? 0xff : 0, sizeof(*vcpu)); break;
		case 1: memset(vm->kvm, x & 8 ? 0xff : 0, sizeof(*vm->kvm)); break;
		case 2: make_vcpu(other, vcpu); break;		/* the same memory, a vCPU of another VM */
		case 3: memcpy(vm->kvm, other->kvm, sizeof(*vm->kvm)); break;	/* the same memory, another VM */
		case 4: *vmid_of(vm) = x >> 8 & 0xffff; break;
		case 5:						/* the next VM in this memory begins with empty tables */
			mmu_of(vm)->pgd_phys = virt_to_phys(other->root);
			flush_all(vm);
			break;
		case 6:
			count(&job->tally, vcpu, enter(vcpu, &code) ? REFUSED : code);
			break;
		default:
			make_vm(vm);
			make_vcpu(vm, vcpu);
			break;
		}
		cond_resched();
	}
}

static int try_freed(u64 wanted)
{
	/* b . */
	static const u32 words[] = { 0x14000000 };
	struct vm *vm = &vms[7], *other = &vms[8];
	struct tally tally;

	if (num_online_cpus() < 2)
		return -EINVAL;
	make_vm(vm);
	make_vm(other);
	make_vcpu(vm, vm->vcpus[0]);
	write_code(vm, words, ARRAY_SIZE(words));
	write_code(other, words, ARRAY_SIZE(words));
	flush_all(vm);
	freed_over = false;
	tally = do_on_every_cpu(run_freed, 0, wanted * num_online_cpus());
	make_vm(vm);
	make_vcpu(vm, vm->vcpus[0]);
	flush_all(vm);
	say_tally("freed", tally, "");
	return 0;
}

/* ---- instructions that no guest has, one by one ---------------------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	u32 word;
} listed[] = {
	{ "smc-0", 0xd4000003 }, { "smc-1", 0xd4000023 }, { "smc-ffff", 0xd41fffe3 }, { "hvc-0", 0xd4000002 }, { "hvc-2", 0xd4000042 },
	{ "hvc-ffff", 0xd41fffe2 }, { "sve-rdvl", 0x04bf5020 }, { "sve-ptrue", 0x2518e3e0 }, { "sve-zcr", 0xd5381201 }, { "sme-smstart", 0xd503477f },
	{ "sme-rdsvl", 0x04bf5820 }, { "sme-svcr", 0xd53b4241 }, { "pauth-pacia", 0xdac10041 }, { "pauth-key", 0xd5382101 }, { "bti", 0xd503245f },
	{ "mte-irg", 0x9adf1041 }, { "mte-stg", 0xd9200800 }, { "mte-gcr", 0xd53810c1 }, { "wfe", 0xd503205f }, { "wfi", 0xd503207f },
	{ "wfet", 0xd5031002 }, { "wfit", 0xd5031022 }, { "ls64-ld64b", 0xf83fd002 }, { "ls64-st64b", 0xf83f9002 }, { "eret", 0xd69f03e0 },
	{ "hcr", 0xd53c1101 }, { "vttbr", 0xd53c2101 }, { "cntvoff", 0xd53ce061 }, { "sctlr-el12", 0xd53d1001 }, { "tlbi-alle1", 0xd50c879f },
	{ "tlbi-ipas2", 0xd50c8420 }, { "tlbi-alle2", 0xd50c871f }, { "at-s12", 0xd50c7880 }, { "at-s1e2", 0xd50c7800 }, { "dc-isw", 0xd5087640 },
	{ "dc-cisw", 0xd5087e40 }, { "actlr", 0xd5381021 }, { "pmcr", 0xd53b9c01 }, { "trbe", 0xd5389b01 }, { "spe", 0xd5389a01 },
	{ "ras", 0xd5385301 }, { "hlt", 0xd4400000 }, { "dcps2", 0xd4a00002 }, { "dcps3", 0xd4a00003 }, { "udf", 0 },
};

static void try_listed(void)
{
	struct vm *vm = &vms[3];
	struct kvm_vcpu *vcpu = vm->vcpus[0];
	unsigned int i, number;
	static const u64 numbers[] = { 0, 1, ~0UL, 0x84000000, 0xc4000003, 0x80000000, 0xc6000001, 0x86000000, 0x82000000, 0xb2000000 };

	for (i = 0; i < ARRAY_SIZE(listed); i++) {
		struct tally tally = {};

		for (number = 0; number < ARRAY_SIZE(numbers); number++) {
			make_vm(vm);
			make_vcpu(vm, vcpu);
			vcpu->arch.ctxt.regs.regs[0] = numbers[number];
			vcpu->arch.ctxt.regs.regs[2] = DATA;
			write_code(vm, &listed[i].word, 1);
			count(&tally, vcpu, run(vcpu));
		}
		say_tally("listed", tally, "%s ", listed[i].name);
	}
}

/* ---- the virtual interface of a GICv2 -------------------------------------------------------------------------------------------------------- */

#define GICD_ON		0x100			/* GICD_ISENABLER0 and GICD_ICENABLER0, of which each CPU has its own */
#define GICD_OFF	0x180
#define MAINTENANCE	BIT(25)
#define GICH_BYTES	0x200
#define GICH_WORDS	6
#define GICV_OFFSET	0x10000UL		/* from the control of QEMU's virt machine to the interface that a guest sees */
#define MADE_UP		40

static const unsigned int gich_registers[GICH_WORDS] = { 0x00, 0x08, 0xf0, 0x100, 0x104, 0x10c };	/* HCR, VMCR, APR, LR0, LR1, LR3 */
static void __iomem *gicd, *gich;
static u64 gich_base;
static atomic64_t gich_seen;			/* interrupts that guests acknowledged of those that were made up here */

static void put_gich(const u32 *words)
{
	unsigned int j;

	for (j = 0; j < GICH_WORDS; j++)
		writel(words ? words[j] : 0, gich + gich_registers[j]);
}

/*
 * Each CPU has registers of its own there; the guest has the interface's page, and takes interrupts at its vectors or acknowledges one with
 * interrupts off. The maintenance interrupt is off meanwhile: what is written may raise it for good.
 */
static void run_gich(struct job *job)
{
	/* msr daifclr, #2; isb; ldr w1, [x0, #12] */
	static const u32 words[] = { 0xd50342ff, 0xd5033fdf, 0xb9400c01 };
	/* on, the CPU interface's mask open, one interrupt pending that no hardware has, and a list register that says too much */
	static const u32 ordinary[GICH_WORDS] = { 1, 0xf0000003, 0, 0x10000000 | MADE_UP, 0, ~0U };
	struct vm *vm = &vms[8 + job->cpu];
	struct kvm_vcpu *vcpu = vm->vcpus[0];
	u32 odd[GICH_WORDS];
	u64 code, i, j;

	make_vm(vm);
	vm->last[2] = (gich_base + GICV_OFFSET) | 0x7c3;	/* device, read and write */
	write_code(vm, words, ARRAY_SIZE(words));
	flush_all(vm);
	writel(MAINTENANCE, gicd + GICD_OFF);
	for (i = 0; i < job->wanted; i++) {
		make_vcpu(vm, vcpu);
		vcpu->arch.ctxt.regs.pc += i & 1 ? 8 : 0;
		vcpu->arch.hcr_el2 |= i & 4 ? HCR_FMO | HCR_IMO : 0;
		vcpu->arch.ctxt.regs.regs[0] = FREE;
		for (j = 0; j < GICH_WORDS; j++)
			odd[j] = next(&job->state);
		for (j = 0, code = EXIT_IRQ; j < ROUNDS && code == EXIT_IRQ; j++) {
			put_gich(i & 2 ? odd : ordinary);
			if (enter(vcpu, &code))
				code = REFUSED;
			put_gich(NULL);
		}
		count(&job->tally, vcpu, code);
		if ((vcpu->arch.ctxt.regs.regs[1] & 0x3ff) == MADE_UP)
			atomic64_inc(&gich_seen);
		cond_resched();
	}
	writel(MAINTENANCE, gicd + GICD_ON);
}

static int try_gich(u64 distributor, u64 control, u64 wanted)
{
	struct tally tally;
	int failed = -ENOMEM;

	gicd = ioremap(distributor, PAGE_SIZE);
	gich = ioremap(control, GICH_BYTES);
	if (gicd && gich) {
		gich_base = control;
		atomic64_set(&gich_seen, 0);
		tally = do_on_every_cpu(run_gich, 1, wanted);
		say_tally("gich", tally, "acknowledged %lld ", atomic64_read(&gich_seen));
		failed = 0;
	}
	if (gich)
		iounmap(gich);
	if (gicd)
		iounmap(gicd);
	return failed;
}

/* A guest that invalidates all that it may, on and on. */
static void try_maintain(u64 wanted)
{
	static const u32 words[] = {
		0xd508871f, 0xd508831f,			/* 1: tlbi vmalle1; tlbi vmalle1is */
		0xd5088320, 0xd50883a0,			/* tlbi vae1is, x0; tlbi vale1is, x0 */
		0xd5088340, 0xd508711f, 0xd508751f,	/* tlbi aside1is, x0; ic ialluis; ic iallu */
		0xd50b7e22, 0xd50b7b22, 0xd5033f9f,	/* dc civac, x2; dc cvau, x2; dsb sy */
		0xf9400041, 0x17fffff5,			/* ldr x1, [x2]; b 1b */
	};
	struct vm *vm = &vms[3];
	struct kvm_vcpu *vcpu = vm->vcpus[0];
	struct tally tally = {};
	u64 i, code;

	make_vm(vm);
	make_vcpu(vm, vcpu);
	vcpu->arch.ctxt.regs.regs[2] = DATA;
	write_code(vm, words, ARRAY_SIZE(words));
	for (i = 0; i < wanted; i++) {
		count(&tally, vcpu, enter(vcpu, &code) ? REFUSED : code);
		if (!(i & 7))
			flush_all(vm);
		cond_resched();
	}
	say_tally("maintain", tally, "");
}

/* ---- the end --------------------------------------------------------------------------------------------------------------------------------- */

/* A VM's end is a structure that names no table any more, and the hypervisor hears of it when no guest runs. */
static void end_all(void)
{
	int i, j;

	finish("end", "all VMs");
	for (i = 0; i < VMS; i++) {
		make_vm(&vms[i]);
		for (j = 0; j < VCPUS; j++)
			make_vcpu(&vms[i], vms[i].vcpus[j]);
		mmu_of(&vms[i])->pgd_phys = 0;
	}
	for (i = 0; i < 8; i++)
		call(RESET_VECTORS, 0, 0, 0, NULL);
}

static int set_target(u64 base, u64 pages)
{
	if (!base || !pages)
		return -EINVAL;
	if (pfn_valid(base >> PAGE_SHIFT) && page_count(pfn_to_page(base >> PAGE_SHIFT)) > 0 && !PageReserved(pfn_to_page(base >> PAGE_SHIFT)))
		el2_window = (void __iomem *)__va(base);
	else if (base != el2_base && !(el2_window = ioremap(base, PAGE_SIZE)))
		return -ENOMEM;
	el2_base = base;
	el2_pages = pages;
	return 0;
}

static int command(char *line)
{
	u64 x[4] = {};
	char name[16];
	int failed = 0;

	if (sscanf(line, "%15s", name) != 1)
		return -EINVAL;
	sscanf(line, "%*s %llx %llx %llx %llx", x, x + 1, x + 2, x + 3);
	if (!strcmp(name, "target"))
		failed = set_target(x[0], x[1]);
	else if (!el2_base)
		failed = -EINVAL;
	else if (!strcmp(name, "calls"))
		make_calls(x[0]);
	else if (!strcmp(name, "controls"))
		try_controls();
	else if (!strcmp(name, "reach"))
		reach();
	else if (!strcmp(name, "code"))
		try_code(x[0], x[1]);
	else if (!strcmp(name, "walks"))
		try_walks(x[0]);
	else if (!strcmp(name, "pools"))
		fill_pools();
	else if (!strcmp(name, "far"))
		go_far();
	else if (!strcmp(name, "together"))
		try_together(x[0]);
	else if (!strcmp(name, "storm"))
		on_every_cpu("storm", storm_here, x[0], x[1]);
	else if (!strcmp(name, "flip"))
		failed = try_flips(x[0]);
	else if (!strcmp(name, "race"))
		failed = try_race(x[0]);
	else if (!strcmp(name, "blocks"))
		failed = try_blocks(x[0]);
	else if (!strcmp(name, "freed"))
		failed = try_freed(x[0]);
	else if (!strcmp(name, "listed"))
		try_listed();
	else if (!strcmp(name, "gich"))
		failed = try_gich(x[0], x[1], x[2]);
	else if (!strcmp(name, "maintain"))
		try_maintain(x[0]);
	else if (!strcmp(name, "end"))
		end_all();
	else
		failed = -EINVAL;
	return failed;
}

COMMAND_DEVICE(said_read);

static int __init hostile_init(void)
{
	struct page *pages;
	int i;

	for (i = 0; i < VMS; i++)
		if (allocate_vm(&vms[i]))
			return -ENOMEM;
	pages = alloc_pages(GFP_KERNEL, 2);
	split = pages ? vmap((struct page *[]){ pages + 2, pages + 1, pages }, 3, VM_MAP, PAGE_KERNEL) : NULL;
	mmio_window = ioremap(0x9000000, PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(own_map); i++)
		if (!(own_map[i] = (u64 *)get_zeroed_page(GFP_KERNEL)))
			return -ENOMEM;
	blocks.table = (u64 *)get_zeroed_page(GFP_KERNEL);
	for (i = 0; i < ARRAY_SIZE(blocks.pieces); i++)
		blocks.pieces[i] = (u64 *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, BLOCK_ORDER);
	if (!blocks.table || !blocks.pieces[0] || !blocks.pieces[1])
		return -ENOMEM;
	return split && mmio_window ? misc_register(&device) : -ENOMEM;
}
module_init(hostile_init);

MODULE_DESCRIPTION("Attacks on the hypervisor below by KVM's calls");
MODULE_LICENSE("GPL");
