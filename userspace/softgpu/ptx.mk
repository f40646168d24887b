# SPDX-License-Identifier: Apache-2.0
# The PTX half of the software GPU: PTX_OBJS is what libsoftgpu.so links.

PTX_DIR	   := userspace/softgpu/ptx
PTX_PLAIN  := $(filter-out $(wildcard $(PTX_DIR)/ops_*.c),$(wildcard $(PTX_DIR)/*.c))
PTX_LANES  := $(wildcard $(PTX_DIR)/ops_*.c)
PTX_OBJS   := $(PTX_PLAIN:%.c=$(B)/%.o) $(PTX_LANES:%.c=$(B)/%.o) $(PTX_LANES:%.c=$(B)/%.avx2.o)
PTX_ASAN   := $(patsubst $(B)/%,$(B)/asan/%,$(PTX_OBJS))

# ops_*.c are built twice, for any x86-64 and for AVX2; ops.c chooses at run time. They do exactly the IEEE operation
# that is written, but may use vectors and ignore exception flags.
PTX_FLOAT	:= -O3 -ffp-contract=off -fno-math-errno -fno-trapping-math
PTX_ROUND	= $(if $(filter ops_round%,$(@F)),-frounding-math)
# The checks of every single access triple the time to compile these files; ASan checks them anyway.
PTX_SAN		:= $(ASAN) -fno-sanitize=null,alignment,object-size,pointer-overflow
PTX_AVX2	:= -DOPS_SUFFIX=_avx2 -mavx2 -mfma -mbmi -mbmi2 -mlzcnt -mpopcnt -mf16c -mtune=haswell

define ptx_lanes
$(1)/$(PTX_DIR)/ops_%$(2).o: $(PTX_DIR)/ops_%.c | $$(GENERATED)
	@mkdir -p $$(@D)
	$$(CC) $$(CPPFLAGS_) $$(CFLAGS_) $$(PTX_FLOAT) $$(PTX_ROUND) $(3) -MMD -MP -c -o $$@ $$<
endef
$(eval $(call ptx_lanes,$(B),,))
$(eval $(call ptx_lanes,$(B),.avx2,$$(PTX_AVX2)))
# Only for ThreadSanitizer to look at the rest.
$(eval $(call ptx_lanes,$(B)/low,,$$(LOW) -O1))
$(eval $(call ptx_lanes,$(B)/low,.avx2,$$(PTX_AVX2) $$(LOW) -O1))
$(eval $(call ptx_lanes,$(B)/asan,,$$(PTX_SAN)))
$(eval $(call ptx_lanes,$(B)/asan,.avx2,$$(PTX_AVX2) $$(PTX_SAN)))

PTX_TESTS      := $(patsubst $(PTX_DIR)/tests/%.c,$(B)/tests/ptx-%,$(wildcard $(PTX_DIR)/tests/*_test.c))
PTX_HARNESS    := $(B)/asan/$(PTX_DIR)/tests/harness.o $(B)/asan/$(PTX_DIR)/tests/heap.o
UNIT_TESTS     += $(PTX_TESTS)

$(B)/tests/ptx-%: $(B)/asan/$(PTX_DIR)/tests/%.o $(PTX_HARNESS) $(PTX_ASAN)
	@mkdir -p $(@D)
	$(CC) $(ASAN) -pthread -o $@ $^ -lm

# Speed of the interpreter: build/tests/ptx-bench [kernel]
PTX_BENCH_OBJS := $(patsubst %,$(B)/$(PTX_DIR)/tests/%.o,bench harness heap)
$(B)/tests/ptx-bench: $(PTX_BENCH_OBJS) $(PTX_OBJS)
	@mkdir -p $(@D)
	$(CC) -pthread -o $@ $^ -lm

# How much of other people's PTX compiles: build/tests/ptx-coverage FILE...
$(B)/tests/ptx-coverage: $(patsubst %,$(B)/$(PTX_DIR)/tests/%.o,coverage heap) $(PTX_OBJS)
	@mkdir -p $(@D)
	$(CC) -pthread -o $@ $^ -llz4 -lm
