# SPDX-License-Identifier: Apache-2.0
#
# What runs in the lab's dom0 against a pod's agent. Static, as all that goes there.

CFLAGS-selftests/agent := -Iuserspace/agent

$(B)/tests/agent-soak: $(B)/selftests/agent/soak.o $(B)/libvgpuagent.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -static -o $@ $^ -lseccomp -ljson-c -lcap-ng -lxenvchan -lxenstore -lxengnttab -lxenevtchn -lxentoolcore -lxentoollog

selftest-programs: $(B)/tests/agent-soak
