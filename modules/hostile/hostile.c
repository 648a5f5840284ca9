// SPDX-License-Identifier: GPL-2.0-only
/*
 * A host kernel that has turned against the hypervisor below it.
 *
 * Commands are written to /dev/hostile, a line each; what came of them is read from it, one line each that starts with "hostile:". Numbers are
 * hexadecimal. Nothing is printed while an attack runs, because the hypervisor may be writing to the same serial port.
 *
 *   load|store|exec|pair|exclusive|zero|span|walk|root|probe BASE PAGES
 *                        touch each of PAGES physical pages from BASE on, in this way
 *   all-load BASE PAGES  the same as load, from every CPU at once
 *   own                  each of these on a page of the host's own, where all of it has to succeed
 *   smc|hvc X0 .. X7     one call
 *   storm smc|hvc SEED COUNT    COUNT pseudo-random calls from every CPU at once
 *   registers            touch EL2's registers and instructions from EL1
 *   init TARGET          __kvm_hyp_init with parameters that lie, in a page of the host's and at TARGET
 *   start MPIDR TARGET   start an offline CPU at code of ours, which looks where it is and loads from TARGET
 *   lose MPIDR ENTRY     start an offline CPU at ENTRY, without hope to see it again
 *   suspend              CPU_SUSPEND and SYSTEM_SUSPEND with a resume address of ours
 *   dma-read PAGE        a device reads the page, and shows what it read (a QEMU with -device vmcoreinfo)
 *   dma-write PAGE       the same device writes four bytes at the start of the page
 *   gic PAGE             tell the interrupt controller (a QEMU virt machine's GICv3) that its tables and commands lie there; 0: in memory of ours
 *   its-map PAGE         tell its ITS that a device's interrupt translation table lies there, and have an entry written; 0: in memory of ours
 *   its-table PAGE       the same, by a store to the ITS's own table of devices, which is then named once more
 *   its-long             give the ITS as much at a time as may be: queues, tables, commands
 *
 * An attempt runs with all interrupts masked, under exception vectors and a TTBR0 map of our own, so that whatever it raises is a result and no
 * oops. The map is one window of two pages: WINDOW is a page of the host's, the page after it what is attacked. Where the kernel uses
 * LPA2 (TCR_EL1.DS) entries have no shareability, for which TCR_EL1 stands.
 */
#include <linux/delay.h>
#include <linux/gfp.h>
#include <linux/io.h>
#include <linux/mm.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <asm/barrier.h>
#include <asm/sysreg.h>
#include "command_device.h"

#define WINDOW		0x10000000UL
#define TARGET		(WINDOW + PAGE_SIZE)
#define BROKEN		(WINDOW + (2UL << 20))	/* what is translated by the attacked page as a table */
#define LEAF		0x703UL			/* valid, AF, inner shareable, MAIR index 0 (Linux: Normal), EL1 may read, write and execute */
#define TABLE		0x3UL
#define SHAREABILITY	0x300UL			/* where TCR_EL1.DS is 1, bits 51:50 of the address */
#define UXN		(1UL << 54)
#define RET		0xd65f03c0U
#define TCR_T0SZ_MASK	0x3fUL
#define TCR_EPD0	(1UL << 7)
#define TCR_TG0		(3UL << 14)
#define TCR_DS_BIT	(1UL << 59)
#define NOT_SUPPORTED	(~0UL)
#define STUB_ERROR	0xbadca11UL
#define CPU_ON		0xc4000003UL
#define CPU_SUSPEND	0xc4000001UL
#define SYSTEM_SUSPEND	0xc400000eUL
#define KVM_CALLS	0xc6000000UL

/* QEMU's firmware configuration, a device with DMA of its own (docs/specs/fw_cfg of QEMU): on the virt machine it lies here */
#define FIRMWARE	0x09020000UL
#define FIRMWARE_DMA	16
#define SIGNATURE	0U			/* the item that holds "QEMU" */
#define DIRECTORY	0x19U
#define ITEMS_LIMIT	128
#define SCRATCH		"etc/vmcoreinfo"	/* an item that may be written */
#define SCRATCH_BYTES	16
#define DMA_ERROR	1U
#define DMA_READ	2U			/* of the item, into memory */
#define DMA_SELECT	8U
#define DMA_WRITE	16U

