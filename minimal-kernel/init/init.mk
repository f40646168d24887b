# SPDX-License-Identifier: Apache-2.0
#
# vgpu-init: PID 1 of a pod and the agent in it. Static: it runs before there is a root with libraries.

INIT_DIR := minimal-kernel/init
INIT_SRC := $(wildcard $(INIT_DIR)/*.c)
INIT_WIRE := $(addprefix userspace/agent/,codec.c transport_unix.c transport_vchan.c)
VCHAN_LIBS := -lxenvchan -lxenstore -lxengnttab -lxenevtchn -lxentoolcore -lxentoollog
CFLAGS-$(INIT_DIR) := -Iuserspace/agent

$(B)/bin/vgpu-init: $(INIT_SRC:%.c=$(B)/%.o) $(INIT_WIRE:%.c=$(B)/%.o)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -static -o $@ $^ $(VCHAN_LIBS)

# The same with sanitizers (which cannot be static), for the tests without Xen.
$(B)/tests/vgpu-init-asan: $(INIT_SRC:%.c=$(B)/asan/%.o) $(INIT_WIRE:%.c=$(B)/asan/%.o)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(ASAN) -o $@ $^ $(VCHAN_LIBS)

PRODUCTS += $(B)/bin/vgpu-init

# The pod's end, without the pod.
$(B)/tests/agent-test_power: $(B)/asan/$(AGENT_DIR)/tests/test_power.o $(filter-out %/main.o %/power.o,$(INIT_SRC:%.c=$(B)/asan/%.o)) $(INIT_WIRE:%.c=$(B)/asan/%.o)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(ASAN) -o $@ $^ $(VCHAN_LIBS)
UNIT_TESTS += $(B)/tests/agent-test_power

# The whole agent in one program with what fuzzes it.
$(B)/tests/agent-fuzz_agent: $(B)/asan/$(AGENT_DIR)/tests/fuzz_agent.o $(filter-out %/main.o,$(INIT_SRC:%.c=$(B)/asan/%.o)) $(INIT_WIRE:%.c=$(B)/asan/%.o)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(ASAN) -o $@ $^ $(AGENT_LIBS)
UNIT_TESTS += $(B)/tests/agent-fuzz_agent
