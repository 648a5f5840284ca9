/* SPDX-License-Identifier: Apache-2.0 */
/* The C that `index` of delphyne/el2/kvm/btf.py is measured against: the same pass over the types, the same checks. */
#include "checked.h"

#define NOT_FOUND 0xffffffff
#define AMBIGUOUS 0xfffffffe
#define RECORD_BYTES 12

enum { ERR_TRUNCATED = 1, ERR_UNSUPPORTED, ERR_NO_MEMORY };

struct result {
    u32 error;
    u64 value;
};

typedef struct {
    const u16 *at;
    u64 length;
} halves;

typedef struct {
    u32 *at;
    u64 length;
} words;

static const u8 extra_bytes[32] = {255, 4, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 4, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
static const u8 each_bytes[32] = {0, 0, 0, 0, 12, 12, 8, 0, 0, 0, 0, 0, 0, 8, 0, 12, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};

#define BYTE(s, i) ((s).at[index_(i, (s).length)])

static inline u16 load_le16(bytes data, u64 offset)
{
    u16 x;
    __builtin_memcpy(&x, room(data, offset, 2), 2);
    return x;
}

static inline bool has_record(bytes types, u64 at)
{
    return at <= types.length && sub(types.length, at) >= RECORD_BYTES;
}

static inline u64 kind_of(bytes types, u64 at)
{
    return load_le32(types, add(at, 4)) >> 24 & 31;
}

static inline u64 items_of(bytes types, u64 at)
{
    return load_le16(types, add(at, 4));
}

static struct result record_length(bytes types, u64 at)
{
    if (!has_record(types, at))
        return (struct result){ERR_TRUNCATED, 0};
    u64 kind = kind_of(types, at);
    u8 extra = extra_bytes[index_(kind, 32)];
    if (extra == 255)
        return (struct result){ERR_UNSUPPORTED, 0};
    u64 length = add(add(RECORD_BYTES, extra), mul(items_of(types, at), each_bytes[index_(kind, 32)]));
    if (length > sub(types.length, at))
        return (struct result){ERR_TRUNCATED, 0};
    return (struct result){0, length};
}

static bool name_is(bytes strings, u32 at, bytes name)
{
    u64 start = at;
    if (start >= strings.length || name.length >= sub(strings.length, start))
        return 0;
    for (u64 i = 0; i < name.length; i++)
        if (BYTE(strings, add(start, i)) != BYTE(name, i))
            return 0;
    return BYTE(strings, add(start, name.length)) == 0;
}

static void note(bytes types, bytes strings, u64 at, bytes names, halves ends, words found)
{
    u32 called = load_le32(types, at);
    for (u64 i = 0; i < found.length; i++) {
        bytes name = part(names, BYTE(ends, i), BYTE(ends, add(i, 1)));
        if (name_is(strings, called, name))
            BYTE(found, i) = BYTE(found, i) == NOT_FOUND ? narrow(at) : AMBIGUOUS;
    }
}

static struct result btf_index(bytes types, bytes strings, bytes names, halves ends, words found, words checkpoints)
{
    for (u64 i = 0; i < found.length; i++)
        found.at[i] = NOT_FOUND;
    u64 count = 0, at = 0;
    while (at < types.length) {
        struct result length = record_length(types, at);
        if (length.error)
            return length;
        if ((count & 31) == 0) {
            if (count >> 5 >= checkpoints.length)
                return (struct result){ERR_NO_MEMORY, 0};
            BYTE(checkpoints, count >> 5) = narrow(at);
        }
        u64 kind = kind_of(types, at);
        if (kind >= 4 && kind <= 6)
            note(types, strings, at, names, ends, found);
        at = add(at, length.value);
        count = add(count, 1);
    }
    return (struct result){0, count};
}

u64 c_btf_scan(bytes types, bytes strings, bytes names, halves ends)
{
    u32 found_words[12] = {0}, checkpoint_words[256] = {0};
    words found = {found_words, 12}, checkpoints = {checkpoint_words, 256};
    struct result count = btf_index(types, strings, names, ends, found, checkpoints);
    if (count.error)
        return 0;
    u64 total = count.value;
    for (u64 i = 0; i < 12; i++)
        total = total * 31 + found_words[index_(i, 12)];
    for (u64 i = 0; i < 256; i++)
        total += checkpoint_words[index_(i, 256)];
    return total;
}
