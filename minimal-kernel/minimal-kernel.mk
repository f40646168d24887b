# SPDX-License-Identifier: Apache-2.0
#
# make pod-kernel	the pods' kernel (minimal-kernel/build), in the cache
# make pod-image	their root image, $(B)/pod/root.squashfs; made by `make all` when that kernel is ready
# make pod-builtin	the variant without modules: its kernel in the cache, $(B)/pod/root-builtin.squashfs
# make check-boot	size, memory and boot time of a pod with a chart of the phases (scripts/test-minimal-boot)

POD_KERNEL = $(shell minimal-kernel/build --if-ready)
POD_IMAGE := $(B)/pod/root.squashfs

.PHONY: pod-kernel drivers-pod pod-image pod-builtin check-boot
pod-kernel:
	@minimal-kernel/build >/dev/null

# By the same rules as for Debian's kernel. What was built for another kernel goes first.
drivers-pod:
	@[ -z "$(POD_KERNEL)" ] || [ "$(POD_KERNEL)" = "$$(cat $(B)/drivers-pod/kernel 2>/dev/null)" ] || { \
		rm -rf $(B)/drivers-pod && mkdir -p $(B)/drivers-pod && echo "$(POD_KERNEL)" >$(B)/drivers-pod/kernel; }
	@$(if $(POD_KERNEL),$(MAKE) --no-print-directory drivers KDIR=$(POD_KERNEL)/build DRIVERS_OUT=$(B)/drivers-pod)

$(B)/pod/usermode-helper: minimal-kernel/usermode-helper.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 $(CPPFLAGS_) $(WARN) -Os -static -o $@ $<

# What goes into the image and may not be there yet is left out by minimal-kernel/image.
POD_PARTS = $(filter %/vgpu-init %/libcuda.so.1 %/libnvidia-ml.so.1,$(PRODUCTS))

pod-image: $(if $(wildcard $(CACHE)/pod-kernel/*/ready),$(POD_IMAGE))
$(POD_IMAGE): minimal-kernel/image minimal-kernel/build minimal-kernel/pod.config $(B)/pod/usermode-helper $(POD_PARTS) drivers-pod
	@$(if $(POD_KERNEL),$(MAKE) --no-print-directory pod-image-file MODULE=$(B)/drivers-pod/vgpu-front.ko RELEASE="$$(cat $(POD_KERNEL)/release)")

# drivers-pod always runs: look at what it made.
.PHONY: pod-image-file
pod-image-file: $(B)/pod/made
$(B)/pod/made: $(MODULE) minimal-kernel/image $(B)/pod/usermode-helper $(POD_PARTS)
	minimal-kernel/image $(if $(MODULE),--module $(MODULE) --release $(RELEASE)) --build $(B) $(POD_IMAGE)
	@touch $@

pod-builtin: products $(B)/pod/usermode-helper
	@minimal-kernel/build --builtin >/dev/null
	minimal-kernel/image --build $(B) $(B)/pod/root-builtin.squashfs

check-boot: all
	scripts/test-minimal-boot
