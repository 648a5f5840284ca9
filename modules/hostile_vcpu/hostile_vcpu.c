// SPDX-License-Identifier: GPL-2.0-only
/*
 * A host kernel that changes what KVM keeps of a vCPU, immediately before each entry of a protected guest, and looks immediately after each exit at
 * what it was shown.
 *
 * Commands are written to /dev/hostile_vcpu, a line each; what came of them is read from it, one line each that starts with "hostile_vcpu:". PID is
 * that of the guest's VMM, and decimal as all numbers are.
 *
 *   on PID MODE ..       begin with the vCPUs of this process. Modes: scribble (all registers), controls (HCR, MDCR, fault), debug, fp, vgic,
 *                        exceptions (raised at exits that allow none), answers (what the guest takes from its host by design is garbage as well)
 *   off                  end it; says what was seen
 *   run VCPU COUNT       run a vCPU of the guest, whatever KVM thinks of it
 *   copies VCPU COUNT    the same with copies of the structure at other addresses, which say that they are this vCPU and others
 *   wake VCPU            make KVM itself run a vCPU that is off
 *
 * Between the two probes interrupts are masked and KVM looks at nothing that is changed here: what the guest was not to change is put back at the
 * exit, so that KVM goes on with what it had. What differs from the garbage after an exit was shown by the hypervisor. Left alone are the list
 * registers, through which interrupts come, the bits of HCR that are interrupts, by whom the vCPU is found: hw_mmu and sve_state, and MPIDR_EL1, by
 * which KVM finds it on other CPUs while it runs.
 */
#include <linux/kprobes.h>
#include <linux/kvm_host.h>
#include <linux/percpu.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/version.h>
#include <asm/neon.h>
#include <asm/sysreg.h>
#include "command_device.h"

#define RUN		(0xc6000000UL + __KVM_HOST_SMCCC_FUNC___kvm_vcpu_run)
#define EXIT_ILLEGAL	3UL
#define NOT_SHOWN	(~0UL)			/* a syndrome that no exit has */
#define SHOWN_PSTATE	0x3c5UL
#define ADJUST		0xfUL			/* iflags: PENDING_EXCEPTION, and INCREMENT_PC or the kind of exception */
#define PENDING		1UL
#define INCREMENT	2UL
#define VCPUS		8
#define COPIES		4

enum { SCRIBBLE, CONTROLS, DEBUG, FP, VGIC, EXCEPTIONS, ANSWERS, MODES };
enum { INTERRUPT, CALL, WAIT, MEMORY, LOAD, STORE, GET, SET, OTHER, KINDS };

static const char *const modes[MODES] = { "scribble", "controls", "debug", "fp", "vgic", "exceptions", "answers" };
static const char *const kinds[KINDS] = { "interrupt", "call", "wait", "memory", "load", "store", "get", "set", "other" };

#define FIELD(name)	{ offsetof(struct kvm_vcpu, arch.name), sizeof_field(struct kvm_vcpu, arch.name)

static const struct part { size_t at, size; int mode; } parts[] = {
	FIELD(ctxt), SCRIBBLE },
	FIELD(hcr_el2), CONTROLS }, FIELD(mdcr_el2), CONTROLS }, FIELD(fault), CONTROLS },
	FIELD(debug_ptr), DEBUG }, FIELD(vcpu_debug_state), DEBUG }, FIELD(external_debug_state), DEBUG },
	FIELD(cflags), FP },
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)
	FIELD(mdcr_el2_host), CONTROLS }, FIELD(host_debug_state), DEBUG }, FIELD(svcr), FP },
#endif
	FIELD(vgic_cpu.vgic_v3.vgic_ap0r), VGIC }, FIELD(vgic_cpu.vgic_v3.vgic_ap1r), VGIC },
	FIELD(vgic_cpu.vgic_v3.vgic_sre), VGIC }, FIELD(vgic_cpu.vgic_v3.its_vpe.its_vm), VGIC }, FIELD(vgic_cpu.vgic_v3.vgic_hcr), VGIC },
	FIELD(vsesr_el2), EXCEPTIONS },
};

/* What one entry has changed, on the CPU that makes it. */
struct spoilt {
	struct kvm_vcpu *vcpu;
	unsigned int modes;
	u8 saved[sizeof(struct kvm_vcpu)], garbage[sizeof(struct kvm_vcpu)];
};

/* The last exit of a vCPU: its kind, and the general register that it lets the host fill. */
struct last {
	bool known;
	int kind, target;
};

