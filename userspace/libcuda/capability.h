/* SPDX-License-Identifier: Apache-2.0 */
#ifndef VGPU_CAPABILITY_H
#define VGPU_CAPABILITY_H

/** What the device attribute @attribute (CUdevice_attribute) is for the program, when it is @value for the GPU. */
int capability(int attribute, int value);

#endif
