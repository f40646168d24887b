# SPDX-License-Identifier: Apache-2.0
# vgpu-broker and vgpu-worker.

BROKER_DIR := userspace/broker
BROKER_SRC := $(wildcard $(BROKER_DIR)/*.c)
WORKER_SRC := $(wildcard $(BROKER_DIR)/worker/*.c) $(BROKER_DIR)/log.c

$(B)/bin/vgpu-broker: $(BROKER_SRC:%.c=$(B)/%.o) $(B)/userspace/cuda/digest.o $(B)/libidm.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -o $@ $^ -l:libcrypto.a

$(B)/bin/vgpu-worker: $(WORKER_SRC:%.c=$(B)/%.o) $(B)/gen/worker_gen.o $(B)/libidm.a
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -o $@ $^ -lseccomp -ldl

PRODUCTS += $(B)/bin/vgpu-broker $(B)/bin/vgpu-worker

# Worker and shim under ThreadSanitizer, and a software GPU that suits them: VGPU_BUILD=build/low for scripts/vgpu-local, in
# selftests/run-local's section `races`.
WATCHED := $(B)/low/bin/vgpu-worker $(B)/low/bin/vgpu-broker $(B)/low/lib/libcuda.so.1 $(B)/low/softgpu/libsoftgpu.so
$(B)/low/bin/vgpu-worker: $(WORKER_SRC:%.c=$(B)/tsan/%.o) $(B)/tsan/$(BROKER_DIR)/tests/tsan.o \
		$(B)/gen/worker_gen.c $(B)/tsan/libidm.a
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_) $(CFLAGS_) $(TSAN) -I$(BROKER_DIR)/worker -o $@ $^ -lseccomp -ldl
$(B)/low/bin/vgpu-broker: $(B)/bin/vgpu-broker
	@mkdir -p $(@D)
	ln -sfn ../../bin/vgpu-broker $@
.PHONY: watched
watched: $(WATCHED)

# Each test with the files it tests, all with sanitizers.
BROKER_TESTS := test_handles test_ranges test_latch test_quota test_lease test_pool test_green test_holds test_ipc \
	test_images test_cgroup test_sandbox test_arena test_shown test_capture
$(B)/tests/broker-test_handles: $(B)/asan/$(BROKER_DIR)/worker/handles.o
$(B)/tests/broker-test_ranges: $(B)/asan/$(BROKER_DIR)/worker/ranges.o
$(B)/tests/broker-test_latch: $(B)/asan/$(BROKER_DIR)/worker/latch.o
$(B)/tests/broker-test_quota: $(B)/asan/$(BROKER_DIR)/quota.o
$(B)/tests/broker-test_lease: $(B)/asan/$(BROKER_DIR)/worker/control.o
$(B)/tests/broker-test_pool: $(B)/asan/$(BROKER_DIR)/worker/pool.o $(B)/asan/$(BROKER_DIR)/worker/memory.o \
	$(B)/asan/$(BROKER_DIR)/worker/ranges.o
$(B)/tests/broker-test_green: $(B)/asan/$(BROKER_DIR)/worker/green.o
$(B)/tests/broker-test_arena: $(B)/asan/$(BROKER_DIR)/worker/arena.o $(B)/asan/$(BROKER_DIR)/worker/context.o
$(B)/tests/broker-test_capture: $(B)/asan/$(BROKER_DIR)/worker/capture.o
$(B)/tests/broker-test_shown: $(B)/asan/$(BROKER_DIR)/worker/vmm.o $(B)/asan/$(BROKER_DIR)/worker/arena.o \
	$(B)/asan/$(BROKER_DIR)/worker/ranges.o
$(B)/tests/broker-test_holds: $(B)/asan/$(BROKER_DIR)/worker/hook.o
$(B)/tests/broker-test_ipc: $(B)/asan/$(BROKER_DIR)/ipc.o $(B)/asan/$(BROKER_DIR)/quota.o
$(B)/tests/broker-test_images: $(B)/asan/$(BROKER_DIR)/images.o $(B)/asan/userspace/cuda/digest.o
$(B)/tests/broker-test_images: TEST_LIBS := -l:libcrypto.a
# Without sanitizers: their runtime makes system calls of its own.
$(B)/tests/broker-test_sandbox: $(B)/$(BROKER_DIR)/tests/test_sandbox.o $(B)/$(BROKER_DIR)/worker/sandbox.o
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -o $@ $^ -lseccomp
$(B)/tests/broker-%: $(B)/asan/$(BROKER_DIR)/tests/%.o
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(ASAN) -o $@ $^ $(TEST_LIBS)

UNIT_TESTS += $(BROKER_TESTS:%=$(B)/tests/broker-%)
