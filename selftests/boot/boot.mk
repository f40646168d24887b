# SPDX-License-Identifier: Apache-2.0
#
# boot-measure and boot-nvml, for scripts/test-minimal-boot.

CFLAGS-selftests/boot := -Iuserspace/agent
$(B)/tests/boot-measure: $(B)/selftests/boot/measure.o $(B)/libvgpuagent.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -o $@ $^ $(AGENT_LIBS) -lxenctrl

$(B)/tests/boot-nvml: selftests/boot/nvml.c
	@mkdir -p $(@D)
	$(CC) -std=gnu11 $(WARN) $(CFLAGS) -o $@ $<

BENCH_PROGRAMS += $(B)/tests/boot-measure $(B)/tests/boot-nvml
