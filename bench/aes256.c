/* SPDX-License-Identifier: Apache-2.0 */
/* The C that delphyne/el2/sealing/aes256.py is measured against: the same slicing, the same circuit, the same checks. */
#include "checked.h"

typedef struct {
    u64 high, low;
} counter;

#define Q(n) q[index_(n, 8)]

static counter plus(counter c, u64 blocks)
{
    u64 low = c.low + blocks;
    return (counter){c.high + (low < blocks), low};
}

static void substitute(u64 *q)
{
    u64 x0 = Q(7);
    u64 x1 = Q(6);
    u64 x2 = Q(5);
    u64 x3 = Q(4);
    u64 x4 = Q(3);
    u64 x5 = Q(2);
    u64 x6 = Q(1);
    u64 x7 = Q(0);
    u64 y14 = x3 ^ x5;
    u64 y13 = x0 ^ x6;
    u64 y9 = x0 ^ x3;
    u64 y8 = x0 ^ x5;
    u64 t0 = x1 ^ x2;
    u64 y1 = t0 ^ x7;
    u64 y4 = y1 ^ x3;
    u64 y12 = y13 ^ y14;
    u64 y2 = y1 ^ x0;
    u64 y5 = y1 ^ x6;
    u64 y3 = y5 ^ y8;
    u64 t1 = x4 ^ y12;
    u64 y15 = t1 ^ x5;
    u64 y20 = t1 ^ x1;
    u64 y6 = y15 ^ x7;
    u64 y10 = y15 ^ t0;
    u64 y11 = y20 ^ y9;
    u64 y7 = x7 ^ y11;
    u64 y17 = y10 ^ y11;
    u64 y19 = y10 ^ y8;
    u64 y16 = t0 ^ y11;
    u64 y21 = y13 ^ y16;
    u64 y18 = x0 ^ y16;

    u64 t2 = y12 & y15;
    u64 t4 = (y3 & y6) ^ t2;
    u64 t6 = (y4 & x7) ^ t2;
    u64 t7 = y13 & y16;
    u64 t9 = (y5 & y1) ^ t7;
    u64 t11 = (y2 & y7) ^ t7;
    u64 t12 = y9 & y11;
    u64 t14 = (y14 & y17) ^ t12;
    u64 t16 = (y8 & y10) ^ t12;
    u64 t21 = t4 ^ t14 ^ y20;
    u64 t22 = t6 ^ t16 ^ y19;
    u64 t23 = t9 ^ t14 ^ y21;
    u64 t24 = t11 ^ t16 ^ y18;
    u64 t25 = t21 ^ t22;
    u64 t26 = t21 & t23;
    u64 t27 = t24 ^ t26;
    u64 t29 = (t25 & t27) ^ t22;
    u64 t33 = ((t22 ^ t26) & (t23 ^ t24)) ^ t24;
    u64 t36 = t24 & (t27 ^ t33);
    u64 t37 = t36 ^ t23 ^ t33;
    u64 t40 = t25 ^ (t29 & (t27 ^ t36));
    u64 t41 = t40 ^ t37;
    u64 t42 = t29 ^ t33;
    u64 t43 = t29 ^ t40;
    u64 t44 = t33 ^ t37;
    u64 t45 = t42 ^ t41;

    u64 z0 = t44 & y15;
    u64 z1 = t37 & y6;
    u64 z2 = t33 & x7;
    u64 z3 = t43 & y16;
    u64 z4 = t40 & y1;
    u64 z5 = t29 & y7;
    u64 z6 = t42 & y11;
    u64 z7 = t45 & y17;
    u64 z8 = t41 & y10;
    u64 z9 = t44 & y12;
    u64 z10 = t37 & y3;
    u64 z11 = t33 & y4;
    u64 z12 = t43 & y13;
    u64 z13 = t40 & y5;
    u64 z14 = t29 & y2;
    u64 z15 = t42 & y9;
    u64 z16 = t45 & y14;
    u64 z17 = t41 & y8;
    u64 t46 = z15 ^ z16;
    u64 t48 = z5 ^ z13;
    u64 t53 = z0 ^ z3;
    u64 t54 = z6 ^ z7;
    u64 t57 = z2 ^ z12 ^ t53;
    u64 t58 = z4 ^ t46;
    u64 t59 = z3 ^ t54;
    u64 t60 = t46 ^ t57;
    u64 t62 = z7 ^ z8 ^ t58;
    u64 t63 = z9 ^ z10 ^ t58;
    u64 t64 = z4 ^ t59;
    u64 t65 = z14 ^ t57 ^ t62;
    u64 t66 = z1 ^ t63;
    u64 s3 = t53 ^ t66;
    Q(7) = t59 ^ t63;
    Q(6) = t64 ^ ~s3;
    Q(5) = z16 ^ z17 ^ ~(t64 ^ t65);
    Q(4) = s3;
    Q(3) = z2 ^ z5 ^ t66;
    Q(2) = z10 ^ z11 ^ t65;
    Q(1) = z12 ^ t48 ^ ~t62;
    Q(0) = t48 ^ ~t60;
}

