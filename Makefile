# opserve: from an empty folder to a served prediction. `make help` lists what can be typed.
#
# Each step is skipped when it is up to date. Settings (MODEL=digits) reach the recipes through the environment, never as
# text of a shell command.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
# Two recipes must not install into one environment at the same time; the compiler runs in parallel by itself.
.NOTPARALLEL:

# -- settings, from the command line only -----------------------------------------------------------------------------

SETTINGS := PYTHON CORES \
  CUDA CUDA_ARCHS \
  MODEL ARCHIVE VERSION PROFILE RUNTIME SIGN_KEY ARTIFACT OPS NAME KIND CONFIG SAMPLE \
  MODEL_API QUIET WORKERS REQUEST GRPC FOLLOW \
  CONNECTIONS SECONDS RATE \
  TESTS CASES ATTACK QUICK OUTPUT

given := $(foreach v,$(.VARIABLES),$(if $(filter command,$(origin $v)),$(v)))
unknown := $(filter-out $(SETTINGS) -%,$(given))
$(if $(unknown),$(error no such setting: $(unknown); there are: $(SETTINGS)))

# A value is taken literally: $(shell …) in it is text. An unrelated NAME or CONFIG of the surrounding shell is ignored.
$(foreach v,$(SETTINGS),$(if $(filter command,$(origin $v)),$(eval override $v := $$(value $v)),$(eval $v :=)))
export $(SETTINGS)
# The bash of a recipe counts its own seconds in a variable SECONDS.
export DURATION := $(SECONDS)

goals := $(or $(MAKECMDGOALS),help)
# $(call need,TARGET,SETTING,EXAMPLE)
need = $(if $(filter $1,$(goals)),$(if $(strip $($2)),,$(error make $1 needs $2, for example: make $1 $3)))
$(call need,scale,MODEL,MODEL=digits WORKERS=2)
$(call need,scale,WORKERS,MODEL=digits WORKERS=2)
$(call need,deploy,MODEL,MODEL=digits VERSION=2.0)
$(call need,deploy,VERSION,MODEL=digits VERSION=2.0)
$(call need,remove,MODEL,MODEL=digits VERSION=2.0)
$(call need,predict,MODEL,MODEL=digits)
$(call need,loadtest,MODEL,MODEL=digits CONNECTIONS=32)
$(call need,verify,ARCHIVE,ARCHIVE=model_store/digits.mar)
$(call need,new-model,NAME,NAME=mine)
$(call need,new-op,NAME,NAME=row_norm KIND=rowwise)

# archive/digits/model-config.yaml is the model digits, archive/digits/model-config.onnx.yaml the model digits_onnx.
configs := $(wildcard archive/*/model-config.yaml archive/*/model-config.*.yaml)
name-of = $(subst /model-config,,$(subst /model-config.,_,$(1:archive/%.yaml=%)))
$(foreach config,$(configs),$(eval config-$(call name-of,$(config)) := $(config)))
models := $(sort $(foreach config,$(configs),$(call name-of,$(config))))
ifneq ($(filter train model archive serve,$(goals)),)
  ifneq ($(MODEL),)
    $(if $(filter-out 1,$(words $(MODEL)))$(filter-out $(models),$(MODEL)),$(error no model '$(MODEL)' in archive/; there are: $(models)))
  endif
endif
chosen := $(or $(MODEL),$(models))

$(if $(filter-out native python,$(RUNTIME))$(word 2,$(RUNTIME)),$(error RUNTIME is native or python, not '$(RUNTIME)'))

