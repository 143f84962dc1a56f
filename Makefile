# SPDX-License-Identifier: GPL-2.0
# One line a target; what they do is in harness/.  `make` alone prints the index.
H := python3 harness

help:
	@sed -n 's/^\([a-z-]*\):.*## /make \1	/p' Makefile | expand -t 20

demo: ## today's ioctls beside the new one, on real VMs: the table
	@sh harness/needs.sh base build boot
	@$(H)/run.py demo

test: ## the tests in VMs, on the series and on the base (TESTS= BEDS= LANE=debian|full|debug THREAD=single|multi PROVE=1)
	@sh harness/needs.sh base build boot $(if $(findstring intel,$(BEDS)),bochs)
	@$(H)/run.py test

test-all: ## the same on all beds, those of Intel too, that Bochs emulates
	@sh harness/needs.sh base build boot bochs
	@$(H)/run.py test-all

coverage: ## which lines and branches of the new kernel files the tests run (TESTS= BEDS=)
	@sh harness/needs.sh base build boot
	@$(H)/cover.py

soak: ## the race and dirty page tests for MINUTES=10 each, the fuzzer for twice that, on the debug kernel (TESTS= BEDS= LANE= THREAD=)
	@sh harness/needs.sh base build boot
	@$(H)/run.py soak

faults: ## fail each allocation, and each copy, of a call once (TESTS= BEDS=)
	@sh harness/needs.sh base build boot
	@$(H)/run.py faults

bench: ## what a change of the layout costs: today's ioctls, the proposals of 2022, a list (BEDS=)
	@sh harness/needs.sh base build boot plots
	@$(H)/bench.py

mutants: ## break the kernel in one way after the other, and see that a test notices (NAMES= PROVE=1)
	@sh harness/needs.sh base build boot bochs
	@$(H)/mutants.py

model: ## verify the model of the publication with Spin, and that bad protocols fail in it
	@sh harness/needs.sh base model
	@$(H)/model.py

check: ## all that needs no VM: patches, mail, style, header, documents, planner, harness
	@sh harness/needs.sh base build check
	@$(H)/check.py $(STEPS)

check-series: ## build each prefix of the series with W=1 C=1 and KVM_WERROR
	@sh harness/needs.sh base build sparse
	@$(H)/prefixes.py

mail: ## the series as mail in build/mail (V=2 for a second version); sends nothing
	@sh harness/needs.sh base
	@$(H)/series.py mail

series: ## compose patches/ and the new files into build/series
	@sh harness/needs.sh base
	@$(H)/series.py compose

split: ## take commits of build/linux back into patches/ and the new files (RANGE=base..series)
	@sh harness/needs.sh base
	@$(H)/series.py split $(RANGE)

base: ## unpack the base into build/linux
	@sh harness/needs.sh base
	@$(H)/base.py

clean: ## remove what was built; build/linux, where you work, stays
	@$(H)/clean.py

.PHONY: help demo test test-all coverage soak faults bench mutants model check check-series mail series split base clean