static inline u64 shift_rows(u64 x)
{
    u64 row1 = ((x & 0xfff00000) >> 4) | ((x & 0x000f0000) << 12);
    u64 row2 = ((x & 0xff0000000000) >> 8) | ((x & 0x00ff00000000) << 8);
    u64 row3 = ((x & 0xf000000000000000) >> 12) | ((x & 0x0fff000000000000) << 4);
    return (x & 0xffff) | row1 | row2 | row3;
}

static void mix_columns(u64 *q)
{
    u64 a0 = shift_rows(Q(0));
    u64 a1 = shift_rows(Q(1));
    u64 a2 = shift_rows(Q(2));
    u64 a3 = shift_rows(Q(3));
    u64 a4 = shift_rows(Q(4));
    u64 a5 = shift_rows(Q(5));
    u64 a6 = shift_rows(Q(6));
    u64 a7 = shift_rows(Q(7));
    u64 b0 = a0 ^ rotate_right64(a0, 16);
    u64 b1 = a1 ^ rotate_right64(a1, 16);
    u64 b2 = a2 ^ rotate_right64(a2, 16);
    u64 b3 = a3 ^ rotate_right64(a3, 16);
    u64 b4 = a4 ^ rotate_right64(a4, 16);
    u64 b5 = a5 ^ rotate_right64(a5, 16);
    u64 b6 = a6 ^ rotate_right64(a6, 16);
    u64 b7 = a7 ^ rotate_right64(a7, 16);
    Q(0) = b7 ^ rotate_right64(a0, 16) ^ rotate_right64(b0, 32);
    Q(1) = b0 ^ b7 ^ rotate_right64(a1, 16) ^ rotate_right64(b1, 32);
    Q(2) = b1 ^ rotate_right64(a2, 16) ^ rotate_right64(b2, 32);
    Q(3) = b2 ^ b7 ^ rotate_right64(a3, 16) ^ rotate_right64(b3, 32);
    Q(4) = b3 ^ b7 ^ rotate_right64(a4, 16) ^ rotate_right64(b4, 32);
    Q(5) = b4 ^ rotate_right64(a5, 16) ^ rotate_right64(b5, 32);
    Q(6) = b5 ^ rotate_right64(a6, 16) ^ rotate_right64(b6, 32);
    Q(7) = b6 ^ rotate_right64(a7, 16) ^ rotate_right64(b7, 32);
}

static inline void add_round_key(u64 *q, const u64 *keys, u64 first)
{
    for (u64 n = 0; n < 8; n++)
        Q(n) ^= keys[index_(add(first, n), 120)];
}

static void encrypt(u64 *q, const u64 *keys)
{
    add_round_key(q, keys, 0);
    for (u64 first = 8; first < 112; first += 8) {
        substitute(q);
        mix_columns(q);
        add_round_key(q, keys, first);
    }
    substitute(q);
    for (u64 n = 0; n < 8; n++)
        Q(n) = shift_rows(Q(n));
    add_round_key(q, keys, 112);
}

static inline void exchange(u64 *q, u64 low, u64 high, u64 shift, u64 mask)
{
    u64 difference = (shr(Q(low), shift) ^ Q(high)) & mask;
    Q(high) ^= difference;
    Q(low) ^= shl(difference, shift);
}

