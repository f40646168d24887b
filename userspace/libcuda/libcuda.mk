# SPDX-License-Identifier: Apache-2.0
# The shim: build/lib/libcuda.so.1. VGPU_INTEGRITY=0 leaves integrity.c out (see there).

VGPU_INTEGRITY ?= 1

SHIM_NAMES := $(filter-out integrity,$(notdir $(basename $(wildcard userspace/libcuda/*.c))))
ifneq ($(VGPU_INTEGRITY),0)
SHIM_NAMES += integrity
CFLAGS-userspace/libcuda := -DVGPU_INTEGRITY
endif
SHIM_OBJS := $(SHIM_NAMES:%=$(B)/userspace/libcuda/%.o) \
	     $(addprefix $(B)/gen/,shim_gen.o refused_gen.o names_gen.o) $(B)/userspace/cuda/digest.o

# Between a program's call and the shim's function is the export that can trace it: see gen_trace.py.
$(B)/gen/trace_gen.c $(B)/gen/trace.syms &: $(CUDA_TBL) userspace/cuda/gen_trace.py userspace/cuda/gen.py $(CUDA)/include/cuda.h
	@mkdir -p $(B)/gen
	python3 userspace/cuda/gen_trace.py --table $(CUDA_TBL) --header $(CUDA)/include/cuda.h --out $(B)/gen --cc "$(CC)"
MAKE_TRACED = ld -r -o $@.tmp $(filter %.o,$^) && objcopy --redefine-syms=$(B)/gen/trace.syms $@.tmp $@ && rm -f $@.tmp
$(B)/gen/shim.o: $(SHIM_OBJS) $(B)/gen/trace.syms
	$(MAKE_TRACED)

LINK_SHIM = $(CC) $(CFLAGS_) -shared -Wl,-soname,libcuda.so.1 -Wl,-z,nodelete -Wl,-Bsymbolic \
	    -Wl,--version-script=userspace/libcuda/exports.map -o $@ $(filter %.o %.a,$^) -l:libcrypto.a
$(B)/lib/libcuda.so.1: $(addprefix $(B)/gen/,shim.o trace_gen.o resolve_gen.o) $(B)/libidm.a $(ANY_GLIBC) userspace/libcuda/exports.map
	@mkdir -p $(@D)
	$(LINK_SHIM) $(filter $(B)/glibc/%,$^) -Wl,-z,defs
	ln -sf libcuda.so.1 $(B)/lib/libcuda.so

PRODUCTS += $(B)/lib/libcuda.so.1

# The same under ThreadSanitizer, for a worker under it (broker.mk). Whatever loads it must have libtsan preloaded.
$(B)/tsan/gen/%.o: $(B)/gen/%.c $(CUDA_GEN)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_) -Iuserspace/libcuda $(CFLAGS_) $(CFLAGS-gen/$*) $(TSAN) -MMD -MP -c -o $@ $<
$(B)/tsan/gen/shim.o: $(patsubst $(B)/%,$(B)/tsan/%,$(SHIM_OBJS)) $(B)/gen/trace.syms
	$(MAKE_TRACED)
$(B)/low/lib/libcuda.so.1: $(addprefix $(B)/tsan/gen/,shim.o trace_gen.o resolve_gen.o) $(B)/tsan/libidm.a userspace/libcuda/exports.map
	@mkdir -p $(@D)
	$(LINK_SHIM) $(TSAN)

SHIM_TESTS := $(addprefix $(B)/tests/libcuda-,integrity image range object visible capability)
UNIT_TESTS += $(SHIM_TESTS)
SHIM_TEST_OF = $(B)/asan/userspace/libcuda/tests/test_$(1).o
$(B)/tests/libcuda-integrity: $(call SHIM_TEST_OF,integrity) $(B)/asan/userspace/libcuda/integrity.o
$(B)/tests/libcuda-image: $(call SHIM_TEST_OF,image) $(B)/asan/userspace/libcuda/image.o
$(B)/tests/libcuda-range: $(call SHIM_TEST_OF,range) $(B)/asan/userspace/libcuda/range.o $(B)/asan/userspace/libcuda/reserve.o
$(B)/tests/libcuda-object: $(call SHIM_TEST_OF,object) $(B)/asan/userspace/libcuda/object.o
$(B)/tests/libcuda-visible: $(call SHIM_TEST_OF,visible) $(B)/asan/userspace/libcuda/visible.o
$(B)/tests/libcuda-capability: $(call SHIM_TEST_OF,capability) $(B)/asan/userspace/libcuda/capability.o
$(SHIM_TESTS):
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(ASAN) -o $@ $^
