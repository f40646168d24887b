# SPDX-License-Identifier: GPL-2.0-only
#
# make drivers		vgpu-front.ko and vgpu-back.ko in $(DRIVERS_OUT), for the kernel whose build folder is $(KDIR)
# make check-drivers	the same with W=1 and sparse, and checkpatch --strict over the sources; any warning fails
# make debug-lockdep	a kernel that looks for mistakes (scripts/debug-kernels/build), both drivers for it, and an image
# make debug-kasan	for pods that boot it: scripts/xenlab --kernel, --dom0-kernel; selftests/debug-kernels/run
#
# Kbuild puts objects beside sources, so it works on a copy.

DRIVERS_OUT ?= $(B)/drivers
KDIR	    ?= $(if $(wildcard $(CACHE)/kernel-release),/lib/modules/$(shell readlink $(CACHE)/kernel-release)/build,/lib/modules/$(shell uname -r)/build)

DRIVERS_SRC  := Kbuild $(shell find drivers uapi -name '*.[ch]')
DRIVERS_COPY  = $(DRIVERS_OUT)/src
DRIVERS_KBUILD = +$(MAKE) -s -C $(KDIR) M=$(abspath $(DRIVERS_COPY))

# checkpatch comes from linux-source, unpacked once for each version of that package.
LINUX_SOURCE := $(firstword $(wildcard /usr/src/linux-source-6.1.tar.xz))
CHECKPATCH_DIR = $(CACHE)/checkpatch-$(shell stat -L -c %s-%Y $(LINUX_SOURCE) 2>/dev/null)

.PHONY: drivers check-drivers drivers-copy
drivers-copy:
	@mkdir -p $(DRIVERS_COPY)
	@cd $(CURDIR) && cp -u --parents $(DRIVERS_SRC) $(abspath $(DRIVERS_COPY))

drivers: drivers-copy
	$(DRIVERS_KBUILD) modules
	@cp -u $(DRIVERS_COPY)/vgpu-*.ko $(DRIVERS_OUT)/

# What was built for another kernel goes first.
DEBUG_KERNELS := debug-lockdep debug-kasan
.PHONY: $(DEBUG_KERNELS)
$(DEBUG_KERNELS): debug-%: products lab $(B)/pod/usermode-helper
	@kernel=$$(scripts/debug-kernels/build $*) && \
	{ [ "$$kernel" = "$$(cat $(B)/drivers-$*/kernel 2>/dev/null)" ] || rm -rf $(B)/drivers-$*; } && \
	$(MAKE) --no-print-directory drivers KDIR=$$kernel/build DRIVERS_OUT=$(B)/drivers-$* && \
	echo "$$kernel" >$(B)/drivers-$*/kernel && \
	minimal-kernel/image --module $(B)/drivers-$*/vgpu-front.ko --release "$$(cat $$kernel/release)" --build $(B) \
		$(B)/pod/root-$*.squashfs

$(CACHE)/checkpatch-%/checkpatch.pl: $(LINUX_SOURCE)
	@mkdir -p $(@D)
	tar -C $(@D) -xf $< --strip-components=2 --wildcards '*/scripts/checkpatch.pl' '*/scripts/spelling.txt' \
		'*/scripts/const_structs.checkpatch'
	@touch $@

check-drivers: $(if $(LINUX_SOURCE),$(CHECKPATCH_DIR)/checkpatch.pl)
	@$(MAKE) --no-print-directory drivers-copy DRIVERS_OUT=$(B)/check-drivers
	$(MAKE) -s -C $(KDIR) M=$(abspath $(B)/check-drivers/src) W=1 C=2 \
		CF="-D__CHECK_ENDIAN__ -Wsparse-error" KCFLAGS=-Werror modules
	@# Xen's own constants are CamelCase.
	perl $(CHECKPATCH_DIR)/checkpatch.pl --no-tree --strict --no-summary --terse --max-line-length=120 \
		--ignore FILE_PATH_CHANGES,CAMELCASE -f $(filter %.c %.h,$(filter drivers/% uapi/%,$(DRIVERS_SRC)))
