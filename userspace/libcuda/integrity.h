/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_INTEGRITY_H
#define VGPU_INTEGRITY_H

#include <stddef.h>
#include <stdint.h>

/** HMAC (RFC 2104) over MD2 (RFC 1319), whose block is 16 bytes. @key_len at most 16. */
void hmac_md2(const void *key, size_t key_len, const void *data, size_t len, uint8_t out[16]);

/** MD2 of @data. */
void md2(const void *data, size_t len, uint8_t out[16]);

/** struct integrity_device - what the check covers of each device, in ordinal order. */
struct integrity_device {
	uint8_t uuid[16];
	int32_t pci_domain, pci_bus, pci_device;
};

/** struct integrity_input - what the check covers of the process. */
struct integrity_input {
	uint32_t driver_version, version, pid, thread;
	const void *runtime_table, *integrity_table, *function;
	uint64_t seconds;
};

/** The runtime's question @in->version, answered. */
void integrity_answer(const struct integrity_input *in, const struct integrity_device *devices, unsigned int n,
		      uint8_t out[16]);

#endif
