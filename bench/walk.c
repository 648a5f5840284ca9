/* SPDX-License-Identifier: Apache-2.0 */
/* The C that `walk` of delphyne/el2/memory/tables.py is measured against: the same tables, the same steps, the same checks. */
#include "checked.h"

typedef u64 table[512];

static struct {
    table *at;
    u64 length;
} tables;
static u64 region_base;

struct space {
    u8 regime;
    u64 bits, start, root, roots;
    u8 pool;
    u16 vmid;
};

struct walk {
    u64 table, slot, level, descriptor;
};

static inline u64 frame_of(u64 descriptor)
{
    return descriptor >> 12 & 0xfffffffff;
}

static inline u64 make(u64 frame)
{
    UNLESS(frame > 0xfffffffff, frame, 0xfffffffff);
    return frame << 12 | 3;
}

static inline u64 level_shift(u64 level)
{
    return add(12, mul(9, sub(3, level)));
}

static inline u64 slot_of(u64 address, u64 level)
{
    return shr(address, level_shift(level)) & 511;
}

static inline bool is_table(u64 descriptor, u64 level)
{
    return (descriptor & 1) && (descriptor & 2) && level < 3;
}

static inline u64 *entry(u64 at, u64 slot)
{
    return &tables.at[index_(at, tables.length)][index_(slot, 512)];
}

static inline u64 load(u64 at, u64 slot)
{
    return __atomic_load_n(entry(at, slot), __ATOMIC_RELAXED);
}

static inline void store(u64 at, u64 slot, u64 descriptor)
{
    __atomic_store_n(entry(at, slot), descriptor, __ATOMIC_RELAXED);
}

static inline u64 next_table(u64 descriptor)
{
    return sub(mul(frame_of(descriptor), 4096), region_base) / 4096;
}

static struct walk walk_to(const struct space *space, u64 address, u64 last)
{
    u64 index = shr(address, level_shift(space->start));
    u64 at = add(space->root, index / 512);
    u64 slot = index % 512;
    u64 descriptor = load(at, slot);
    for (u64 level = space->start; level < last; level++) {
        if (!is_table(descriptor, level))
            return (struct walk){at, slot, level, descriptor};
        at = next_table(descriptor);
        slot = slot_of(address, add(level, 1));
        descriptor = load(at, slot);
    }
    return (struct walk){at, slot, last, descriptor};
}

static struct walk walk(const struct space *space, u64 address)
{
    return walk_to(space, address, 3);
}

void c_walk_prepare(struct space *space, u64 base, u64 count)
{
    UNLESS(tables.at != 0, 0, 0);
    tables.at = (table *)base;
    tables.length = count;
    region_base = base;
    space->regime = 1;
    space->bits = 39;
    space->start = 1;
    space->roots = 1;
    store(0, 0, make(add(base / 4096, 1)));
    for (u64 block = 0; block < 8; block++) {
        store(1, block, make(add(add(base / 4096, 2), block)));
        for (u64 slot = 0; slot < 512; slot++)
            store(add(block, 2), slot, make(add(mul(block, 512), slot)));
    }
}

u64 c_walk_many(const struct space *space, u64 count)
{
    u64 state = 1, total = 0;
    for (u64 n = 0; n < count; n++) {
        state = state * 6364136223846793005 + 1442695040888963407;
        struct walk found = walk(space, state >> 32 & 0xffffff);
        total += found.descriptor ^ found.level;
    }
    return total;
}
