// SPDX-License-Identifier: Apache-2.0
/* drivers/versions.h, the same source as in vgpu-front: which versions a backend is taken to speak. */
#include <stdbool.h>
#include <stdio.h>

#include "kselftest.h"
#include "drivers/versions.h"

static bool a_number_of_the_list_is_found_wherever_it_stands(void)
{
	return vgpu_version_listed("1", 1) && vgpu_version_listed("1,2,10", 1) && vgpu_version_listed("2,1,10", 1) &&
	       vgpu_version_listed("10,2,1", 1) && vgpu_version_listed("1,2,10", 10) && vgpu_version_listed("x,1", 1) &&
	       vgpu_version_listed("4294967295", 4294967295u) && vgpu_version_listed(",1,", 1);
}

static bool a_part_of_a_number_is_not_it(void)
{
	return !vgpu_version_listed("10", 1) && !vgpu_version_listed("2,10,21", 1) && !vgpu_version_listed("11", 1) &&
	       !vgpu_version_listed("2,31", 1) && !vgpu_version_listed("1.5", 1) && !vgpu_version_listed("1x,2", 1) &&
	       !vgpu_version_listed("1 2", 1) && !vgpu_version_listed("-1", 1) && !vgpu_version_listed("0x1", 1);
}

static bool nothing_is_no_version(void)
{
	return !vgpu_version_listed("", 1) && !vgpu_version_listed("", 0) && !vgpu_version_listed(",", 0) &&
	       !vgpu_version_listed(",,", 0) && !vgpu_version_listed("x", 0);
}

static bool numbers_do_not_wrap_around(void)
{
	return !vgpu_version_listed("4294967297", 1) && !vgpu_version_listed("18446744073709551617", 1) &&
	       !vgpu_version_listed("42949672961,184467440737095516160000000000001", 1) &&
	       vgpu_version_listed("99999999999999999999999999,1", 1);
}

#define RUN(test)	ksft_test_result((test), #test "\n")

int main(void)
{
	ksft_print_header();
	ksft_set_plan(4);
	RUN(a_number_of_the_list_is_found_wherever_it_stands());
	RUN(a_part_of_a_number_is_not_it());
	RUN(nothing_is_no_version());
	RUN(numbers_do_not_wrap_around());
	ksft_finished();
}