ifneq ($(filter archive,$(goals)),)
  external := $(strip $(ARTIFACT)$(OPS)$(NAME)$(CONFIG)$(SAMPLE))
  ifneq ($(external),)
    missing := $(strip $(foreach v,ARTIFACT NAME CONFIG,$(if $(strip $($v)),,$v)))
    $(if $(missing),$(error your own model needs $(missing) too: make archive ARTIFACT=my.pt OPS=my.so NAME=mine CONFIG=my.yaml))
    $(if $(MODEL),$(error MODEL is one of archive/*, ARTIFACT is your own model: give one of them))
  endif
endif

# -- files ------------------------------------------------------------------------------------------------------------

python := .venv/bin/python
environment := .venv/opserve.json
library := build/lib/libopserve_torch.so
extensions := build/.extensions
link := build/.opserve_ops
worker := build/.worker
sources := $(shell find extensions -type f -not -path '*/__pycache__/*' -not -path '*/opserve_ops/*' 2>/dev/null)
handlers := $(shell find handlers -type f -not -path '*/__pycache__/*' 2>/dev/null)
packer := $(wildcard archive/*.py archive/packer/*.py archive/process/*.py)
.PRECIOUS: build/models/%/.built

# -- commands ---------------------------------------------------------------------------------------------------------

system-python = "$${PYTHON:-python3}"
any-python = "$$(if [[ -x $(python) ]]; then echo $(python); else echo $(system-python); fi)"
need-venv = if [[ ! -x $(python) ]]; then echo 'error: there is no .venv; `make env` makes it' >&2; exit 1; fi
venv-python = $(need-venv); $(python)
cmake := PATH="$$PWD/.venv/bin:$$PATH" .venv/bin/cmake
configure = $(cmake) -S extensions -B build/cmake -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DPython_EXECUTABLE="$$PWD/$(python)" -DOPSERVE_OUTPUT_DIR="$$PWD/build" -DOPSERVE_BUILD_NATIVE=ON \
  -DOPSERVE_BUILD_AUTOGRAD=ON -DOPSERVE_BUILD_WORKER=AUTO \
  -DOPSERVE_CUDA="$${CUDA:-auto}" -DOPSERVE_CUDA_ARCHS="$$CUDA_ARCHS"
pack = $(python) -m archive.pack $${VERSION:+--version "$$VERSION"} $${PROFILE:+--profile "$$PROFILE"} \
  $${RUNTIME:+--runtime "$$RUNTIME"} $${SIGN_KEY:+--sign-key "$$SIGN_KEY"}
cores = $(if $(CORES),OPSERVE_CORES="$$CORES")
start = $(cores) $(python) -m scripts.start $(if $(MODEL_API),--model-api) $(if $(QUIET),--quiet)
# Much of the suite waits for servers: two processes, which get whole files, the slow ones first.
in-two = -n 2 --dist loadfile --no-loadscope-reorder
cpp-files = find extensions benchmarks -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh' \) \
  -print0 2>/dev/null | xargs -0 -r

# -- targets ----------------------------------------------------------------------------------------------------------

.PHONY: help doctor env env-dev clean distclean FORCE
.PHONY: ext train model archive verify new-model new-op
.PHONY: serve start stop status logs predict scale deploy remove loadtest
.PHONY: test attack fuzz sanitize-cuda bench-ops bench-serving lint format

help: ## list the targets
	@echo 'usage: make TARGET [SETTING=value ...]'
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1\t\2/p' Makefile | expand -t 16

env: $(environment) ## make .venv with the pinned requirements (PYTHON=python3.12 chooses another Python)

# Always checked, but written only when something was installed: only then is what depends on it rebuilt.
$(environment): FORCE
	@$(system-python) -m scripts.environment

env-dev: FORCE ## make .venv with what tests and lint need, too
	@$(system-python) -m scripts.environment --dev

ext: $(extensions) $(link) $(worker) ## build all libraries and C++ programs, and put the native worker in its place (CUDA=auto, on or off; CUDA_ARCHS='80 90')

# Archives need these; compiling for CUDA as well takes minutes, and perhaps nothing here uses it.
$(library): $(sources) $(environment)
	@$(python) -m scripts.doctor --only compiler
	@$(configure)
	@$(cmake) --build build/cmake --target archive_libraries
	@touch $@

# A setting on the command line may differ from the last one.
$(extensions): $(library) $(if $(CUDA)$(CUDA_ARCHS),FORCE)
	@$(if $(CUDA)$(CUDA_ARCHS),$(configure))
	@$(cmake) --build build/cmake
	@touch $@

# Makes `import opserve_ops` work in .venv, without installing a copy of it.
$(link): $(environment)
	@site=$$($(python) -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	  echo "$$PWD/extensions" > "$$site/opserve.pth"
	@mkdir -p $(@D) && touch $@

# The worker without Python, in the environment, where TorchServe looks for it. As long as it is not there, something that
# it needs may have been installed. The stamp is new only when the worker is, or is there no longer.
$(worker): $(library) $(if $(wildcard .venv/lib/python*/site-packages/ts/cpp/bin/model_worker_socket),,FORCE)
	@if $(python) -m scripts.worker --possible; then \
	  if [[ -e build/cmake/no-worker.txt ]]; then $(configure) > /dev/null; fi; \
	  $(cmake) --build build/cmake --target native_worker; fi
	@$(python) -m scripts.worker --stamp $@

