/* SPDX-License-Identifier: Apache-2.0 */
/* The C that delphyne/el2/sealing/sha256.py is measured against: the same rounds, the same window, the same checks. */
#include "checked.h"

#define WADD(x, y) ((u32)((x) + (y)))
#define K(i) rounds[index_(i, 64)]

static const u32 rounds[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static inline u32 first(u32 e, u32 f, u32 g, u32 h)
{
    u32 mixed = rotate_right32(e, 6) ^ rotate_right32(e, 11) ^ rotate_right32(e, 25);
    return h + mixed + ((e & f) ^ (~e & g));
}

static inline u32 second(u32 a, u32 b, u32 c)
{
    u32 mixed = rotate_right32(a, 2) ^ rotate_right32(a, 13) ^ rotate_right32(a, 22);
    return mixed + ((a & b) | (c & (a | b)));
}

static inline u32 small0(u32 x)
{
    return rotate_right32(x, 7) ^ rotate_right32(x, 18) ^ (x >> 3);
}

static inline u32 small1(u32 x)
{
    return rotate_right32(x, 17) ^ rotate_right32(x, 19) ^ (x >> 10);
}

void c_sha256_compress(u32 *state, bytes data)
{
    for (u64 start = 0; start < (data.length & ~63UL); start += 64) {
        bytes block = part(data, start, add(start, 64));
        u32 w0 = load_be32(block, 0);
        u32 w1 = load_be32(block, 4);
        u32 w2 = load_be32(block, 8);
        u32 w3 = load_be32(block, 12);
        u32 w4 = load_be32(block, 16);
        u32 w5 = load_be32(block, 20);
        u32 w6 = load_be32(block, 24);
        u32 w7 = load_be32(block, 28);
        u32 w8 = load_be32(block, 32);
        u32 w9 = load_be32(block, 36);
        u32 w10 = load_be32(block, 40);
        u32 w11 = load_be32(block, 44);
        u32 w12 = load_be32(block, 48);
        u32 w13 = load_be32(block, 52);
        u32 w14 = load_be32(block, 56);
        u32 w15 = load_be32(block, 60);
        u32 a = state[0];
        u32 b = state[1];
        u32 c = state[2];
        u32 d = state[3];
        u32 e = state[4];
        u32 f = state[5];
        u32 g = state[6];
        u32 h = state[7];
        for (u64 i = 0; i < 64; i += 16) {
            if (i != 0) {
                w0 = WADD(WADD(w0, w9), WADD(small0(w1), small1(w14)));
                w1 = WADD(WADD(w1, w10), WADD(small0(w2), small1(w15)));
                w2 = WADD(WADD(w2, w11), WADD(small0(w3), small1(w0)));
                w3 = WADD(WADD(w3, w12), WADD(small0(w4), small1(w1)));
                w4 = WADD(WADD(w4, w13), WADD(small0(w5), small1(w2)));
                w5 = WADD(WADD(w5, w14), WADD(small0(w6), small1(w3)));
                w6 = WADD(WADD(w6, w15), WADD(small0(w7), small1(w4)));
                w7 = WADD(WADD(w7, w0), WADD(small0(w8), small1(w5)));
                w8 = WADD(WADD(w8, w1), WADD(small0(w9), small1(w6)));
                w9 = WADD(WADD(w9, w2), WADD(small0(w10), small1(w7)));
                w10 = WADD(WADD(w10, w3), WADD(small0(w11), small1(w8)));
                w11 = WADD(WADD(w11, w4), WADD(small0(w12), small1(w9)));
                w12 = WADD(WADD(w12, w5), WADD(small0(w13), small1(w10)));
                w13 = WADD(WADD(w13, w6), WADD(small0(w14), small1(w11)));
                w14 = WADD(WADD(w14, w7), WADD(small0(w15), small1(w12)));
                w15 = WADD(WADD(w15, w8), WADD(small0(w0), small1(w13)));
            }
            h = WADD(first(e, f, g, h), WADD(K(i), w0));
            d = WADD(d, h);
            h = WADD(h, second(a, b, c));
            g = WADD(first(d, e, f, g), WADD(K(add(i, 1)), w1));
            c = WADD(c, g);
            g = WADD(g, second(h, a, b));
            f = WADD(first(c, d, e, f), WADD(K(add(i, 2)), w2));
            b = WADD(b, f);
            f = WADD(f, second(g, h, a));
            e = WADD(first(b, c, d, e), WADD(K(add(i, 3)), w3));
            a = WADD(a, e);
            e = WADD(e, second(f, g, h));
            d = WADD(first(a, b, c, d), WADD(K(add(i, 4)), w4));
            h = WADD(h, d);
            d = WADD(d, second(e, f, g));
            c = WADD(first(h, a, b, c), WADD(K(add(i, 5)), w5));
            g = WADD(g, c);
            c = WADD(c, second(d, e, f));
            b = WADD(first(g, h, a, b), WADD(K(add(i, 6)), w6));
            f = WADD(f, b);
            b = WADD(b, second(c, d, e));
            a = WADD(first(f, g, h, a), WADD(K(add(i, 7)), w7));
            e = WADD(e, a);
            a = WADD(a, second(b, c, d));
            h = WADD(first(e, f, g, h), WADD(K(add(i, 8)), w8));
            d = WADD(d, h);
            h = WADD(h, second(a, b, c));
            g = WADD(first(d, e, f, g), WADD(K(add(i, 9)), w9));
            c = WADD(c, g);
            g = WADD(g, second(h, a, b));
            f = WADD(first(c, d, e, f), WADD(K(add(i, 10)), w10));
            b = WADD(b, f);
            f = WADD(f, second(g, h, a));
            e = WADD(first(b, c, d, e), WADD(K(add(i, 11)), w11));
            a = WADD(a, e);
            e = WADD(e, second(f, g, h));
            d = WADD(first(a, b, c, d), WADD(K(add(i, 12)), w12));
            h = WADD(h, d);
            d = WADD(d, second(e, f, g));
            c = WADD(first(h, a, b, c), WADD(K(add(i, 13)), w13));
            g = WADD(g, c);
            c = WADD(c, second(d, e, f));
            b = WADD(first(g, h, a, b), WADD(K(add(i, 14)), w14));
            f = WADD(f, b);
            b = WADD(b, second(c, d, e));
            a = WADD(first(f, g, h, a), WADD(K(add(i, 15)), w15));
            e = WADD(e, a);
            a = WADD(a, second(b, c, d));
        }
        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
        state[4] += e;
        state[5] += f;
        state[6] += g;
        state[7] += h;
    }
}