/* On the same machine: an ITS, and the first CPU's redistributor */
#define ITS		0x08080000UL
#define REDISTRIBUTOR	0x080a0000UL
#define TABLES_ORDER	4			/* 64 KiB, as they are aligned */
#define ITS_CBASER	0x80
#define ITS_CWRITER	0x88
#define ITS_CREADR	0x90
#define ITS_DEVICES	0x100			/* GITS_BASER0 */
#define ITS_VALID	(1UL << 63)
#define ITS_WAITS	1000
#define MAPD		0x08UL
#define MAPTI		0x0aUL
#define DEVICE		0x40UL			/* one that the machine has not */
#define EVENT_BITS	5UL
#define MOST_EVENT_BITS	16UL
#define MAPC		0x09UL
#define QUEUE_ORDER	8			/* 1 MiB, the largest queue */
#define TABLE_ORDER	10			/* 4 MiB */
#define QUEUE_PAGES	255UL			/* less one, as GITS_CBASER has them */
#define TABLE_PAGES	(2UL << 8 | 63UL)	/* the same of 64 KiB each, GITS_BASER */
#define COMMANDS	256
#define INTERRUPT	8200UL
/* An entry of the table of devices as QEMU's ITS keeps it (hw/intc/gicv3_internal.h): valid, bits of an event less one, address */
#define DEVICE_ENTRY(at)	(1UL | (EVENT_BITS - 1) << 1 | (at) >> 8 << 6)

/* esr 0: it was done. */
struct outcome {
	u64 esr;
	u64 far;
};

typedef void operation(u64 address, u64 value);

extern char hostile_vectors[];
extern struct outcome hostile_attempt(operation *op, u64 address, u64 value);
extern operation op_load, op_store, op_exec, op_pair, op_exclusive, op_zero, op_span, op_probe, op_smc, op_hvc;
extern operation op_read_hcr, op_write_hcr, op_read_vttbr, op_write_vttbr, op_write_vbar, op_flush, op_translate;
extern char hostile_start[], hostile_start_end[];

asm(
"	.pushsection .text, \"ax\"\n"
"	.balign	2048\n"
"hostile_vectors:\n"
"	.rept	16\n"
"	b	hostile_caught\n"
"	.balign	128\n"
"	.endr\n"
"hostile_caught:\n"
"	mrs	x0, esr_el1\n"
"	mrs	x1, far_el1\n"
"	adr	x2, hostile_return\n"
"	msr	elr_el1, x2\n"
"	eret\n"
"hostile_attempt:\n"
"	stp	x29, x30, [sp, #-16]!\n"
"	mov	x29, sp\n"
"	mov	x9, x0\n"
"	mov	x0, x1\n"
"	mov	x1, x2\n"
"	blr	x9\n"
"	mov	x0, #0\n"
"	mov	x1, #0\n"
"hostile_return:\n"
"	mov	sp, x29\n"
"	ldp	x29, x30, [sp], #16\n"
"	ret\n"
/* hint #34 is a landing pad where branch targets are checked */
"op_load:	hint #34; ldr x2, [x0]; ret\n"
"op_store:	hint #34; str x1, [x0]; ret\n"
"op_exec:	hint #34; br x0\n"
"op_pair:	hint #34; ldp x2, x3, [x0]; ret\n"
"op_exclusive:	hint #34; ldxr x2, [x0]; stxr w3, x1, [x0]; ret\n"
"op_zero:	hint #34; dc zva, x0; dsb sy; ret\n"
"op_span:	hint #34; ldr x2, [x0, #-4]; ret\n"
"op_probe:	hint #34; at s1e1r, x0; isb; ret\n"
"op_read_hcr:	hint #34; mrs x2, hcr_el2; ret\n"
"op_write_hcr:	hint #34; msr hcr_el2, xzr; isb; ret\n"
"op_read_vttbr:	hint #34; mrs x2, vttbr_el2; ret\n"
"op_write_vttbr: hint #34; msr vttbr_el2, xzr; isb; ret\n"
"op_write_vbar:	hint #34; msr vbar_el2, x0; isb; ret\n"
"op_flush:	hint #34; tlbi alle2; dsb sy; isb; ret\n"
"op_translate:	hint #34; at s12e1r, x0; isb; ret\n"
/* x0: eight numbers, which the call takes and which hold what it answered */
"	.macro	call name, instruction\n"
"\\name:	hint	#34\n"
"	str	x0, [sp, #-16]!\n"
"	mov	x9, x0\n"
"	ldp	x0, x1, [x9]\n"
"	ldp	x2, x3, [x9, #16]\n"
"	ldp	x4, x5, [x9, #32]\n"
"	ldp	x6, x7, [x9, #48]\n"
"	\\instruction	#0\n"
"	ldr	x9, [sp], #16\n"
"	stp	x0, x1, [x9]\n"
"	stp	x2, x3, [x9, #16]\n"
"	stp	x4, x5, [x9, #32]\n"
"	stp	x6, x7, [x9, #48]\n"
"	ret\n"
"	.endm\n"
"	call	op_smc, smc\n"
"	call	op_hvc, hvc\n"
/* Runs from a page of its own with the MMU off, x0 = that page: code at 0, numbers at 0x400 (struct sight), vectors at 0x800. */
"	.balign	8\n"
"hostile_start:\n"
"	mrs	x1, CurrentEL\n"
"	str	x1, [x0, #0x400]\n"
"	mrs	x1, sctlr_el1\n"
"	str	x1, [x0, #0x408]\n"
"	mrs	x1, mpidr_el1\n"
"	str	x1, [x0, #0x410]\n"
"	add	x1, x0, #0x800\n"
"	msr	vbar_el1, x1\n"
"	isb\n"
"	add	x3, x0, #0x418\n"		/* where the next syndrome goes */
"	ldr	x2, [x0, #0x430]\n"
"	ldr	x2, [x2]\n"
"	add	x3, x0, #0x420\n"
"	mrs	x2, hcr_el2\n"
"	mov	x2, #1\n"
"	str	x2, [x0, #0x428]\n"
"	dsb	sy\n"
"	mov	x0, #2\n"			/* CPU_OFF */
"	movk	x0, #0x8400, lsl #16\n"
"	smc	#0\n"
"1:	wfi\n"
"	b	1b\n"
"	.org	hostile_start + 0xa00\n"	/* a synchronous exception of EL1 on its own stack pointer */
"	mrs	x4, esr_el1\n"
"	str	x4, [x3]\n"
"	mrs	x4, elr_el1\n"
"	add	x4, x4, #4\n"
"	msr	elr_el1, x4\n"
"	eret\n"
"hostile_start_end:\n"
"	.popsection\n");