train: $(chosen:%=build/models/%/.built) ## train or export the models of archive/ (MODEL=digits: that one)

model: train ## the same as train

.SECONDEXPANSION:
# archive/digits/build.py builds digits, archive/digits/build_onnx.py builds digits_onnx.
module = $(subst /,.,$(subst model-config,build,$(subst model-config.,build_,$(config-$1:%.yaml=%))))
build/models/%/.built: $$(wildcard $$(dir $$(config-$$*))*.py) archive/building/export.py | $(library) $(link)
	@$(python) -m "$(call module,$*)" --output "build/models/$*"
	@touch $@

# A variant exports the weights of the model whose folder it shares.
$(foreach config,$(filter-out %/model-config.yaml,$(configs)),$(eval \
  build/models/$(call name-of,$(config))/.built: build/models/$(notdir $(patsubst %/,%,$(dir $(config))))/.built))

ifneq ($(external),)
archive: $(library) $(link) $(worker)
	@$(pack) --artifact "$$ARTIFACT" --name "$$NAME" --config "$$CONFIG" $${OPS:+--ops "$$OPS"} $${SAMPLE:+--sample "$$SAMPLE"}
else
archive: $(chosen:%=model_store/%.mar) ## pack model_store/*.mar (MODEL=digits; ARTIFACT= OPS= NAME= CONFIG= [SAMPLE=]: your own; RUNTIME=native|python PROFILE=latency|throughput VERSION=2.0 SIGN_KEY=key.pem)
	@$(if $(filter-out $(packed),$^),$(python) -m archive.describe $(filter-out $(packed),$^))
endif

model_store/%.mar: $(worker) build/models/%/.built $$(wildcard $$(dir $$(config-$$*))*.yaml) $(handlers) $(packer) $(library) $(if $(VERSION)$(PROFILE)$(RUNTIME)$(SIGN_KEY),FORCE) | $(link)
	@$(pack) "$*"
	$(eval packed += $@)

new-model: $(environment) ## write the folder of a new model, archive/NAME, that can be packed as it is: NAME=mine
	@$(python) -m scripts.new_model -- "$$NAME"

new-op: env-dev ## write the files of a new operator, which compile and pass their tests: NAME=row_norm (KIND=elementwise or rowwise)
	@$(python) -m scripts.new_op $${KIND:+--kind="$$KIND"} -- "$$NAME"

verify: $(environment) ## check an archive without a server: ARCHIVE=model_store/digits.mar
	@$(python) -m archive.verify -- "$$ARCHIVE"

serve: archive ## do everything: environment, operators, models, archives, server, a first prediction
	@$(start) --predict

start: $(environment) ## start the server with the archives in model_store/ (MODEL_API=1: models can be deployed; QUIET=1: no access log and metrics; CORES=4: use this many cores)
	@$(start)

stop: ## stop the server and remove what it leaves behind
	@$(venv-python) -m scripts.stop

status: ## show the server, its models and their workers
	@$(venv-python) -m scripts.status

predict: ## send a model's sample: MODEL=digits (REQUEST=file.json: your own request; GRPC=1: over gRPC)
	@$(venv-python) -m scripts.predict $${REQUEST:+--request "$$REQUEST"} $${GRPC:+--grpc} -- "$$MODEL"

scale: ## change the number of workers: MODEL=digits WORKERS=4
	@$(venv-python) -m scripts.scale -- "$$MODEL" "$$WORKERS"

deploy: ## replace a served model by another version without losing a request: MODEL=digits VERSION=2.0
	@$(venv-python) -m scripts.deploy -- "$$MODEL" "$$VERSION"

remove: ## remove a model, or a version of it, from the running server: MODEL=digits [VERSION=2.0]
	@$(venv-python) -m scripts.remove -- "$$MODEL" $${VERSION:+"$$VERSION"}