static struct spoilt *spoilt[NR_CPUS];
static struct last lasts[VCPUS];
static struct kvm *victim;
static pid_t target;
static unsigned int wanted;
static u64 seen[KINDS], entries, raised, leaked, wide, addresses, first_at, first_x, first_esr;

static int kind_of(u64 esr, int *target)
{
	*target = -1;
	if (esr == NOT_SHOWN)
		return INTERRUPT;
	switch (esr >> 26 & 0x3f) {
	case 0x01:
		return WAIT;
	case 0x16:
		return CALL;
	case 0x18:
		*target = esr >> 5 & 31;
		return esr & 1 ? GET : SET;
	case 0x24:
		*target = esr >> 16 & 31;
		return !(esr & 1 << 24) ? MEMORY : esr & 1 << 6 ? STORE : LOAD;
	}
	return OTHER;
}

/* ---- before an entry ------------------------------------------------------------------------------------------------------------------------- */

/* What the last exit lets the host give stays what KVM gave, unless answers are to be garbage too. */
static void keep_answer(struct kvm_vcpu *vcpu, const struct kvm_vcpu *saved, const struct last *last)
{
	int i;

	if (last->kind == CALL)
		for (i = 0; i < 4; i++)
			vcpu->arch.ctxt.regs.regs[i] = saved->arch.ctxt.regs.regs[i];
	if ((last->kind == LOAD || last->kind == GET) && last->target < 31)
		vcpu->arch.ctxt.regs.regs[last->target] = saved->arch.ctxt.regs.regs[last->target];
}

static void raise(struct kvm_vcpu *vcpu, const struct last *last)
{
	u32 x = get_random_u32();

	vcpu->arch.hcr_el2 |= HCR_VSE;
	if (!(x & 1 << 8) || last->kind > MEMORY)
		return;
	vcpu->arch.iflags = (vcpu->arch.iflags & ~ADJUST) | (last->kind != WAIT && x & 1 << 9 ? INCREMENT : PENDING | (x & 0xe));
	raised++;
}

static int before(struct kprobe *probe, struct pt_regs *regs)
{
	struct kvm_vcpu *vcpu = (struct kvm_vcpu *)regs->regs[0];
	struct spoilt *mine = spoilt[smp_processor_id()];
	struct kvm_vcpu *saved = (struct kvm_vcpu *)mine->saved;
	struct last *last = &lasts[vcpu->vcpu_idx % VCPUS];
	u64 keep;
	int i;

	mine->vcpu = NULL;
	if (!wanted || current->tgid != target)
		return 0;
	victim = vcpu->kvm;
	mine->vcpu = vcpu;
	mine->modes = last->known ? wanted : 0;
	memcpy(saved, vcpu, sizeof(*vcpu));
	entries++;
	for (i = 0; i < ARRAY_SIZE(parts); i++)
		if (mine->modes & 1 << parts[i].mode)
			get_random_bytes((u8 *)vcpu + parts[i].at, parts[i].size);
	/* Other CPUs of the host find by it whom the guest's interrupts are for (vgic_v3_dispatch_sgi), whether or not the vCPU runs. */
	ctxt_sys_reg(&vcpu->arch.ctxt, MPIDR_EL1) = ctxt_sys_reg(&saved->arch.ctxt, MPIDR_EL1);
	if (mine->modes & 1 << VGIC) {
		/* The interrupts that KVM has put there are to reach the guest; that it may not see to. */
		keep = saved->arch.vgic_cpu.vgic_v3.vgic_hcr & 1;
		vcpu->arch.vgic_cpu.vgic_v3.vgic_hcr = (vcpu->arch.vgic_cpu.vgic_v3.vgic_hcr & ~0xffU & ~(1U << 13)) | keep;
		vcpu->arch.vgic_cpu.vgic_v3.vgic_sre &= get_random_u32() & 1 ? 0 : ~0U;
	}
	if (mine->modes & 1 << EXCEPTIONS)
		raise(vcpu, last);
	if (!(mine->modes & 1 << ANSWERS))
		keep_answer(vcpu, saved, last);
	vcpu->arch.hcr_el2 &= ~(HCR_VI | HCR_VF);
	vcpu->arch.fault.esr_el2 = NOT_SHOWN;
	memcpy(mine->garbage, vcpu, sizeof(*vcpu));
	return 0;
}

/* ---- after an exit --------------------------------------------------------------------------------------------------------------------------- */

