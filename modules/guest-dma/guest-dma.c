// SPDX-License-Identifier: GPL-2.0-only
/*
 * A pool of pages that a guest shares with its host, and through which its virtio devices do all their DMA.
 *
 * All memory of a protected guest is private to it. This module allocates one pool, shares that with the host, and gives each virtio transport that
 * is bound after it DMA operations of its own: rings and other coherent memory come from the pool, and buffers are copied to and from it. No other
 * device is touched, and no other page is shared.
 *
 *   size=MIB             the pool, a multiple of 2 MiB, at least 4; 16 where it is not given
 *   share=0              share nothing: for a guest of any other hypervisor, where only the copying is to be seen
 *
 * /sys/module/guest_dma/pool/ counts: `mapped` buffers so far, bytes copied `out` to the pool and `in` from it, mappings that were `refused` for want
 * of room, and bytes of the pool that are `used` now.
 *
 * The host may write to every page of the pool at any time. Where a mapping lies, how long it is and where it is copied to is therefore kept in
 * private memory (struct slot), and a mapping is copied back at most once each time that its driver says so. The bytes of a mapping that a device
 * is to fill are zeroed first, so that what the device leaves out is neither an older buffer's nor the private memory's behind it.
 *
 * The host reaches the pool through cacheable mappings, as KVM's user space does: a device is coherent, whatever its description says.
 *
 * No lock: gen_pool marks slots by compare-and-swap, and a slot's record belongs to whoever holds the slot. All of it may be called from interrupts.
 * Once loaded, the module stays: its pages are in devices' hands.
 */
#define pr_fmt(format) KBUILD_MODNAME ": " format

#include <linux/arm-smccc.h>
#include <linux/atomic.h>
#include <linux/dma-map-ops.h>
#include <linux/genalloc.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/xarray.h>

#if !defined(CONFIG_DMA_OPS) && !defined(CONFIG_ARCH_HAS_DMA_OPS)
#error "this kernel has no DMA operations for each device"
#endif

/* docs/guest-abi.md of Delphyne */
#define MEMINFO		0xC6000002UL
#define STATUS		0xC600DE00UL
#define SHARE_RANGE	0xC600DE04UL
#define UNSHARE_RANGE	0xC600DE05UL
#define STATUS_VERSION	1
#define PROTECTED	BIT(0)

#define SLOT_SHIFT	11
#define SLOT_SIZE	BIT(SLOT_SHIFT)
#define PIECE_SHIFT	21		/* a block of stage 2, which sharing all of it need not split */
#define PIECE_SIZE	BIT(PIECE_SHIFT)
#define PIECE_ORDER	(PIECE_SHIFT - PAGE_SHIFT)
#define PIECE_PAGES	BIT(PIECE_ORDER)
#define LEAST_MIB	4		/* more than the largest request that the block layer makes by itself (1280 KiB) with a network beside it */
#define MOST_MIB	1024
#define LONGEST		(256UL << 10)	/* bytes of a segment that drivers are told to ask for: longer ones fit badly into a pool in use */

static unsigned int size = 16;
module_param(size, uint, 0444);
MODULE_PARM_DESC(size, "MiB of the pool, a multiple of 2, 4 to 1024");

static bool share = true;
module_param(share, bool, 0444);
MODULE_PARM_DESC(share, "share the pool with the host by Delphyne's calls; 0 only copies");

/* `left` bytes of a mapping lie from this slot's start on, and belong at `origin`. Zero where the slot is in no mapping. */
struct slot {
	void *origin;
	size_t left;
};

struct piece {
	void *start;
	struct slot slots[PIECE_SIZE / SLOT_SIZE];
};

static struct gen_pool *pool;
static DEFINE_XARRAY(pieces);		/* physical address >> PIECE_SHIFT -> struct piece */
static phys_addr_t last_byte;

struct counter {
	struct module_attribute attribute;
	atomic64_t count;
};

static ssize_t show_counter(struct module_attribute *attribute, struct module_kobject *module, char *text)
{
	return sysfs_emit(text, "%lld\n", atomic64_read(&container_of(attribute, struct counter, attribute)->count));
}

static ssize_t show_used(struct module_attribute *attribute, struct module_kobject *module, char *text)
{
	return sysfs_emit(text, "%zu\n", gen_pool_size(pool) - gen_pool_avail(pool));
}

#define COUNTER(file) { .attribute = __ATTR(file, 0444, show_counter, NULL) }

static struct counter mapped = COUNTER(mapped), out = COUNTER(out), in = COUNTER(in), refused = COUNTER(refused);
static struct module_attribute used = __ATTR(used, 0444, show_used, NULL);

static struct attribute *attributes[] = {
	&mapped.attribute.attr, &out.attribute.attr, &in.attribute.attr, &refused.attribute.attr, &used.attr, NULL,
};
static const struct attribute_group group = { .name = "pool", .attrs = attributes };

