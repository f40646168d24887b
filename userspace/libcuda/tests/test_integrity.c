// SPDX-License-Identifier: Apache-2.0
/* MD2 against the vectors of RFC 1319 A.5; HMAC against its own definition; the answer covers every field. */
#include <stdio.h>
#include <string.h>

#include "../integrity.h"
#include "tap.h"

static bool md2_is(const char *text, const char *hex)
{
	char got[33];
	uint8_t out[16];

	md2(text, strlen(text), out);
	for (int i = 0; i < 16; i++)
		snprintf(got + 2 * i, 3, "%02x", out[i]);
	return !strcmp(got, hex);
}

static void rfc1319(void)
{
	ok(md2_is("", "8350e5a3e24c153df2275c9f80692773"), "MD2 of nothing");
	ok(md2_is("a", "32ec01ec4a6dac72c0ab96fb34c0b5d1"), "MD2 of a");
	ok(md2_is("abc", "da853b0d3f88d99b30283a69e6ded6bb"), "MD2 of abc");
	ok(md2_is("message digest", "ab4f496bfb2a530b219ff33031fe06b0"), "MD2 of message digest");
	ok(md2_is("abcdefghijklmnopqrstuvwxyz", "4e8ddff3650292ab5a4108c3aa47940b"), "MD2 of the alphabet");
	ok(md2_is("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
		  "da33def2a42df13975352846c30338cd"), "MD2 of letters and digits");
	ok(md2_is("12345678901234567890123456789012345678901234567890123456789012345678901234567890",
		  "d5976f79d83d3a0dc9806c3c66f3efd8"), "MD2 of many digits");
}

/* RFC 2104 section 2, spelled out. */
static void rfc2104(void)
{
	uint8_t inner[16 + 9], outer[16 + 16], want[16], got[16];
	const char key[] = "sixteen byte key";

	for (int i = 0; i < 16; i++) {
		inner[i] = key[i] ^ 0x36;
		outer[i] = key[i] ^ 0x5c;
	}
	memcpy(inner + 16, "some text", 9);
	md2(inner, sizeof(inner), outer + 16);
	md2(outer, sizeof(outer), want);
	hmac_md2(key, 16, "some text", 9, got);
	ok(!memcmp(want, got, 16), "HMAC is H(K ^ opad, H(K ^ ipad, text))");
}

static void fields(void)
{
	struct integrity_device d = { { 1 }, 0, 1, 0 };
	struct integrity_input in = { 13000, 13002, 1, 2, &in, &d, &rfc2104, 3 }, other;
	uint8_t base[16], out[16];

	integrity_answer(&in, &d, 1, base);
#define DIFFERS(field, what) do {						\
	other = in;								\
	other.field = (__typeof__(other.field))((uintptr_t)other.field + 10);	\
	integrity_answer(&other, &d, 1, out);					\
	ok(memcmp(base, out, 16), "the answer depends on the " what);		\
} while (0)
	DIFFERS(driver_version, "driver version");
	DIFFERS(version, "version asked for");
	DIFFERS(pid, "process");
	DIFFERS(thread, "thread");
	DIFFERS(runtime_table, "runtime's table");
	DIFFERS(integrity_table, "integrity table");
	DIFFERS(function, "function");
	DIFFERS(seconds, "time");
	d.pci_bus++;
	integrity_answer(&in, &d, 1, out);
	ok(memcmp(base, out, 16), "the answer depends on the device");
	integrity_answer(&in, &d, 0, out);
	ok(memcmp(base, out, 16), "the answer depends on the number of devices");
}

int main(void)
{
	rfc1319();
	rfc2104();
	fields();
	return done_testing();
}
