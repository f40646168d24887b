# SPDX-License-Identifier: Apache-2.0
# What moves the pods' kernel is joined to it by minimal-kernel/build. Here is its test, for the addresses of this machine.

UNIT_TESTS += $(B)/tests/kaslr-move
$(B)/tests/kaslr-move: $(addprefix $(B)/asan/minimal-kernel/kaslr/,test_move.o move.o)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS_) $(ASAN) -o $@ $^
