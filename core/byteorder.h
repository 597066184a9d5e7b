/*
 * Little-endian wire fields as one-member structs: the compiler refuses to
 * compare or assign them as integers, and at -O2 they cost nothing. Convert at
 * the edge. (vhost-user messages are native-endian and use plain integers.)
 *
 * SPDX-License-Identifier: BSD-3-Clause
 */
#ifndef RINGBOLT_CORE_BYTEORDER_H
#define RINGBOLT_CORE_BYTEORDER_H

#include <endian.h>
#include <stdint.h>

typedef struct {
	uint16_t wire;
} le16;
typedef struct {
	uint32_t wire;
} le32;
typedef struct {
	uint64_t wire;
} le64;

static inline uint16_t le16_to_cpu(le16 v)
{
	return le16toh(v.wire);
}

static inline uint32_t le32_to_cpu(le32 v)
{
	return le32toh(v.wire);
}

static inline uint64_t le64_to_cpu(le64 v)
{
	return le64toh(v.wire);
}

static inline le16 cpu_to_le16(uint16_t v)
{
	return (le16){ htole16(v) };
}

static inline le32 cpu_to_le32(uint32_t v)
{
	return (le32){ htole32(v) };
}

static inline le64 cpu_to_le64(uint64_t v)
{
	return (le64){ htole64(v) };
}

#endif