static bool may_be_shown(size_t word, u64 x, int kind, int target)
{
	const size_t first = offsetof(struct kvm_vcpu, arch.ctxt.regs) / 8, pc = offsetof(struct kvm_vcpu, arch.ctxt.regs.pc) / 8;

	if (kind == INTERRUPT)
		return false;
	if (word == pc)
		return x == 0;
	if (word == pc + 1)
		return x == SHOWN_PSTATE;
	if (kind == CALL)
		return word >= first && word < first + 4;
	return (kind == STORE || kind == SET) && word == first + target && target < 31;
}

static void note(size_t at, u64 x, u64 esr)
{
	if (leaked++)
		return;
	first_at = at - offsetof(struct kvm_vcpu, arch);
	first_x = x;
	first_esr = esr;
}

/* The registers, and whatever else of the structure is changed at entries: of that, the fault alone is the hypervisor's to write. */
static void look(struct kvm_vcpu *vcpu, const u64 *garbage, u64 esr, int kind, int target)
{
	const u64 *now = (const u64 *)vcpu;
	size_t word, start = offsetof(struct kvm_vcpu, arch.ctxt) / 8, end = start + sizeof(vcpu->arch.ctxt) / 8;
	int i;

	for (word = start; word < end; word++) {
		if (now[word] == garbage[word])
			continue;
		addresses += now[word] >> 40 == 0xffffff;
		if (!may_be_shown(word, now[word], kind, target))
			note(word * 8, now[word], esr);
	}
	for (i = 1; i < ARRAY_SIZE(parts); i++)
		if (parts[i].at != offsetof(struct kvm_vcpu, arch.fault) &&
		    memcmp((u8 *)vcpu + parts[i].at, (const u8 *)garbage + parts[i].at, parts[i].size))
			note(parts[i].at, i, esr);
	if (kind == STORE && target < 31 && (esr >> 22 & 3) < 3)
		wide += vcpu->arch.ctxt.regs.regs[target] >> (8 << (esr >> 22 & 3)) != 0;
	if (kind != INTERRUPT && vcpu->arch.fault.far_el2 >> PAGE_SHIFT)
		wide++;
}

/* What KVM had comes back, but for what it is shown, which is left where it is. */
static void put_back(struct kvm_vcpu *vcpu, const struct spoilt *mine)
{
	const u64 *saved = (const u64 *)mine->saved, *garbage = (const u64 *)mine->garbage;
	const struct kvm_vcpu *old = (const struct kvm_vcpu *)mine->saved;
	size_t word, start = offsetof(struct kvm_vcpu, arch.ctxt) / 8, end = start + sizeof(vcpu->arch.ctxt) / 8;
	struct kvm_vcpu_fault_info fault = vcpu->arch.fault;
	int i;

	for (word = start; word < end; word++)
		if (((u64 *)vcpu)[word] == garbage[word])
			((u64 *)vcpu)[word] = saved[word];
	for (i = 1; i < ARRAY_SIZE(parts); i++)
		if (mine->modes & 1 << parts[i].mode)
			memcpy((u8 *)vcpu + parts[i].at, mine->saved + parts[i].at, parts[i].size);
	vcpu->arch.hcr_el2 = old->arch.hcr_el2;
	vcpu->arch.fault = fault.esr_el2 == NOT_SHOWN ? old->arch.fault : fault;
	if (mine->modes & 1 << EXCEPTIONS)
		vcpu->arch.iflags &= ~ADJUST;
}

static int after(struct kprobe *probe, struct pt_regs *regs)
{
	struct kvm_vcpu *vcpu = (struct kvm_vcpu *)regs->regs[0];
	struct spoilt *mine = spoilt[smp_processor_id()];
	struct last *last = &lasts[vcpu->vcpu_idx % VCPUS];
	u64 esr = vcpu->arch.fault.esr_el2;

	if (mine->vcpu != vcpu)
		return 0;
	mine->vcpu = NULL;
	last->kind = kind_of(esr, &last->target);
	last->known = true;
	seen[last->kind]++;
	look(vcpu, (const u64 *)mine->garbage, esr, last->kind, last->target);
	put_back(vcpu, mine);
	return 0;
}

static struct kprobe probes[] = {
	{ .symbol_name = "kvm_arch_vcpu_ctxflush_fp", .pre_handler = before },
	{ .symbol_name = "kvm_arm_clear_debug", .pre_handler = after },
};

/* ---- vCPUs that nobody turned on ------------------------------------------------------------------------------------------------------------- */

static u64 call_run(struct kvm_vcpu *vcpu, u64 *code)
{
	register u64 x0 asm("x0") = RUN;
	register u64 x1 asm("x1") = (u64)vcpu;
	register u64 x2 asm("x2") = 0;
	register u64 x3 asm("x3") = 0;

	asm volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3) :
		     : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "memory");
	*code = x1;
	return x0;
}