logs: ## show the last lines of the server's logs (FOLLOW=1: and new ones)
	@$(venv-python) -m scripts.logs $(if $(FOLLOW),--follow)

doctor: ## check every prerequisite; each failure prints its fix (CORES=4: plan for this many)
	@$(cores) $(any-python) -m scripts.doctor

test: env-dev ext archive ## run the tests (TESTS=tests/scripts: only these)
	@$(python) -m pytest $(if $(TESTS),"$$TESTS",$(in-two))

attack: env-dev train ## attack a server with hostile requests among harmless ones (ATTACK='gpu-words mutations': only these; RUNTIME=python; SECONDS=45: each)
	@read -ra names <<< "$$ATTACK"; \
	  $(python) -m tests.attack $${names[@]:+--only "$${names[@]}"} $${RUNTIME:+--runtime "$$RUNTIME"} --seconds "$${DURATION:-45}"

lint: env-dev $(link) ## check style and types: ruff, mypy, clang-format
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .
	@$(python) -m mypy
	@$(cpp-files) .venv/bin/clang-format --dry-run -Werror

format: env-dev ## format Python and C++, and fix what can be fixed
	@$(python) -m ruff check --fix .
	@$(python) -m ruff format .
	@$(cpp-files) .venv/bin/clang-format -i

fuzz: $(environment) ## fuzz the kernels and the native worker under ASan and UBSan, check that mutants are caught, and compare both workers' codecs (CASES=300000: of each)
	@$(cmake) -S extensions -B build/cmake-fuzz -G Ninja -DPython_EXECUTABLE="$$PWD/$(python)" -DOPSERVE_BUILD_TORCH=OFF \
	  -DOPSERVE_BUILD_ONNXRUNTIME=OFF -DOPSERVE_CUDA=OFF -DOPSERVE_BUILD_WORKER=AUTO -DOPSERVE_BUILD_TESTS=ON \
	  -DOPSERVE_SANITIZE=ON -DOPSERVE_OUTPUT_DIR="$$PWD/build/fuzz"
	@$(cmake) --build build/cmake-fuzz
	@build/fuzz/bin/fuzz_kernels --cases "$${CASES:-300000}"
	@if [[ -x build/fuzz/bin/fuzz_native ]]; then build/fuzz/bin/fuzz_native --cases "$${CASES:-1000000}"; fi
	@.venv/bin/ctest --test-dir build/cmake-fuzz -R 'mutant|kernels' --output-on-failure
	@if [[ -x build/bin/opserve_decode ]]; then $(python) -m tests.native $${CASES:+--cases "$$CASES"}; \
	  else echo 'without the native worker, which `make ext` builds, there is nothing to compare with Python'; fi

sanitize-cuda: ## run the CUDA kernels on this machine's GPU under compute-sanitizer (after make env-dev ext)
	@$(need-venv); tests/extensions/sanitize_cuda.sh "$$PWD/$(python)"

bench-ops: env-dev ext build/models/digits/.built ## measure the operators against what people would use instead (QUICK=1: fewer shapes; OUTPUT=benchmarks/results: publish them)
	@$(python) -m benchmarks.ops $(if $(QUICK),--quick) --output "$${OUTPUT:-build/bench-ops}"

bench-serving: env-dev archive ## measure the server against others, installed apart (QUICK=1: in 3 minutes; OUTPUT=benchmarks/results: publish them)
	@$(python) -m benchmarks.serving $(if $(QUICK),--quick) --output "$${OUTPUT:-build/bench-serving}"

loadtest: env-dev ## load the running server with a model's sample: MODEL=digits (CONNECTIONS=8 SECONDS=10; RATE=200: this many per second, answered or not)
	@$(python) -m scripts.loadtest --connections "$$CONNECTIONS" --seconds "$$DURATION" --rate "$$RATE" -- "$$MODEL"

clean: ## remove what was built, but not the environment and the archives that only you can make again
	@$(any-python) -m scripts.clean

distclean: clean ## remove the environment and the logs, too
	@if [[ -x $(python) ]]; then $(python) -m scripts.stop; fi
	@rm -rf .venv logs
