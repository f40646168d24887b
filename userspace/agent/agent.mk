# SPDX-License-Identifier: Apache-2.0
#
# libvgpuagent, the host's side of a pod's agent, and vgpu-agentctl. The agent itself is minimal-kernel/init.

AGENT_DIR  := userspace/agent
AGENT_SRC  := $(addprefix $(AGENT_DIR)/,codec.c transport_unix.c transport_vchan.c connection.c call.c spec.c requests.c helpers.c)
AGENTCTL_SRC := $(addprefix $(AGENT_DIR)/ctl/,main.c run.c files.c pod.c hub.c)
AGENT_LIBS := -lseccomp -ljson-c -lcap-ng -lxenvchan -lxenstore -lxengnttab -lxenevtchn -lxentoolcore -lxentoollog
CFLAGS-$(AGENT_DIR)/ctl := -I$(AGENT_DIR)
CFLAGS-$(AGENT_DIR)/tests := -I$(AGENT_DIR) -Iminimal-kernel/init -Wno-override-init

$(B)/libvgpuagent.a: $(AGENT_SRC:%.c=$(B)/%.o)
	@rm -f $@
	ar rcs $@ $^

# Static: it also runs in a lab's dom0, which has few libraries.
$(B)/bin/vgpu-agentctl: $(AGENTCTL_SRC:%.c=$(B)/%.o) $(B)/libvgpuagent.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -static -o $@ $^ $(AGENT_LIBS)

PRODUCTS += $(B)/libvgpuagent.a $(B)/bin/vgpu-agentctl

# ---- Tests: all with sanitizers, the library's threads also under ThreadSanitizer, all on this machine; in a pod: selftests/agent
AGENT_TESTS := test_codec test_agent test_process test_rootfs test_ctl test_cgroup test_vchan test_host fuzz_host
AGENT_ASAN := $(AGENT_SRC:%.c=$(B)/asan/%.o)
UNIT_TESTS += $(AGENT_TESTS:%=$(B)/tests/agent-%) $(B)/tests/agent-tsan-test_agent

$(B)/tests/agent-%: $(B)/asan/$(AGENT_DIR)/tests/%.o $(AGENT_ASAN)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(ASAN) -o $@ $^ $(AGENT_LIBS)
$(B)/tests/agent-tsan-test_agent: $(B)/tsan/$(AGENT_DIR)/tests/test_agent.o $(AGENT_SRC:%.c=$(B)/tsan/%.o)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(TSAN) -o $@ $^ $(AGENT_LIBS)
# They start the daemon that was built with sanitizers.
$(B)/tests/agent-test_agent $(B)/tests/agent-tsan-test_agent $(B)/tests/agent-test_process $(B)/tests/agent-test_rootfs $(B)/tests/agent-test_ctl $(B)/tests/agent-test_cgroup: | $(B)/tests/vgpu-init-asan
$(B)/tests/agent-test_process $(B)/tests/agent-test_rootfs $(B)/tests/agent-test_ctl: | $(B)/bin/vgpu-agentctl