static struct slot *slot_at(dma_addr_t address)
{
	struct piece *piece = xa_load(&pieces, address >> PIECE_SHIFT);

	return piece ? &piece->slots[(address & (PIECE_SIZE - 1)) >> SLOT_SHIFT] : NULL;
}

/* Of `bytes` from `address` on: where they belong in private memory, or NULL where one mapping does not hold them all. */
static void *origin_of(dma_addr_t address, size_t bytes)
{
	struct slot *slot = slot_at(address);
	size_t within = address & (SLOT_SIZE - 1);

	if (!slot || bytes > slot->left || within > slot->left - bytes)
		return NULL;
	return slot->origin + within;
}

static void copy_out(void *to, const void *from, size_t bytes)
{
	memcpy(to, from, bytes);
	atomic64_add(bytes, &out.count);
}

static void copy_in(void *to, const void *from, size_t bytes)
{
	memcpy(to, from, bytes);
	atomic64_add(bytes, &in.count);
}

static dma_addr_t map_page(struct device *dev, struct page *page, unsigned long offset, size_t bytes, enum dma_data_direction direction,
			   unsigned long attrs)
{
	/* a host's direct I/O wants whole pages where the guest gave it such */
	struct genpool_data_align alignment = { .align = bytes < PAGE_SIZE ? SLOT_SIZE : PAGE_SIZE };
	void *origin = page_address(page) + offset, *start;
	struct slot *slot;
	size_t at;

	start = bytes ? (void *)gen_pool_alloc_algo(pool, bytes, gen_pool_first_fit_align, &alignment) : NULL;
	if (!start) {
		atomic64_inc(&refused.count);
		return DMA_MAPPING_ERROR;
	}
	slot = slot_at(virt_to_phys(start));
	for (at = 0; at < bytes; at += SLOT_SIZE)
		*slot++ = (struct slot){ .origin = origin + at, .left = bytes - at };
	if (direction == DMA_FROM_DEVICE || (attrs & DMA_ATTR_SKIP_CPU_SYNC))
		memset(start, 0, bytes);
	else
		copy_out(start, origin, bytes);
	atomic64_inc(&mapped.count);
	return virt_to_phys(start);
}

static void unmap_page(struct device *dev, dma_addr_t address, size_t bytes, enum dma_data_direction direction, unsigned long attrs)
{
	struct slot *slot = slot_at(address);
	size_t at;

	if (dev_WARN_ONCE(dev, !slot || !bytes || slot->left != bytes || address & (SLOT_SIZE - 1), "%zu bytes at %pad are no mapping\n", bytes, &address))
		return;
	if (direction != DMA_TO_DEVICE && !(attrs & DMA_ATTR_SKIP_CPU_SYNC))
		copy_in(slot->origin, phys_to_virt(address), bytes);
	for (at = 0; at < bytes; at += SLOT_SIZE)
		*slot++ = (struct slot){};
	gen_pool_free(pool, (unsigned long)phys_to_virt(address), bytes);
}

static void sync_single_for_cpu(struct device *dev, dma_addr_t address, size_t bytes, enum dma_data_direction direction)
{
	void *origin = origin_of(address, bytes);

	if (dev_WARN_ONCE(dev, !origin, "%zu bytes at %pad are in no mapping\n", bytes, &address))
		return;
	if (direction != DMA_TO_DEVICE)
		copy_in(origin, phys_to_virt(address), bytes);
}

static void sync_single_for_device(struct device *dev, dma_addr_t address, size_t bytes, enum dma_data_direction direction)
{
	void *origin = origin_of(address, bytes);

	if (dev_WARN_ONCE(dev, !origin, "%zu bytes at %pad are in no mapping\n", bytes, &address))
		return;
	if (direction != DMA_FROM_DEVICE)
		copy_out(phys_to_virt(address), origin, bytes);
}

static void unmap_sg(struct device *dev, struct scatterlist *list, int entries, enum dma_data_direction direction, unsigned long attrs)
{
	struct scatterlist *entry;
	int i;

	for_each_sg(list, entry, entries, i)
		unmap_page(dev, sg_dma_address(entry), sg_dma_len(entry), direction, attrs);
}

static int map_sg(struct device *dev, struct scatterlist *list, int entries, enum dma_data_direction direction, unsigned long attrs)
{
	struct scatterlist *entry;
	int i;

	for_each_sg(list, entry, entries, i) {
		sg_dma_address(entry) = map_page(dev, sg_page(entry), entry->offset, entry->length, direction, attrs);
		if (sg_dma_address(entry) == DMA_MAPPING_ERROR) {
			unmap_sg(dev, list, i, direction, attrs | DMA_ATTR_SKIP_CPU_SYNC);
			return -ENOMEM;
		}
		sg_dma_len(entry) = entry->length;
	}
	return entries;
}

