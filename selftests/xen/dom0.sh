# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs in the lab's dom0, driven by selftests/run-xen; VGPU_TEST_SECTIONS says what. Pods 1 and 2 are up.
# /lab/script holds this folder and `programs`, the list of the CUDA programs.

mkdir -p /run/t
for part in tap counters programs isolation ending hotplug reload limits backend; do
	# shellcheck disable=SC1090
	. "/lab/script/$part.sh"
done

for section in $VGPU_TEST_SECTIONS; do
	echo "# $section"
	"section_$section"
done
finish