struct sight {
	u64 level, sctlr, mpidr, load_esr, hcr_esr, finished, target;
};

/* What one CPU needs: four tables, and a page of the host's own for the window. */
struct map {
	u64 *tables;
	u64 *page;
};

static DEFINE_PER_CPU(struct map, maps);

static u64 *table(struct map *map, int level)
{
	return map->tables + level * 512;
}

static u64 leaf(u64 page)
{
	return page | UXN | (read_sysreg(tcr_el1) & TCR_DS_BIT ? LEAF & ~SHAREABILITY : LEAF);
}

static int make_map(struct map *map)
{
	int level;

	map->tables = (u64 *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, 2);
	map->page = (u64 *)get_zeroed_page(GFP_KERNEL);
	if (!map->tables || !map->page)
		return -ENOMEM;
	for (level = 0; level < 3; level++) {
		u64 index = (WINDOW >> (39 - 9 * level)) & 511;

		table(map, level)[index] = virt_to_phys(table(map, level + 1)) | TABLE;
	}
	table(map, 3)[0] = leaf(virt_to_phys(map->page));
	return 0;
}

/*
 * One attempt on this CPU. `target` is the physical page behind the window; `broken` is used as a table, `root` as the first table, where they are
 * not zero.
 */
static struct outcome attempt(operation *op, u64 address, u64 value, u64 target, u64 broken, u64 root)
{
	struct map *map;
	struct outcome outcome;
	unsigned long daif, vbar, ttbr, tcr;

	daif = read_sysreg(daif);
	asm volatile("msr daifset, #0xf" ::: "memory");
	map = this_cpu_ptr(&maps);
	table(map, 3)[1] = target ? leaf(target & PAGE_MASK) : 0;
	table(map, 2)[(BROKEN >> 21) & 511] = broken ? (broken & PAGE_MASK) | TABLE : 0;
	dsb(ish);
	vbar = read_sysreg(vbar_el1);
	ttbr = read_sysreg(ttbr0_el1);
	tcr = read_sysreg(tcr_el1);
	write_sysreg((tcr & ~(TCR_T0SZ_MASK | TCR_EPD0 | TCR_TG0)) | 16, tcr_el1);
	write_sysreg(root ? root : virt_to_phys(map->tables), ttbr0_el1);
	write_sysreg((unsigned long)hostile_vectors, vbar_el1);
	isb();
	asm volatile("tlbi vmalle1\n dsb nsh\n isb" ::: "memory");
	outcome = hostile_attempt(op, address, value);
	write_sysreg(vbar, vbar_el1);
	write_sysreg(ttbr, ttbr0_el1);
	write_sysreg(tcr, tcr_el1);
	isb();
	asm volatile("tlbi vmalle1\n dsb nsh\n isb" ::: "memory");
	write_sysreg(daif, daif);
	return outcome;
}

/* The value depends on the place, so that it can be looked for there afterwards. */
static u64 mark(u64 page)
{
	return page ^ 0x6c696174736f6800UL;
}

static const struct {
	const char *name;
	operation *op;
} ways[] = {
	{ "load", op_load }, { "store", op_store }, { "exec", op_exec }, { "pair", op_pair }, { "exclusive", op_exclusive },
	{ "zero", op_zero }, { "span", op_span }, { "walk", op_load }, { "root", op_load }, { "probe", op_probe },
};

static struct outcome touch(unsigned int way, u64 page)
{
	const char *name = ways[way].name;
	u64 offset = 0x100;

