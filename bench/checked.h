/* SPDX-License-Identifier: Apache-2.0 */
/* The checks that the language makes, for C: what overflows, leaves its array, shifts too far or does not fit calls a handler that does not
   return, with a site number and the two operands, as compiled Python does. */
#ifndef CHECKED_H
#define CHECKED_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef _Bool bool;

_Static_assert(sizeof(u64) == 8, "an LP64 target");

void __trap(u64 site, u64 a, u64 b) __attribute__((noreturn, cold));

#ifdef UNCHECKED
#define UNLESS(bad, a, b) ((void)0)
#else
#define UNLESS(bad, a, b)                                                                                                                            \
    do {                                                                                                                                             \
        if (__builtin_expect(bad, 0))                                                                                                                \
            __trap(__LINE__, a, b);                                                                                                                  \
    } while (0)
#endif

/* A slice: an address and a count of elements. */
typedef struct {
    u8 *at;
    u64 length;
} bytes;

#define inline_ static inline __attribute__((always_inline))

inline_ u64 add(u64 a, u64 b)
{
    u64 sum;
    UNLESS(__builtin_add_overflow(a, b, &sum), a, b);
    return a + b;
}

inline_ u64 sub(u64 a, u64 b)
{
    u64 difference;
    UNLESS(__builtin_sub_overflow(a, b, &difference), a, b);
    return a - b;
}

inline_ u64 mul(u64 a, u64 b)
{
    u64 product;
    UNLESS(__builtin_mul_overflow(a, b, &product), a, b);
    return a * b;
}

inline_ u32 add32(u32 a, u32 b)
{
    u32 sum;
    UNLESS(__builtin_add_overflow(a, b, &sum), a, b);
    return a + b;
}

inline_ u64 shl(u64 a, u64 n)
{
    UNLESS(n >= 64, a, n);
    return a << n;
}

inline_ u64 shr(u64 a, u64 n)
{
    UNLESS(n >= 64, a, n);
    return a >> n;
}

inline_ u64 index_(u64 i, u64 length)
{
    UNLESS(i >= length, i, length);
    return i;
}

inline_ u32 narrow(u64 a)
{
    UNLESS(a > 0xffffffff, a, 0xffffffff);
    return (u32)a;
}

/* data[low:high] */
inline_ bytes part(bytes data, u64 low, u64 high)
{
    UNLESS(high > data.length, high, data.length);
    UNLESS(low > high, low, high);
    return (bytes){data.at + low, high - low};
}

/* `size` bytes from `offset` on lie inside `data`. */
inline_ u8 *room(bytes data, u64 offset, u64 size)
{
    UNLESS(offset > data.length || data.length - offset < size, offset, data.length);
    return data.at + offset;
}

inline_ u32 load_le32(bytes data, u64 offset)
{
    u32 x;
    __builtin_memcpy(&x, room(data, offset, 4), 4);
    return x;
}

inline_ u32 load_be32(bytes data, u64 offset)
{
    return __builtin_bswap32(load_le32(data, offset));
}

inline_ u64 load_le64(bytes data, u64 offset)
{
    u64 x;
    __builtin_memcpy(&x, room(data, offset, 8), 8);
    return x;
}

inline_ void store_le64(bytes data, u64 offset, u64 x)
{
    __builtin_memcpy(room(data, offset, 8), &x, 8);
}

inline_ u32 rotate_right32(u32 x, u32 n)
{
    return x >> n | x << (32 - n);
}

inline_ u64 rotate_right64(u64 x, u64 n)
{
    return x >> n | x << (64 - n);
}

#endif
