# SPDX-License-Identifier: Apache-2.0
#
# boot-measure, for scripts/test-minimal-boot.

CFLAGS-selftests/boot := -Iuserspace/agent
$(B)/tests/boot-measure: $(B)/selftests/boot/measure.o $(B)/libvgpuagent.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -o $@ $^ $(AGENT_LIBS) -lxenctrl

BENCH_PROGRAMS += $(B)/tests/boot-measure
