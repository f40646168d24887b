/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_LOGS_H
#define VGPU_LOGS_H

/** Add a line to what cuLogsDumpToMemory() tells, and tell it to who has registered. */
void logs_add(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
