# SPDX-License-Identifier: Apache-2.0
#
# PyTorch on the software GPU: `make check-torch`. Two releases of 5 GB each, fetched once (scripts/torch-env), so this is no
# part of `make check`; its last result is in Documentation/benchmarks/.

.PHONY: check-torch
check-torch: products
	@selftests/torch/run
