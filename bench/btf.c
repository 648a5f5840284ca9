/* SPDX-License-Identifier: Apache-2.0 */
/* The C that `index` of delphyne/el2/kvm/btf.py is measured against: the same pass over the types, by the same copies and with the same checks. */
#include "checked.h"

#define NOT_FOUND 0xffffffff
#define AMBIGUOUS 0xfffffffe
#define RECORD_BYTES 12

enum { ERR_TRUNCATED = 1, ERR_UNSUPPORTED, ERR_NO_MEMORY };

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

/* What the reader holds of an image: a chunk of the types and a line of the strings, both copied, since the image may change. */
struct line {
    u64 at, length;
    u8 data[128];
};

struct reader {
    const u8 *image;
    u64 size, types_end, strings, strings_end;
    u64 effort, next, count;
    struct line names;
    u8 chunk[1024];
};

static inline u64 least(u64 a, u64 b)
{
    return a < b ? a : b;
}

static inline void spend(struct reader *r, u64 effort)
{
    r->effort = sub(r->effort, least(effort, r->effort));
}

static bool copy_in(struct reader *r, u8 *to, u64 length, u64 offset)
{
    if (offset > r->size || length > sub(r->size, offset))
        return 0;
    __builtin_memcpy(to, (const u8 *)add((u64)r->image, offset), length);
    __asm__ volatile("dmb ishld" ::: "memory");
    return 1;
}

static bool hold(struct reader *r, struct line *line, u64 at, u64 count)
{
    if (at >= line->at && sub(at, line->at) < line->length && count <= sub(line->length, sub(at, line->at)))
        return 1;
    u64 start = at < r->size ? at : 0;
    __asm__ volatile("csdb" ::: "memory");
    line->length = 0;
    if (at >= r->size)
        return 0;
    spend(r, 1);
    u64 length = least(sizeof line->data, sub(r->size, start));
    if (!copy_in(r, part((bytes){line->data, sizeof line->data}, 0, length).at, length, start))
        return 0;
    line->at = start;
    line->length = length;
    return count <= length;
}

static bytes string_at(struct reader *r, u32 at)
{
    u64 start = add(r->strings, at), end = r->strings_end;
    struct line *line = &r->names;
    bytes data = {line->data, sizeof line->data};
    spend(r, 1);
    if (start >= end)
        return part(data, 0, 0);
    u64 length = least(sub(end, start), 64);
    if (!hold(r, line, start, length))
        return part(data, 0, 0);
    return part(data, sub(start, line->at), add(sub(start, line->at), length));
}

static bool is_name(struct reader *r, bytes seen, bytes name)
{
    if (name.length >= seen.length)
        return 0;
    for (u64 i = 0; i < name.length; i++)
        if (BYTE(seen, i) != BYTE(name, i)) {
            spend(r, i / 8);
            return 0;
        }
    spend(r, name.length / 8);
    return BYTE(seen, name.length) == 0;
}

static void note(struct reader *r, u32 called, u32 at, bytes names, halves ends, words found)
{
    bytes seen = string_at(r, called);
    if (seen.length == 0)
        return;
    for (u64 i = 0; i < found.length; i++) {
        u64 start = BYTE(ends, i);
        if (BYTE(names, start) == BYTE(seen, 0) && is_name(r, seen, part(names, start, BYTE(ends, add(i, 1)))))
            BYTE(found, i) = BYTE(found, i) == NOT_FOUND ? at : AMBIGUOUS;
    }
}

static u32 index_chunk(struct reader *r, bytes names, halves ends, words found, words checkpoints)
{
    u64 first = r->next, room_left = sub(r->types_end, first), length = least(sizeof r->chunk, room_left);
    if (length < RECORD_BYTES || !copy_in(r, r->chunk, length, first))
        return ERR_TRUNCATED;
    bytes chunk = {r->chunk, sizeof r->chunk};
    u64 at = 0, count = r->count;
    while (at <= sub(length, RECORD_BYTES)) {
        u32 about = load_le32(chunk, add(at, 4));
        u64 kind = about >> 24 & 31;
        u8 extra = extra_bytes[index_(kind, 32)];
        if (extra == 255)
            return ERR_UNSUPPORTED;
        if ((count & 31) == 0) {
            if (count >> 5 >= checkpoints.length)
                return ERR_NO_MEMORY;
            BYTE(checkpoints, count >> 5) = narrow(add(first, at));
        }
        if (kind >= 4 && kind <= 6)
            note(r, load_le32(chunk, at), narrow(add(first, at)), names, ends, found);
        at = add(at, add(add(RECORD_BYTES, extra), mul(about & 0xffff, each_bytes[index_(kind, 32)])));
        count = count + 1;
        if (at > room_left)
            return ERR_TRUNCATED;
    }
    spend(r, add(16, sub(count, r->count)));
    r->next = add(first, at);
    r->count = count;
    return 0;
}

static u32 btf_index(struct reader *r, bytes names, halves ends, words found, words checkpoints)
{
    for (u64 i = 0; i < found.length; i++)
        found.at[i] = NOT_FOUND;
    while (r->next < r->types_end) {
        if (r->effort == 0)
            return ERR_UNSUPPORTED;
        u32 error = index_chunk(r, names, ends, found, checkpoints);
        if (error)
            return error;
    }
    return 0;
}

u64 c_btf_scan(const u8 *base, u64 types, u64 strings, bytes names, halves ends)
{
    u32 found_words[12] = {0}, checkpoint_words[256] = {0};
    words found = {found_words, 12}, checkpoints = {checkpoint_words, 256};
    static struct reader reader;
    reader = (struct reader){.image = base, .size = add(types, strings), .types_end = types, .strings = types};
    reader.strings_end = reader.size;
    reader.effort = -1;
    if (btf_index(&reader, names, ends, found, checkpoints))
        return 0;
    u64 total = reader.count;
    for (u64 i = 0; i < 12; i++)
        total = total * 31 + found_words[index_(i, 12)];
    for (u64 i = 0; i < 256; i++)
        total += checkpoint_words[index_(i, 256)];
    return total;
}
