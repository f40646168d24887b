// SPDX-License-Identifier: Apache-2.0
/*
 * Interoperability: the question NVIDIA's runtime asks the driver library when it starts.
 *
 * An unmodified libcudart 13 calls one function of a private table three times and goes on only if the last answer
 * is the keyed hash it expects. The hash covers nothing but values of this very process: version numbers, process
 * and thread, the addresses of two of our own tables, the time, and what we said our devices are called. So it can
 * only be computed here. It is written from two public specifications, MD2 (RFC 1319) and HMAC (RFC 2104); key,
 * message layout and the two constant answers are facts observed at the interface, recorded for the purpose of
 * letting programs run. Build with VGPU_INTEGRITY=0 to leave this file out: Driver API programs are not affected,
 * programs that use the runtime then end with its error 103 or 500.
 */
#include <string.h>

#include "integrity.h"

/* RFC 1319, section 3.2: a permutation of 0 ... 255 made from the digits of pi. */
static const uint8_t pi_digits[256] = {
	41, 46, 67, 201, 162, 216, 124, 1, 61, 54, 84, 161, 236, 240, 6, 19, 98, 167, 5, 243, 192, 199, 115, 140,
	152, 147, 43, 217, 188, 76, 130, 202, 30, 155, 87, 60, 253, 212, 224, 22, 103, 66, 111, 24, 138, 23, 229,
	18, 190, 78, 196, 214, 218, 158, 222, 73, 160, 251, 245, 142, 187, 47, 238, 122, 169, 104, 121, 145, 21,
	178, 7, 63, 148, 194, 16, 137, 11, 34, 95, 33, 128, 127, 93, 154, 90, 144, 50, 39, 53, 62, 204, 231, 191,
	247, 151, 3, 255, 25, 48, 179, 72, 165, 181, 209, 215, 94, 146, 42, 172, 86, 170, 198, 79, 184, 56, 210,
	150, 164, 125, 182, 118, 252, 107, 226, 156, 116, 4, 241, 69, 157, 112, 89, 100, 113, 135, 32, 134, 91, 207,
	101, 230, 45, 168, 2, 27, 96, 37, 173, 174, 176, 185, 246, 28, 70, 97, 105, 52, 64, 126, 15, 85, 71, 163,
	35, 221, 81, 175, 58, 195, 92, 249, 206, 186, 197, 234, 38, 44, 83, 13, 110, 133, 40, 132, 9, 211, 223, 205,
	244, 65, 129, 77, 82, 106, 220, 55, 200, 108, 193, 171, 250, 36, 225, 123, 8, 12, 189, 177, 74, 120, 136,
	149, 139, 227, 99, 232, 109, 233, 203, 213, 254, 59, 0, 29, 57, 242, 239, 183, 14, 102, 88, 208, 228, 166,
	119, 114, 248, 235, 117, 75, 10, 49, 68, 80, 180, 143, 237, 31, 26, 219, 153, 141, 51, 159, 17, 131, 20,
};

struct md2_state {
	uint8_t x[48], checksum[16], block[16];
	unsigned int fill;
};

static void md2_block(struct md2_state *s, const uint8_t block[16])
{
	uint8_t t = s->checksum[15];

	for (int i = 0; i < 16; i++) {
		s->x[16 + i] = block[i];
		s->x[32 + i] = block[i] ^ s->x[i];
		t = s->checksum[i] ^= pi_digits[block[i] ^ t];
	}
	t = 0;
	for (int round = 0; round < 18; round++) {
		for (int i = 0; i < 48; i++)
			t = s->x[i] ^= pi_digits[t];
		t += round;
	}
}

static void md2_add(struct md2_state *s, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len--) {
		s->block[s->fill++] = *p++;
		if (s->fill == 16) {
			md2_block(s, s->block);
			s->fill = 0;
		}
	}
}

static void md2_end(struct md2_state *s, uint8_t out[16])
{
	uint8_t pad[16], checksum[16];
	unsigned int n = 16 - s->fill;

	memset(pad, n, n);
	md2_add(s, pad, n);
	memcpy(checksum, s->checksum, 16);
	md2_block(s, checksum);
	memcpy(out, s->x, 16);
}

void md2(const void *data, size_t len, uint8_t out[16])
{
	struct md2_state s = { .fill = 0 };

	md2_add(&s, data, len);
	md2_end(&s, out);
}

void hmac_md2(const void *key, size_t key_len, const void *data, size_t len, uint8_t out[16])
{
	struct md2_state inner = { .fill = 0 }, outer = { .fill = 0 };
	uint8_t pad[16] = { 0 }, hash[16];

	memcpy(pad, key, key_len < 16 ? key_len : 16);
	for (int i = 0; i < 16; i++)
		pad[i] ^= 0x36;
	md2_add(&inner, pad, 16);
	md2_add(&inner, data, len);
	md2_end(&inner, hash);
	for (int i = 0; i < 16; i++)
		pad[i] ^= 0x36 ^ 0x5c;
	md2_add(&outer, pad, 16);
	md2_add(&outer, hash, 16);
	md2_end(&outer, out);
}

void integrity_answer(const struct integrity_input *in, const struct integrity_device *devices, unsigned int n,
		      uint8_t out[16])
{
	static const uint8_t key[16] = { 0x14, 0x6a, 0xdd, 0xae, 0x53, 0xa9, 0xa7, 0x52,
					 0xaa, 0x08, 0x41, 0x36, 0x0b, 0xf5, 0x5a, 0x9f };
	static const uint64_t constant[2][2] = { { 0x3341181c03cb675cull, 0x8ed383aa1f4cd1e8ull },
						 { 0x1841181c03cb675cull, 0x8ed383aa1f4cd1e8ull } };
	struct __attribute__((packed)) {
		uint32_t driver_version, version, pid, thread;
		uint64_t runtime_table, integrity_table, function, seconds;
		struct integrity_device devices[16];
	} message = {
		.driver_version = in->driver_version, .version = in->version, .pid = in->pid, .thread = in->thread,
		.runtime_table = (uintptr_t)in->runtime_table, .integrity_table = (uintptr_t)in->integrity_table,
		.function = (uintptr_t)in->function, .seconds = in->seconds,
	};

	if (in->version % 10 < 2) {
		memcpy(out, constant[in->version % 10], 16);
		return;
	}
	if (n > 16)
		n = 16;
	memcpy(message.devices, devices, n * sizeof(*devices));
	hmac_md2(key, sizeof(key), &message, offsetof(__typeof__(message), devices) + n * sizeof(*devices), out);
}
