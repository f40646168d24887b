# SPDX-License-Identifier: Apache-2.0
#
# xen-vgpu. Both install what they need first:
# `make demo`	boots real Xen and runs CUDA programs in two pods
# `make check`	runs every test
# Every folder below userspace/ describes itself in a *.mk file named after it; products go to build/.

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all
# The tree stays as it was cloned.
export PYTHONDONTWRITEBYTECODE := 1

# A service or a container may have none.
export HOME ?= $(shell getent passwd "$$(id -u)" | cut -d: -f6)
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/xen-vgpu
ifneq ($(words $(CURDIR) $(CACHE)),2)
$(error make cannot work with spaces in paths: this tree is "$(CURDIR)", the cache "$(CACHE)" (XDG_CACHE_HOME moves it))
endif
CUDA  ?= $(CACHE)/cuda
B     := build

CC	  ?= gcc
CFLAGS	  ?= -O2 -g
WARN	  := -Wall -Wextra -Werror -Wno-unused-parameter -Wmissing-prototypes -Wstrict-prototypes -Wvla
CPPFLAGS_ := -D_GNU_SOURCE -Iuapi -Iuserspace/idm -Iuserspace/cuda -I$(B)/gen -isystem $(CUDA)/include
CFLAGS_	  := -std=gnu11 -fPIC -fvisibility=hidden -fno-strict-aliasing -pthread $(WARN) $(CFLAGS)
ASAN	  := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1
TSAN	  := -fsanitize=thread -Wno-tsan -fno-omit-frame-pointer -O1
# ThreadSanitizer leaves little of the address space: the software GPU of what runs under it keeps to that.
LOW	  := -DSG_HEAP_BASE=0x001000000000ull

# The first thing make does: see that all it needs is installed (scripts/deps, a moment when it is). NO_DEPS=1: not.
ifneq ($(and $(if $(NO_DEPS),,1),$(filter-out clean help gpu-check,$(or $(MAKECMDGOALS),all))),)
include $(CACHE)/deps.mk
$(CACHE)/deps.mk: scripts/deps
	@scripts/deps
endif

.PHONY: all
all:

# What each *.mk adds to:
#   PRODUCTS	what `make all` builds
#   UNIT_TESTS	programs that run on this machine, print TAP and exit non-zero on failure (sanitizers inside)
PRODUCTS   :=
UNIT_TESTS :=

-include $(wildcard userspace/*/*.mk selftests/*/*.mk)
-include $(wildcard minimal-kernel/*/*.mk)
-include drivers/drivers.mk
-include minimal-kernel/minimal-kernel.mk

# The rule for ordinary objects: build/<path>.o from <path>.c; depends on the generated headers.
GENERATED ?=
$(B)/%.o: %.c | $(GENERATED)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_) $(CFLAGS_) $(CFLAGS-$(*D)) -MMD -MP -c -o $@ $<

# The same with sanitizers, for unit tests.
$(B)/asan/%.o: %.c | $(GENERATED)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_) $(CFLAGS_) $(CFLAGS-$(*D)) $(ASAN) -MMD -MP -c -o $@ $<
$(B)/tsan/%.o: %.c | $(GENERATED)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_) $(CFLAGS_) $(CFLAGS-$(*D)) $(TSAN) -MMD -MP -c -o $@ $<
$(B)/low/%.o: %.c | $(GENERATED)
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_) $(CFLAGS_) $(CFLAGS-$(*D)) $(LOW) -MMD -MP -c -o $@ $<

-include $(shell find $(B) -name '*.d' 2>/dev/null)

# ---- What is built

# Drivers for Debian's kernel by drivers/drivers.mk; for the pods' own kernel, if that is there, by minimal-kernel.mk.
.PHONY: products lab
products: $(PRODUCTS)

LAB_PROGRAMS := $(B)/lab/agent
lab: $(LAB_PROGRAMS)
# Static: it runs in dom0, whatever libraries are there.
$(LAB_PROGRAMS): $(B)/lab/%: scripts/lab/%.c scripts/lab/frames.h
	@mkdir -p $(@D)
	$(CC) -std=gnu11 -O2 $(WARN) -static -o $@ $<

all: products drivers drivers-pod pod-image lab

# ---- What it is for

.PHONY: demo check check-unit lint help clean
demo:
	@scripts/demo

# Everything that is tested, in steps: `scripts/check STEP…` runs single ones.
check:
	@scripts/check

check-unit: $(UNIT_TESTS)
	@scripts/check --programs $(UNIT_TESTS)

.PHONY: test-programs list-unit-tests
test-programs: $(UNIT_TESTS) $(BENCH_PROGRAMS) selftest-programs driver-tests watched
list-unit-tests:
	@echo $(UNIT_TESTS)

lint:
	@scripts/lint

# On a machine with an NVIDIA GPU: no Xen, no network.
.PHONY: gpu-check
gpu-check:
	@scripts/gpu-check $(GPU_CHECK)

help:
	@echo 'make demo           boots real Xen and runs CUDA programs in two pods'
	@echo 'make check          runs every test (scripts/check --help lists its steps)'
	@echo 'make                builds everything into $(B)/ (make all)'
	@echo 'make clean          removes $(B)/; the cache stays: $(CACHE)'
	@echo
	@echo 'make lint           what can be said about the sources without running them'
	@echo 'make check-unit     the parts on this machine, with sanitizers'
	@echo 'make check-local    CUDA programs through broker and worker, without Xen'
	@echo 'make check-xen      the same and much more in pods on real Xen'
	@echo 'make check-drivers-xen    vgpu-front and vgpu-back by themselves, on real Xen'
	@echo 'make check-drivers  the drivers with W=1, sparse and checkpatch'
	@echo 'make check-boot     size, memory and boot time of a pod'
	@echo 'make check-libs     NVIDIA'"'"'s libraries on a GPU that computes nothing (1.7 GB of wheels, fetched once; 2.8 GB on disk)'
	@echo 'make check-torch    PyTorch on the software GPU (10 GB of wheels, fetched once)'
	@echo 'make gpu-check      on a machine with an NVIDIA GPU: everything natively and through xen-vgpu (GPU_CHECK=options)'
	@echo 'make fuzz           the worker'"'"'s decoders, FUZZ_SECONDS long; fuzz-seeds: makes what it begins with'
	@echo 'make bench          the figures of this machine (BENCH_ARGS); bench-counts: what can be counted'
	@echo
	@echo 'make drivers        for the kernel of KDIR, into DRIVERS_OUT'
	@echo 'make pod-kernel     the pods'"'"' kernel, once, into the cache; pod-image: their root image; pod-builtin: the variant without modules'
	@echo 'make debug-lockdep, debug-kasan    kernels that look for mistakes, and both drivers for them'
	@echo 'make coverage-page  Documentation/cuda-coverage.rst from the call table'
	@echo 'make help           this'
	@echo
	@echo 'Parts of these: products, lab, drivers-pod, pod-image-file, drivers-copy, watched, list-unit-tests; test-programs,'
	@echo 'selftest-programs, cuda-tests, driver-tests, errors-tests, giveback-tests, gpu-tests, hostile-tests, isolation-tests,'
	@echo 'toolstack-tests, libs-programs.'

clean:
	rm -rf $(B)
