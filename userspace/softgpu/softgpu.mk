# SPDX-License-Identifier: Apache-2.0
# The software GPU: a CUDA driver library on the CPU.

# PTX_OBJS, the interpreter, comes from ptx.mk, which the top Makefile reads before this.

SOFTGPU_SRC := $(wildcard userspace/softgpu/*.c)
SOFTGPU_OBJ := $(SOFTGPU_SRC:%.c=$(B)/%.o) $(PTX_OBJS)
SOFTGPU_LIB := $(B)/softgpu/libsoftgpu.so

# What it shares with the shim: the resolver, the names of errors, the runtime's private tables.
SOFTGPU_OBJ += $(addprefix $(B)/gen/,resolve_gen.o names_gen.o softgpu_absent.o) \
	       $(addprefix $(B)/userspace/libcuda/,resolve.o export_tables.o integrity.o legacy.o logs.o advice.o)

# Every export of a CUDA driver library exists. What no file here defines refuses.
$(B)/gen/softgpu_absent.S: userspace/cuda/cuda.tbl
	@mkdir -p $(@D)
	awk 'BEGIN { print ".section .note.GNU-stack,\"\",@progbits\n.text\nabsent:\n\tmovl $$801, %eax\n\tret" } \
	     /^#/ || NF < 4 || $$3 ~ /^@/ { next } { print ".weak " $$3 "\n.type " $$3 ", @function\n.set " $$3 ", absent" }' $< >$@
$(B)/gen/softgpu_absent.o: $(B)/gen/softgpu_absent.S
	$(CC) -c -o $@ $<

# nodelete: stream threads may run until the process ends.
LINK_SOFTGPU = $(CC) $(CFLAGS_) -shared -Wl,-soname,libcuda.so.1 -Wl,-z,nodelete -Wl,--no-undefined -o $@ $^ -lzstd -llz4 -lm
$(SOFTGPU_LIB): $(SOFTGPU_OBJ)
	@mkdir -p $(@D)
	$(LINK_SOFTGPU)
	ln -sfn libsoftgpu.so $(@D)/libcuda.so.1
	ln -sfn libsoftgpu.so $(@D)/libcuda.so

PRODUCTS += $(SOFTGPU_LIB)

# The same for a worker under ThreadSanitizer (broker.mk).
SOFTGPU_LOW := $(B)/low/softgpu/libsoftgpu.so
$(SOFTGPU_LOW): $(patsubst $(B)/userspace/%,$(B)/low/userspace/%,$(SOFTGPU_OBJ))
	@mkdir -p $(@D)
	$(LINK_SOFTGPU)

# Tests: these files with sanitizers, linked into each program; the interpreter as it is (it has its own tests).
SOFTGPU_TESTS := $(notdir $(basename $(wildcard userspace/softgpu/tests/test_*.c)))
SOFTGPU_OTHER_OBJ := $(filter-out $(SOFTGPU_SRC:%.c=$(B)/%.o),$(SOFTGPU_OBJ))

$(SOFTGPU_TESTS:%=$(B)/tests/softgpu-%): $(B)/tests/softgpu-%: $(B)/asan/userspace/softgpu/tests/%.o \
		$(SOFTGPU_SRC:%.c=$(B)/asan/%.o) $(SOFTGPU_OTHER_OBJ)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(ASAN) -o $@ $^ -lzstd -llz4 -lm

# The queues under ThreadSanitizer, too; no kernel runs in that test.
$(B)/tsan/userspace/softgpu/%.o: CFLAGS-userspace/softgpu += $(LOW)
$(B)/tsan/userspace/softgpu/%.o: CFLAGS-userspace/softgpu/tests += $(LOW)
$(B)/tests/softgpu-tsan-test_streams: $(B)/tsan/userspace/softgpu/tests/test_streams.o \
		$(SOFTGPU_SRC:%.c=$(B)/tsan/%.o) $(SOFTGPU_OTHER_OBJ)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(TSAN) -o $@ $^ -lzstd -llz4 -lm

UNIT_TESTS += $(SOFTGPU_TESTS:%=$(B)/tests/softgpu-%) $(B)/tests/softgpu-tsan-test_streams

# In front of NVRTC, under its names: PTX instead of machine code for programs that compile at run time.
SOFTGPU_NVRTC := $(B)/softgpu/nvrtc/libnvrtc.so.12 $(B)/softgpu/nvrtc/libnvrtc.so.13
$(SOFTGPU_NVRTC): $(B)/softgpu/nvrtc/%: $(B)/userspace/softgpu/jit/nvrtc.o
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) -shared -Wl,-soname,$* -o $@ $<
PRODUCTS += $(SOFTGPU_NVRTC)
