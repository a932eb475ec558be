# Everything runs in the environment that `make env` builds; `make env` by itself does nothing when it is up to date.
# PYTHON=... names the interpreter to build it on.

ARGS ?=

# PYTHONPATH of another environment must not reach ours; a sourced ROS distribution needs it.
ifndef ROS_DISTRO
unexport PYTHONPATH
endif
unexport PYTHONHOME

BUILD_ENV = python3 .ci/environment $(if $(PYTHON),--python "$(PYTHON)")

.PHONY: help env demo test test-optional lint bench clean distclean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(firstword $(MAKEFILE_LIST))

env:  ## build the environment: .venv, and the messages in install/
	@$(BUILD_ENV)

demo: env  ## images of several cameras through a real node, over DDS (ARGS="--images DIR" for your own)
	@.venv/bin/da3-ros demo $(ARGS)

test: env-test  ## the tests, in two processes (ARGS="test/ingest -k sync" for some of them, in one)
	@.venv/bin/python -m pytest $(or $(ARGS),--numprocesses 2 --dist loadfile)

test-optional:  ## the tests that need Open3D, Rerun, scikit-image or TensorBoard (0.7 GB to download)
	@$(BUILD_ENV) --test --optional
	@.venv/bin/python -m pytest -m optional $(ARGS)

lint: env-test  ## ruff and mypy
	@.venv/bin/ruff check .
	@.venv/bin/mypy
	@.venv/bin/mypy .ci/environment

bench: env  ## stage times of the network and the node on this machine
	@.venv/bin/da3-ros bench $(ARGS)

.PHONY: env-test
env-test:
	@$(BUILD_ENV) --test

clean:  ## remove what was built, but not .venv
	rm -rf build install log .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find da3_ros test launch .ci -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## remove .venv too
	rm -rf .venv
