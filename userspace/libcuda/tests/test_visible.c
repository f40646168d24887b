// SPDX-License-Identifier: Apache-2.0
/* What CUDA_VISIBLE_DEVICES means. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "../visible.h"
#include "tap.h"

static const uint8_t uuids[3][16] = {
	{ 0x89, 0x32, 0xf9, 0x37, 0xd7, 0x2c, 0x41, 0x06, 0xc1, 0x2f, 0x20, 0xbd, 0x9f, 0xae, 0xd9, 0xf6 },
	{ 0x89, 0x33, 0xf9, 0x37, 0xd7, 0x2c, 0x41, 0x06, 0xc1, 0x2f, 0x20, 0xbd, 0x9f, 0xae, 0xd9, 0xf6 },
	{ 0xa0, 0x01 },
};

static void means(const char *list, const char *want)
{
	uint32_t out[VGPU_DEVICES_MAX] = { 0 };
	uint32_t n = visible_devices(list, uuids, 3, out);
	char got[32] = "", what[96];

	for (uint32_t i = 0; i < n; i++) {
		size_t len = strlen(got);

		snprintf(got + len, sizeof(got) - len, "%s%u", i ? "," : "", out[i]);
	}
	snprintf(what, sizeof(what), "%s: \"%s\"", list ? list : "not set", got);
	ok(!strcmp(got, want), what);
}

int main(void)
{
	means(NULL, "0,1,2");
	means("", "");
	means("-1", "");
	means("0", "0");
	means("2,0", "2,0");
	means(" 2 , 1", "2,1");
	means("0,2,-1,1", "0,2");
	means("0,3,1", "0");
	means("7", "");
	means("0,0", "");
	means("1,2,1", "");
	means("1gpu2,2ampere", "1,2");
	means("NoDevFiles", "");
	means("0,,1", "0");
	means("99999999999999999999", "");
	means("4294967296", "");
	means("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "0");
	means("GPU-a0", "2");
	means("GPU-a0,GPU-8933", "2,1");
	means("GPU-893", "");
	means("GPU-a0,GPU-893", "2");
	means("GPU-a0,GPU-a001", "");
	means("GPU-a0,1", "2");
	means("0,GPU-a0", "0");
	means("GPU-8932f937-d72c-4106-c12f-20bd9faed9f6x", "");
	means("MIG-8932f937-d72c-4106-c12f-20bd9faed9f6", "");
	return done_testing();
}