	if (!strcmp(name, "walk"))
		return attempt(op_load, BROKEN, 0, 0, page, 0);
	if (!strcmp(name, "root"))
		return attempt(op_load, TARGET, 0, 0, 0, page);
	if (!strcmp(name, "probe"))
		return attempt(op_probe, BROKEN, 0, 0, page, 0);
	if (!strcmp(name, "span"))
		offset = 0;
	return attempt(ways[way].op, TARGET + offset, mark(page), page, 0, 0);
}

/* A count of each way an attempt can end: an external abort of EL1, another exception, nothing at all. */
struct tally {
	u64 aborts, other, done, esr;
};

static void count(struct tally *tally, struct outcome outcome)
{
	u64 class = outcome.esr >> 26, status = outcome.esr & 0x3f;

	if (!outcome.esr)
		tally->done++;
	else if ((class == 0x25 || class == 0x21) && status == 0x10)
		tally->aborts++;
	else
		tally->other++, tally->esr = outcome.esr;
}

static void touch_pages(unsigned int way, u64 base, u64 pages)
{
	struct tally tally = {};
	u64 i;

	for (i = 0; i < pages; i++)
		count(&tally, touch(way, base + i * PAGE_SIZE));
	say("%s %llx %llx: aborts %llu other %llu done %llu esr %llx", ways[way].name, base, pages, tally.aborts, tally.other, tally.done, tally.esr);
}

static struct { u64 base, pages; } shared_range;
static DEFINE_PER_CPU(struct tally, tallies);

static void load_here(void *unused)
{
	struct tally *tally = this_cpu_ptr(&tallies);
	u64 i;

	memset(tally, 0, sizeof(*tally));
	for (i = 0; i < shared_range.pages; i++)
		count(tally, touch(0, shared_range.base + i * PAGE_SIZE));
}

static void load_from_all(u64 base, u64 pages)
{
	int cpu;

	shared_range.base = base;
	shared_range.pages = pages;
	on_each_cpu(load_here, NULL, 1);
	for_each_online_cpu(cpu) {
		struct tally *tally = per_cpu_ptr(&tallies, cpu);

		say("all-load cpu %d: aborts %llu other %llu done %llu", cpu, tally->aborts, tally->other, tally->done);
	}
}

static void clean(void *start, size_t size)
{
	u64 at;

	for (at = (u64)start & ~63UL; at < (u64)start + size; at += 16)
		asm volatile("dc civac, %0" :: "r"(at) : "memory");
	asm volatile("dsb sy\n ic ialluis\n dsb sy\n isb" ::: "memory");
}

/* The same attempts where they are allowed: what does not work here proves nothing elsewhere. */
static void touch_own(void)
{
	u32 *page = (u32 *)get_zeroed_page(GFP_KERNEL);
	u64 at = virt_to_phys(page);
	unsigned int way;

	if (!page)
		return;
	for (way = 0; way < ARRAY_SIZE(ways); way++) {
		struct outcome outcome;

		page[0x100 / 4] = RET;
		clean(page, PAGE_SIZE);
		outcome = touch(way, at);
		say("own %s: esr %llx %s", ways[way].name, outcome.esr, *(u64 *)(page + 0x100 / 4) == mark(at) ? "written" : "unwritten");
	}
	free_page((unsigned long)page);
}

static bool make_call(bool smc, u64 *x, u64 *esr)
{
	*esr = attempt(smc ? op_smc : op_hvc, (u64)x, 0, 0, 0, 0).esr;
	return !*esr;
}

static void call(bool smc, u64 *x)
{
	u64 number = x[0], esr;

	if (make_call(smc, x, &esr))
		say("%s %llx -> %llx %llx %llx %llx", smc ? "smc" : "hvc", number, x[0], x[1], x[2], x[3]);
	else
		say("%s %llx raises %llx", smc ? "smc" : "hvc", number, esr);
}

/* Calls that would do what they are for: turn something off, or begin somewhere else. */
static bool is_deadly(bool smc, u64 number)
{
	static const u32 deadly[] = {
		0x84000001, 0xc4000001, 0x84000002, 0x84000008, 0x84000009, 0x8400000e, 0xc400000e, 0x84000012, 0xc4000012,
	};
	int i;

	if (!smc)
		return number == 1; /* HVC_SOFT_RESTART */
	for (i = 0; i < ARRAY_SIZE(deadly); i++)
		if ((u32)number == deadly[i])
			return true;
	return false;
}

struct storm {
	u64 made, unsupported, stub_errors, invalid, raised, answered, kinds;
	u64 numbers[24], answers[24];
};

static DEFINE_PER_CPU(struct storm, storms);
static struct { bool smc; u64 seed, calls; } forecast;