static void sync_sg_for_cpu(struct device *dev, struct scatterlist *list, int entries, enum dma_data_direction direction)
{
	struct scatterlist *entry;
	int i;

	for_each_sg(list, entry, entries, i)
		sync_single_for_cpu(dev, sg_dma_address(entry), sg_dma_len(entry), direction);
}

static void sync_sg_for_device(struct device *dev, struct scatterlist *list, int entries, enum dma_data_direction direction)
{
	struct scatterlist *entry;
	int i;

	for_each_sg(list, entry, entries, i)
		sync_single_for_device(dev, sg_dma_address(entry), sg_dma_len(entry), direction);
}

static void *alloc_coherent(struct device *dev, size_t bytes, dma_addr_t *address, gfp_t gfp, unsigned long attrs)
{
	void *start = (void *)gen_pool_alloc_algo(pool, PAGE_ALIGN(bytes), gen_pool_first_fit_order_align, NULL);

	if (!start) {
		atomic64_inc(&refused.count);
		return NULL;
	}
	memset(start, 0, PAGE_ALIGN(bytes));
	*address = virt_to_phys(start);
	return start;
}

static void free_coherent(struct device *dev, size_t bytes, void *start, dma_addr_t address, unsigned long attrs)
{
	gen_pool_free(pool, (unsigned long)start, PAGE_ALIGN(bytes));
}

static int is_supported(struct device *dev, u64 mask)
{
	return last_byte <= mask;
}

static size_t longest(struct device *dev)
{
	return LONGEST;
}

static const struct dma_map_ops operations = {
	.alloc = alloc_coherent,
	.free = free_coherent,
	.map_page = map_page,
	.unmap_page = unmap_page,
	.map_sg = map_sg,
	.unmap_sg = unmap_sg,
	.sync_single_for_cpu = sync_single_for_cpu,
	.sync_single_for_device = sync_single_for_device,
	.sync_sg_for_cpu = sync_sg_for_cpu,
	.sync_sg_for_device = sync_sg_for_device,
	.dma_supported = is_supported,
	.max_mapping_size = longest,
};

/* The transport is what drivers of virtio devices do their DMA for (virtio's vring_dma_dev). The device lock is held. */
static bool is_transport(struct device *dev)
{
	return dev->driver && (!strcmp(dev->driver->name, "virtio-mmio") || !strcmp(dev->driver->name, "virtio-pci"));
}

static void take_over(struct device *dev)
{
	if (get_dma_ops(dev) == &operations)
		return;
	if (get_dma_ops(dev) || device_iommu_mapped(dev)) {
		dev_err(dev, KBUILD_MODNAME ": has an IOMMU or DMA operations already, and is left alone\n");
		return;
	}
	set_dma_ops(dev, &operations);
#ifdef CONFIG_DMA_NEED_SYNC
	dev->dma_skip_sync = false;	/* may be left of a driver before */
#endif
}

/* Said after the bus has set the device's DMA up and before the driver's probe, with the device's lock held. */
static int notice(struct notifier_block *block, unsigned long event, void *data)
{
	struct device *dev = data;

	if (event != BUS_NOTIFY_BIND_DRIVER)
		return NOTIFY_DONE;
	if (is_transport(dev))
		take_over(dev);
	else if (get_dma_ops(dev) == &operations)
		set_dma_ops(dev, NULL);
	return NOTIFY_DONE;
}

static struct notifier_block platform_notifier = { .notifier_call = notice };
static struct notifier_block pci_notifier = { .notifier_call = notice };

/* A transport whose driver came first, as where virtio_pci is built in, is bound anew. */
static int bind_anew(struct device *dev, void *unused)
{
	bool early;

	device_lock(dev);
	early = is_transport(dev) && get_dma_ops(dev) != &operations;
	device_unlock(dev);
	if (early && device_reprobe(dev) < 0)
		dev_err(dev, KBUILD_MODNAME ": could not be bound anew\n");
	return 0;
}

/* How many of `pages` from `at` on the call was made for. */
static unsigned long call_for(unsigned long function, phys_addr_t at, unsigned long pages)
{
	unsigned long done = 0;

	while (done < pages) {
		struct arm_smccc_res result;

		arm_smccc_1_1_hvc(function, at + done * PAGE_SIZE, pages - done, 0, &result);
		if (result.a0 || !result.a1 || result.a1 > pages - done)
			break;
		done += result.a1;
	}
	return done;
}

