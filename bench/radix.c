/* SPDX-License-Identifier: Apache-2.0 */
/* The C that `radix_find` of delphyne/bench/subjects.py is measured against. */
#include "checked.h"

struct node {
    u32 branches[64];
};

struct tree {
    struct node nodes[80];
};

static struct tree radix;

struct found {
    bool some;
    u32 value;
};

#define NODE(n) radix.nodes[index_(n, 80)]
#define BRANCH(n, b) NODE(n).branches[index_(b, 64)]

void c_radix_prepare(void)
{
    for (u64 top = 0; top < 64; top++)
        BRANCH(1, top) = 2;
    for (u64 middle = 0; middle < 64; middle += 4) {
        BRANCH(2, middle) = narrow(add(3, middle));
        for (u64 bottom = 0; bottom < 64; bottom++)
            BRANCH(add(3, middle), bottom) = narrow(add(add(mul(middle, 64), bottom), 1));
    }
}

static struct found radix_find(const struct tree *tree, u64 key)
{
    u32 node = 1;
    for (u64 level = 0; level < 3; level++) {
        u64 branch = shr(key, sub(12, mul(level, 6))) & 63;
        node = tree->nodes[index_(node, 80)].branches[index_(branch, 64)];
        if (node == 0)
            return (struct found){0, 0};
    }
    return (struct found){1, node};
}

u64 c_radix_many(u64 count)
{
    u64 state = 1, total = 0;
    for (u64 n = 0; n < count; n++) {
        state = state * 6364136223846793005 + 1442695040888963407;
        struct found found = radix_find(&radix, state >> 32 & 0x3ffff);
        if (found.some)
            total += found.value;
    }
    return total;
}