static u64 next(u64 *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Numbers near those that mean something, and some that are anything. */
static u64 some_number(u64 *state)
{
	static const u64 bases[] = { 0x84000000, 0xc4000000, 0x80000000, 0xc0000000, 0x82000000, 0xb2000000, 0x86000000, 0xf2000000 };
	u64 kind = next(state) % 12, low = next(state);

	if (kind < 8)
		return bases[kind] | (low & 0x7f);
	if (kind == 8)
		return low;
	if (kind == 9)
		return low & 0xffffffff;
	if (kind == 10)
		return low & 0x3f;
	return (low & 0xffffffff00000000UL) | bases[next(state) % 8] | (low & 0x1f);
}

static void storm_here(void *unused)
{
	struct storm *storm = this_cpu_ptr(&storms);
	u64 state = (forecast.seed + 1) * (smp_processor_id() + 1) * 0x9e3779b97f4a7c15UL, i, esr;

	memset(storm, 0, sizeof(*storm));
	while (storm->made < forecast.calls) {
		u64 x[8], number;

		for (i = 0; i < 8; i++)
			x[i] = next(&state) >> (next(&state) & 63);
		/* One KVM call in 64 only: the hypervisor writes a line for each. */
		x[0] = number = (next(&state) & 63) ? some_number(&state) : KVM_CALLS + (next(&state) & 0x7f);
		if (is_deadly(forecast.smc, number))
			continue;
		storm->made++;
		if (!make_call(forecast.smc, x, &esr)) {
			storm->raised++;
		} else if (x[0] == NOT_SUPPORTED) {
			storm->unsupported++;
		} else if (x[0] == STUB_ERROR) {
			storm->stub_errors++;
		} else if (x[0] == -2UL || x[0] == -4UL) {
			storm->invalid++;
		} else {
			storm->answered++;
			for (i = 0; i < storm->kinds && storm->numbers[i] != (u32)number; i++)
				;
			if (i == storm->kinds && i < ARRAY_SIZE(storm->numbers)) {
				storm->numbers[i] = (u32)number;
				storm->answers[i] = x[0];
				storm->kinds++;
			}
		}
	}
}

static void storm_everywhere(bool smc, u64 seed, u64 calls)
{
	int cpu, i;

	forecast.smc = smc;
	forecast.seed = seed;
	forecast.calls = calls;
	on_each_cpu(storm_here, NULL, 1);
	for_each_online_cpu(cpu) {
		struct storm *storm = per_cpu_ptr(&storms, cpu);

		say("storm %s cpu %d: made %llu unsupported %llu stub-errors %llu invalid %llu raised %llu answered %llu", smc ? "smc" : "hvc", cpu,
		    storm->made, storm->unsupported, storm->stub_errors, storm->invalid, storm->raised, storm->answered);
		for (i = 0; i < storm->kinds; i++)
			say("answered %s %llx -> %llx", smc ? "smc" : "hvc", storm->numbers[i], storm->answers[i]);
	}
}

static void touch_registers(void)
{
	static const struct {
		const char *name;
		operation *op;
	} all[] = {
		{ "read HCR_EL2", op_read_hcr }, { "write HCR_EL2", op_write_hcr }, { "read VTTBR_EL2", op_read_vttbr },
		{ "write VTTBR_EL2", op_write_vttbr }, { "write VBAR_EL2", op_write_vbar }, { "TLBI ALLE2", op_flush },
		{ "AT S12E1R", op_translate },
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(all); i++)
		say("register: %s: esr %llx", all[i].name, attempt(all[i].op, WINDOW, 0, 0, 0, 0).esr);
}

/* The nine numbers of struct kvm_nvhe_init_params, HCR_EL2, VTTBR_EL2 and VTCR_EL2 among them, all of them lies. */
static void initialise(u64 target)
{
	u64 *page = (u64 *)get_zeroed_page(GFP_KERNEL);
	u64 at[] = { virt_to_phys(page), virt_to_phys(page) + 4093, target, target + 4093, 0, ~0UL, 1UL << 60 };
	u64 pattern, esr;
	int i;

	for (pattern = 0; page && pattern < 2; pattern++) {
		memset(page, pattern ? 0xff : 0, PAGE_SIZE);
		clean(page, PAGE_SIZE);
		for (i = 0; i < ARRAY_SIZE(at); i++) {
			u64 x[8] = { KVM_CALLS, at[i] };

			if (make_call(false, x, &esr))
				say("init %d: %llx", i, x[0]);
			else
				say("init %d raises %llx", i, esr);
		}
	}
	free_page((unsigned long)page);
}

static struct sight *prepare_start(u64 **page, u64 target)
{
	struct sight *sight;

	*page = (u64 *)get_zeroed_page(GFP_KERNEL);
	if (!*page)
		return NULL;
	sight = (struct sight *)((char *)*page + 0x400);
	memcpy(*page, hostile_start, hostile_start_end - hostile_start);
	sight->target = target;
	clean(*page, PAGE_SIZE);
	return sight;
}

static void start(u64 mpidr, u64 target)
{
	u64 *page, esr, waited;
	struct sight *sight = prepare_start(&page, target);
	u64 x[8] = { CPU_ON, mpidr };

	if (!sight)
		return;
	x[2] = x[3] = virt_to_phys(page);
	if (!make_call(true, x, &esr))
		x[0] = esr;
	for (waited = 0; waited < 500 && !READ_ONCE(sight->finished); waited++) {
		msleep(10);
		clean(sight, sizeof(*sight));
	}
	msleep(50); /* until it is off again */
	say("start %llx: answer %llx finished %llu level %llu mmu %llu mpidr %llx load %llx hcr %llx", mpidr, x[0], sight->finished, sight->level >> 2,
	    sight->sctlr & 1, sight->mpidr & 0xff00ffffffUL, sight->load_esr, sight->hcr_esr);
	/* The page stays: whoever was started there may still be in it. */
}

static void suspend(u64 target)
{
	static const u64 calls[] = { CPU_SUSPEND, SYSTEM_SUSPEND };
	u64 *page, esr;
	struct sight *sight = prepare_start(&page, target);
	int i;

	for (i = 0; sight && i < 2; i++) {
		u64 at = virt_to_phys(page);
		u64 x[8] = { calls[i], i ? at : 0, at, at };
		bool made = make_call(true, x, &esr);

		say("suspend %llx: %s %llx resumed-at-ours %llu level %llu", calls[i], made ? "answer" : "raises", made ? x[0] : esr, sight->finished,
		    (u64)(read_sysreg(CurrentEL) >> 2));
	}
}

/* As the device reads them, big-endian. */
struct transfer {
	__be32 control, bytes;
	__be64 at;
};

struct item {
	__be32 bytes;
	__be16 number, reserved;
	char name[56];
};

/* A page of the host's own, in which all of the host's side of a transfer lies. */
struct firmware {
	struct transfer transfer;
	__be32 items;
	struct item item;
	u8 scratch[SCRATCH_BYTES];
};

static bool transfer(void __iomem *device, struct firmware *own, u32 control, u64 at, u32 bytes)
{
	own->transfer = (struct transfer){ cpu_to_be32(control), cpu_to_be32(bytes), cpu_to_be64(at) };
	wmb();
	__raw_writeq((__force u64)cpu_to_be64(virt_to_phys(&own->transfer)), device + FIRMWARE_DMA);
	while (be32_to_cpu(READ_ONCE(own->transfer.control)) & ~DMA_ERROR)
		cpu_relax();
	rmb();
	return !READ_ONCE(own->transfer.control);
}

/* The number of SCRATCH with DMA_SELECT, as a transfer's control has it; 0 where this machine has none. */
static u32 find_scratch(void __iomem *device, struct firmware *own)
{
	u32 i, items;

	if (!transfer(device, own, DIRECTORY << 16 | DMA_SELECT | DMA_READ, virt_to_phys(&own->items), sizeof(own->items)))
		return 0;
	items = min_t(u32, be32_to_cpu(own->items), ITEMS_LIMIT);
	for (i = 0; i < items; i++) {
		if (!transfer(device, own, DMA_READ, virt_to_phys(&own->item), sizeof(own->item)))
			return 0;
		if (!strncmp(own->item.name, SCRATCH, sizeof(own->item.name)) && be32_to_cpu(own->item.bytes) == SCRATCH_BYTES)
			return (u32)be16_to_cpu(own->item.number) << 16 | DMA_SELECT;
	}
	return 0;
}

static void read_by_device(u64 page)
{
	struct firmware *own = (struct firmware *)get_zeroed_page(GFP_KERNEL);
	void __iomem *device = ioremap(FIRMWARE, FIRMWARE_DMA + 8);
	u32 scratch = own && device ? find_scratch(device, own) : 0;
	u64 at;

	if (!scratch)
		say("dma-read %llx: no device for it", page);
	for (at = 0; scratch && at < PAGE_SIZE; at += SCRATCH_BYTES) {
		memset(own->scratch, 0, SCRATCH_BYTES);
		if (!transfer(device, own, scratch | DMA_WRITE, page + at, SCRATCH_BYTES) ||
		    !transfer(device, own, scratch | DMA_READ, virt_to_phys(own->scratch), SCRATCH_BYTES))
			break;
		say("dma %llx: %*phN", page + at, SCRATCH_BYTES, own->scratch);
	}
	if (device)
		iounmap(device);
	free_page((unsigned long)own);
}

static void write_by_device(u64 page)
{
	struct firmware *own = (struct firmware *)get_zeroed_page(GFP_KERNEL);
	void __iomem *device = ioremap(FIRMWARE, FIRMWARE_DMA + 8);

	if (own && device)
		say("dma-write %llx: %s", page, transfer(device, own, SIGNATURE << 16 | DMA_SELECT | DMA_READ, page, 4) ? "done" : "refused");
	if (device)
		iounmap(device);
	free_page((unsigned long)own);
}

/* Each register that names memory, while what it belongs to is off, as it must be; what it held before, after, and then again. */
static void name_to_gic(u64 page)
{
	static const struct {
		const char *name;
		bool its;
		u32 offset;
		u64 flags;
	} all[] = {
		{ "GITS_BASER0", true, 0x100, 1UL << 63 }, { "GITS_CBASER", true, 0x80, 1UL << 63 },
		{ "GICR_PROPBASER", false, 0x70, 15 }, { "GICR_PENDBASER", false, 0x78, 0 },
	};
	void __iomem *its = ioremap(ITS, PAGE_SIZE), *redistributor = ioremap(REDISTRIBUTOR, PAGE_SIZE);
	u64 own = page ? 0 : __get_free_pages(GFP_KERNEL | __GFP_ZERO, TABLES_ORDER);
	u64 at = own ? virt_to_phys((void *)own) : page;
	int i;

	if (!its || !redistributor || !at) {
		say("gic %llx: no device for it", page);
		return;
	}
	writel(0, its);
	writel(0, redistributor);
	for (i = 0; i < ARRAY_SIZE(all); i++) {
		void __iomem *where = (all[i].its ? its : redistributor) + all[i].offset;
		u64 before = readq(where), after;

		writeq(at | all[i].flags, where);
		after = readq(where);
		writeq(before, where);
		say("gic %s %llx: was %llx is %llx %s again %llx", all[i].name, page, before, after,
		    (after & 0xfffffffff000UL) == at ? "taken" : "refused", readq(where));
	}
	writel(1, redistributor);
	writel(1, its);
	iounmap(its);
	iounmap(redistributor);
	if (own)
		free_pages(own, TABLES_ORDER);
}

/* Has the ITS execute these from a queue of ours. The kernel's gets its own back, of which everything is executed again. */
static void run_commands(void __iomem *its, u64 *queue, unsigned int count)
{
	u64 before;
	int i;

	writel(0, its);
	before = readq(its + ITS_CBASER);
	writeq(virt_to_phys(queue) | ITS_VALID, its + ITS_CBASER);
	writeq(0, its + ITS_CWRITER);
	writel(1, its);
	writeq(count * 32, its + ITS_CWRITER);
	for (i = 0; i < ITS_WAITS && readq(its + ITS_CREADR) != count * 32; i++)
		udelay(1);
	say("its queue: read %llx of %x", readq(its + ITS_CREADR), count * 32);
	writel(0, its);
	writeq(before, its + ITS_CBASER);
	writel(1, its);
}

static void name_to_its(bool by_table, u64 page)
{
	void __iomem *its = ioremap(ITS, PAGE_SIZE);
	u64 *queue = (u64 *)get_zeroed_page(GFP_KERNEL), *own = (u64 *)get_zeroed_page(GFP_KERNEL);
	const char *way = by_table ? "table" : "map";
	u64 at = page ? page : own ? virt_to_phys(own) : 0, before;
	unsigned int count = 0;

	if (!its || !queue || !own) {
		say("its %s %llx: no device for it", way, page);
		return;
	}
	before = readq(its + ITS_DEVICES);
	if (by_table) {
		u64 place = (before & 0xfffffffff000UL) + DEVICE * 8;
		struct outcome outcome = attempt(op_store, TARGET + (place & ~PAGE_MASK), DEVICE_ENTRY(at), place & PAGE_MASK, 0, 0);

		say("its store %llx: esr %llx control %x table %llx", page, outcome.esr, readl(its), readq(its + ITS_DEVICES));
		writel(0, its);
		writeq(before, its + ITS_DEVICES);
	} else {
		queue[0] = MAPD | DEVICE << 32;
		queue[1] = EVENT_BITS - 1;
		queue[2] = at | ITS_VALID;
		count++;
	}
	queue[count * 4] = MAPTI | DEVICE << 32;
	queue[count * 4 + 1] = INTERRUPT << 32;
	run_commands(its, queue, count + 1);
	say("its %s %llx: own %llx table %llx %s", way, page, own[0], readq(its + ITS_DEVICES),
	    readq(its + ITS_DEVICES) == before ? "as before" : "changed");
	if (!by_table) {
		queue[2] = 0;
		run_commands(its, queue, 1);
	}
	iounmap(its);
	free_page((unsigned long)queue);
	free_page((unsigned long)own);
}

/* Each store as it is made by one that wants EL2 to be long at it; in between the kernel's interrupts. */
static void give_much(void)
{
	void __iomem *its = ioremap(ITS, PAGE_SIZE);
	u64 *queues[2] = { (u64 *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, QUEUE_ORDER), (u64 *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, QUEUE_ORDER) };
	u64 *tables[2] = { (u64 *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, TABLE_ORDER), (u64 *)__get_free_pages(GFP_KERNEL | __GFP_ZERO, TABLE_ORDER) };
	u64 queue_before, table_before;
	int i;

	if (!its || !queues[0] || !queues[1] || !tables[0] || !tables[1]) {
		say("its-long: no memory for it");
		return;
	}
	writel(0, its);
	queue_before = readq(its + ITS_CBASER);
	table_before = readq(its + ITS_DEVICES);
	for (i = 0; i < 4; i++)
		writeq(virt_to_phys(queues[i & 1]) | ITS_VALID | QUEUE_PAGES, its + ITS_CBASER);
	writeq(virt_to_phys(queues[0]) | ITS_VALID | QUEUE_PAGES, its + ITS_CBASER);
	for (i = 0; i < 3; i++)
		writeq(virt_to_phys(tables[i & 1]) | ITS_VALID | TABLE_PAGES, its + ITS_DEVICES);
	say("its-long: named %s", readq(its + ITS_CBASER) >> 63 && readq(its + ITS_DEVICES) >> 63 ? "all" : "not all");
	/* One device's table after the other, each as large as may be; then for others, whose tables lie in one place; then what is refused last. */
	for (i = 0; i < COMMANDS; i++) {
		u64 *words = queues[0] + i * 4;

		words[0] = i < 240 ? MAPD | (i < 32 ? 0 : (u64)i) << 32 : MAPC;
		words[1] = MOST_EVENT_BITS - 1;
		words[2] = i < 240 ? virt_to_phys(queues[1]) + (i & 1) * 256 * 512 | ITS_VALID : 0xffff0000UL | ITS_VALID;
	}
	writeq(0, its + ITS_CWRITER);
	writel(1, its);
	writeq(COMMANDS * 32, its + ITS_CWRITER);
	say("its-long: read %llx of %x", readq(its + ITS_CREADR), COMMANDS * 32);
	attempt(op_store, TARGET, 0, virt_to_phys(tables[0]), 0, 0);
	say("its-long: control %x table %s", readl(its), readq(its + ITS_DEVICES) >> 63 ? "named" : "given back");
	writel(0, its);
	writeq(table_before, its + ITS_DEVICES);
	writeq(queue_before, its + ITS_CBASER);
	writel(1, its);
	iounmap(its);
	for (i = 0; i < 2; i++) {
		free_pages((unsigned long)queues[i], QUEUE_ORDER);
		free_pages((unsigned long)tables[i], TABLE_ORDER);
	}
}

static int command(char *line)
{
	u64 x[8] = {};
	char name[16], kind[8];
	unsigned int way;

	if (sscanf(line, "%15s", name) != 1)
		return -EINVAL;
	sscanf(line, "%*s %llx %llx %llx %llx %llx %llx %llx %llx", x, x + 1, x + 2, x + 3, x + 4, x + 5, x + 6, x + 7);
	if (!strcmp(name, "own"))
		touch_own();
	else if (!strcmp(name, "all-load"))
		load_from_all(x[0], x[1]);
	else if (!strcmp(name, "smc") || !strcmp(name, "hvc"))
		call(name[0] == 's', x);
	else if (!strcmp(name, "storm") && sscanf(line, "%*s %7s %llx %llx", kind, x, x + 1) == 3)
		storm_everywhere(kind[0] == 's', x[0], x[1]);
	else if (!strcmp(name, "registers"))
		touch_registers();
	else if (!strcmp(name, "init"))
		initialise(x[0]);
	else if (!strcmp(name, "start"))
		start(x[0], x[1]);
	else if (!strcmp(name, "lose")) {
		u64 y[8] = { CPU_ON, x[0], x[1] };

		call(true, y);
	} else if (!strcmp(name, "suspend"))
		suspend(x[0]);
	else if (!strcmp(name, "dma-read"))
		read_by_device(x[0]);
	else if (!strcmp(name, "dma-write"))
		write_by_device(x[0]);
	else if (!strcmp(name, "gic"))
		name_to_gic(x[0]);
	else if (!strcmp(name, "its-map") || !strcmp(name, "its-table"))
		name_to_its(!strcmp(name, "its-table"), x[0]);
	else if (!strcmp(name, "its-long"))
		give_much();
	else {
		for (way = 0; way < ARRAY_SIZE(ways) && strcmp(name, ways[way].name); way++)
			;
		if (way == ARRAY_SIZE(ways))
			return -EINVAL;
		touch_pages(way, x[0], x[1]);
	}
	return 0;
}

COMMAND_DEVICE(said_read);

static int __init hostile_init(void)
{
	int cpu;

	for_each_possible_cpu(cpu)
		if (make_map(per_cpu_ptr(&maps, cpu)))
			return -ENOMEM;
	return misc_register(&device);
}
module_init(hostile_init);

MODULE_DESCRIPTION("Attacks on the hypervisor below");
MODULE_LICENSE("GPL");