static void transpose(u64 *q)
{
    for (u64 n = 0; n < 8; n += 2)
        exchange(q, n, add(n, 1), 1, 0x5555555555555555);
    for (u64 n = 0; n < 8; n += 4) {
        exchange(q, n, add(n, 2), 2, 0x3333333333333333);
        exchange(q, add(n, 1), add(n, 3), 2, 0x3333333333333333);
    }
    for (u64 n = 0; n < 4; n++)
        exchange(q, n, add(n, 4), 4, 0x0f0f0f0f0f0f0f0f);
}

static inline u64 swap_inside(u64 x, u64 shift, u64 mask)
{
    u64 difference = (shr(x, shift) ^ x) & mask;
    return x ^ difference ^ shl(difference, shift);
}

static void put_block(u64 *q, u64 b, u64 low, u64 high)
{
    u64 even = (low & 0xffffffff) | (high << 32);
    u64 odd = (low >> 32) | (high & 0xffffffff00000000);
    Q(b) = swap_inside(swap_inside(even, 16, 0xffff0000), 8, 0x0000ff000000ff00);
    Q(add(b, 4)) = swap_inside(swap_inside(odd, 16, 0xffff0000), 8, 0x0000ff000000ff00);
}

static void xor_block(u64 *q, u64 b, bytes data)
{
    u64 even = swap_inside(swap_inside(Q(b), 8, 0x0000ff000000ff00), 16, 0xffff0000);
    u64 odd = swap_inside(swap_inside(Q(add(b, 4)), 8, 0x0000ff000000ff00), 16, 0xffff0000);
    u64 low = (even & 0xffffffff) | (odd << 32);
    u64 high = (even >> 32) | (odd & 0xffffffff00000000);
    store_le64(data, 0, low ^ load_le64(data, 0));
    store_le64(data, 8, high ^ load_le64(data, 8));
}

static void slice_keys(const u64 *words, u64 *keys, u64 *q)
{
    for (u64 r = 0; r < 15; r++) {
        for (u64 b = 0; b < 4; b++)
            put_block(q, b, words[index_(mul(r, 2), 30)], words[index_(add(mul(r, 2), 1), 30)]);
        transpose(q);
        for (u64 n = 0; n < 8; n++)
            keys[index_(add(mul(r, 8), n), 120)] = Q(n);
    }
}

static void apply_batch(const u64 *keys, counter c, bytes data, u64 *q)
{
    for (u64 b = 0; b < 4; b++) {
        counter block = plus(c, b);
        put_block(q, b, __builtin_bswap64(block.high), __builtin_bswap64(block.low));
    }
    transpose(q);
    encrypt(q, keys);
    transpose(q);
    for (u64 b = 0; b < 4; b++)
        xor_block(q, b, part(data, mul(b, 16), mul(add(b, 1), 16)));
}

static void wipe(void *place, u64 size)
{
    __builtin_memset(place, 0, size);
    __asm__ volatile("" : : "r"(place) : "memory");
}

void c_aes256_apply(const u64 *words, u64 high, u64 low, bytes data)
{
    u64 keys[120] = {0};
    u64 q[8] = {0};
    slice_keys(words, keys, q);
    u64 whole = data.length & ~63UL;
    counter block = {high, low};
    for (u64 start = 0; start < whole; start += 64) {
        apply_batch(keys, block, part(data, start, add(start, 64)), q);
        block = plus(block, 4);
    }
    if (whole < data.length) {
        u64 rest = sub(data.length, whole);
        u8 buffer[64] = {0};
        bytes batch = {buffer, 64};
        bytes end = part(data, whole, data.length), begin = part(batch, 0, rest);
        UNLESS(end.length != begin.length, end.length, begin.length);
        __builtin_memmove(begin.at, end.at, end.length);
        apply_batch(keys, block, batch, q);
        __builtin_memmove(end.at, begin.at, end.length);
        wipe(buffer, sizeof(buffer));
    }
    wipe(keys, sizeof(keys));
    wipe(q, sizeof(q));
}
