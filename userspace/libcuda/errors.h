/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_ERRORS_H
#define VGPU_ERRORS_H

#include <stdbool.h>

/** Name and text of a CUresult (build/gen/names_gen.c). @return false and NULLs if there is no such value. */
bool error_text(int value, const char **name, const char **text);

#endif