/* One run: the code of its exit, or NOT_SHOWN where the hypervisor cannot do it. */
static u64 run(struct kvm_vcpu *vcpu)
{
	u64 answer, code;

	kernel_neon_begin();
	local_irq_disable();
	answer = call_run(vcpu, &code);
	local_irq_enable();
	kernel_neon_end();
	return answer ? NOT_SHOWN : code;
}

static int run_often(const char *what, struct kvm_vcpu *vcpu, u64 count)
{
	u64 refused = 0, illegal = 0, ran = 0, code;

	for (; count; count--) {
		code = run(vcpu);
		refused += code == NOT_SHOWN;
		illegal += code == EXIT_ILLEGAL;
		ran += code != NOT_SHOWN && code != EXIT_ILLEGAL;
	}
	say("%s: refused %llu illegal %llu ran %llu", what, refused, illegal, ran);
	return 0;
}

/* The copies stay: the hypervisor remembers where they lie. */
static int run_copies(struct kvm_vcpu *vcpu, u64 count)
{
	int i;

	for (i = 0; i < COPIES; i++) {
		struct kvm_vcpu *copy = (struct kvm_vcpu *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, get_order(sizeof(*copy)));

		if (!copy)
			return -ENOMEM;
		memcpy(copy, vcpu, sizeof(*copy));
		copy->arch.ctxt.sys_regs[MPIDR_EL1] = (1UL << 31) | i;
		copy->arch.ctxt.regs.pc = 0x40200000;
		copy->arch.hcr_el2 = HCR_RW;
		run_often("copies", copy, count);
	}
	return 0;
}

static int wake(struct kvm_vcpu *vcpu)
{
	vcpu->arch.mp_state.mp_state = KVM_MP_STATE_RUNNABLE;
	vcpu->arch.ctxt.regs.pc = 0x40200000;
	kvm_vcpu_wake_up(vcpu);
	return 0;
}

/* ---- commands -------------------------------------------------------------------------------------------------------------------------------- */

static int begin(char *line)
{
	unsigned int chosen = 0;
	char *word;
	int pid, i;

	if (sscanf(line, "%*s %d", &pid) != 1)
		return -EINVAL;
	for (i = 0; i < MODES; i++) {
		word = strstr(line, modes[i]);
		chosen |= word ? 1 << i : 0;
	}
	memset(lasts, 0, sizeof(lasts));
	memset(seen, 0, sizeof(seen));
	entries = raised = leaked = wide = addresses = first_at = first_x = first_esr = 0;
	target = pid;
	WRITE_ONCE(wanted, chosen);
	return chosen ? 0 : -EINVAL;
}

static int end(void)
{
	int i;

	WRITE_ONCE(wanted, 0);
	for (i = 0; i < KINDS; i++)
		say("exits %s %llu", kinds[i], seen[i]);
	say("seen: entries %llu raised %llu leaked %llu wide %llu addresses %llu", entries, raised, leaked, wide, addresses);
	if (leaked)
		say("first: at %llu x %llu esr %llu", first_at, first_x, first_esr);
	return 0;
}

static int command(char *line)
{
	u64 number = 0, count = 1;
	struct kvm_vcpu *vcpu;
	char name[16];

	if (sscanf(line, "%15s", name) != 1)
		return -EINVAL;
	said_length = 0;
	if (!strcmp(name, "on"))
		return begin(line);
	if (!strcmp(name, "off"))
		return end();
	sscanf(line, "%*s %llu %llu", &number, &count);
	vcpu = victim ? kvm_get_vcpu(victim, number) : NULL;
	if (!vcpu)
		return -ENOENT;
	if (!strcmp(name, "run"))
		return run_often("run", vcpu, count);
	if (!strcmp(name, "copies"))
		return run_copies(vcpu, count);
	if (!strcmp(name, "wake"))
		return wake(vcpu);
	return -EINVAL;
}

COMMAND_DEVICE(said_read);

static int __init hostile_init(void)
{
	int cpu, i, failed;

	for_each_possible_cpu(cpu)
		if (!(spoilt[cpu] = kzalloc(sizeof(struct spoilt), GFP_KERNEL)))
			return -ENOMEM;
	for (i = 0; i < ARRAY_SIZE(probes); i++)
		if ((failed = register_kprobe(&probes[i])))
			return failed;
	return misc_register(&device);
}
module_init(hostile_init);

MODULE_DESCRIPTION("Attacks on a protected guest by what KVM keeps of its vCPUs");
MODULE_LICENSE("GPL");