static int find_hypervisor(void)
{
	struct arm_smccc_res result;

	if (arm_smccc_1_1_get_conduit() == SMCCC_CONDUIT_HVC)
		arm_smccc_1_1_hvc(STATUS, 0, 0, 0, &result);
	else
		result.a0 = SMCCC_RET_NOT_SUPPORTED;
	if (result.a0) {
		pr_err("the hypervisor is not Delphyne (STATUS is not answered), so nothing can be shared with the host; share=0 only copies\n");
		return -ENODEV;
	}
	if (result.a1 != STATUS_VERSION) {
		pr_err("Delphyne's calls have version %lu, and %d is needed\n", result.a1, STATUS_VERSION);
		return -ENODEV;
	}
	if (!(result.a2 & PROTECTED)) {
		pr_err("this guest is not protected: its host has all of its memory, and virtio works without this module\n");
		return -ENODEV;
	}
	arm_smccc_1_1_hvc(MEMINFO, 0, 0, 0, &result);
	if (result.a0 != PAGE_SIZE) {
		pr_err("memory is shared in units of %lu bytes, and this kernel's pages have %lu\n", result.a0, PAGE_SIZE);
		return -ENODEV;
	}
	return 0;
}

/* Pages that may still be the host's too are never used again. */
static void give_back(void *start, unsigned long shared)
{
	if (call_for(UNSHARE_RANGE, virt_to_phys(start), shared) == shared)
		free_pages((unsigned long)start, PIECE_ORDER);
}

static int add_piece(void)
{
	void *start = (void *)__get_free_pages(GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN, PIECE_ORDER);
	struct piece *piece = kvzalloc(sizeof(*piece), GFP_KERNEL);
	unsigned long shared = 0;
	phys_addr_t at;
	int error = -ENOMEM;

	if (!start || !piece)
		goto undo;
	at = virt_to_phys(start);
	if (share)
		shared = call_for(SHARE_RANGE, at, PIECE_PAGES);
	if (share && shared != PIECE_PAGES)
		goto undo;
	piece->start = start;
	error = xa_err(xa_store(&pieces, at >> PIECE_SHIFT, piece, GFP_KERNEL));
	if (error)
		goto undo;
	error = gen_pool_add_virt(pool, (unsigned long)start, at, PIECE_SIZE, NUMA_NO_NODE);
	if (error) {
		xa_erase(&pieces, at >> PIECE_SHIFT);
		goto undo;
	}
	last_byte = max(last_byte, at + PIECE_SIZE - 1);
	return 0;
undo:
	kvfree(piece);
	if (start)
		give_back(start, shared);
	return error;
}

static void end_pool(void)
{
	struct piece *piece;
	unsigned long index;

	gen_pool_destroy(pool);
	xa_for_each(&pieces, index, piece) {
		give_back(piece->start, share ? PIECE_PAGES : 0);
		kvfree(piece);
	}
	xa_destroy(&pieces);
}

static int make_pool(void)
{
	unsigned int i;
	int error;

	pool = gen_pool_create(SLOT_SHIFT, NUMA_NO_NODE);
	if (!pool)
		return -ENOMEM;
	for (i = 0; i < (size << 20) / PIECE_SIZE; i++) {
		error = add_piece();
		if (error) {
			pr_err("there are no %u MiB that can be %s\n", size, share ? "shared" : "had");
			end_pool();
			return error;
		}
	}
	return 0;
}

static int __init guest_dma_init(void)
{
	int error;

	if (size < LEAST_MIB || size > MOST_MIB || (size << 20) % PIECE_SIZE) {
		pr_err("size=%u: a multiple of 2 from %d to %d is needed\n", size, LEAST_MIB, MOST_MIB);
		return -EINVAL;
	}
	error = share ? find_hypervisor() : 0;
	if (error)
		return error;
	error = make_pool();
	if (error)
		return error;
	error = sysfs_create_group(&THIS_MODULE->mkobj.kobj, &group);
	if (error)
		goto no_group;
	error = bus_register_notifier(&platform_bus_type, &platform_notifier);
	if (error)
		goto no_platform;
	/* From here on devices may have been taken over, and it is too late to fail. */
	if (bus_register_notifier(&pci_bus_type, &pci_notifier))
		pr_err("there is no PCI bus to watch: virtio devices on one are left alone\n");
	pr_info("virtio does its DMA through %u MiB that are %s\n", size, share ? "shared with the host" : "shared with nobody (share=0)");
	bus_for_each_dev(&platform_bus_type, NULL, NULL, bind_anew);
	bus_for_each_dev(&pci_bus_type, NULL, NULL, bind_anew);
	return 0;
no_platform:
	sysfs_remove_group(&THIS_MODULE->mkobj.kobj, &group);
no_group:
	end_pool();
	return error;
}
module_init(guest_dma_init);

MODULE_DESCRIPTION("DMA of a protected guest's virtio devices through a pool that is shared with its host");
MODULE_LICENSE("GPL");
