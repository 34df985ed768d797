# Everything is installed into this folder: .tools (uv, MiniStack), .venv; what runs keeps its state in .turnlog.

PYTHON := $(or $(PYTHON),$(shell command -v python3))
OWN_UV := .tools/uv/bin/uv
ifndef UV
UV := $(or $(shell command -v uv),$(OWN_UV))
endif
UV_FOLDER := $(if $(filter $(OWN_UV),$(UV)),$(CURDIR)/.tools/uv/bin,$(shell dirname "$(UV)"))
UV_VERSION := 0.13.9

export PATH := $(CURDIR)/.venv/bin:$(UV_FOLDER):$(PATH)
export SAM_CLI_TELEMETRY := 0
export __SAM_CLI_APP_DIR := $(CURDIR)/.tools/sam
export UV_SYSTEM_CERTS ?= 1# the certificates that this machine trusts, as pip and git do

VENV := .venv/.installed
PEERS := $(patsubst tests/bench/peers/pins/%.txt,.tools/peers/%/.installed,$(wildcard tests/bench/peers/pins/*.txt))
DYNAMODB_LOCAL := .tools/peers/dynamodb-local/.installed
MINISTACK := .tools/ministack/.installed
COMPILE := --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate $(if $(UPGRADE),--upgrade)

.DEFAULT_GOAL := help
.PHONY: help run token logs sid smoke sam-local sam-local-test test test-clients lint asvs prove fuzz docs pictures bench bench-peers build deploy user-aws token-aws lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: $(VENV) $(MINISTACK)  ## Turnlog on this machine until Ctrl-C; PORT=8787, ANTHROPIC_API_KEY, CLAUDE_BASE_URL, ISSUER=cognito, ORIGIN=http://localhost:5173
	@exec .venv/bin/python -m local.run $(if $(PORT),--port $(PORT))

# USER is set in most shells: only one given to make counts. By the environment, since a name may have quotes in it.
token: export TOKEN_USER = $(if $(filter command line,$(origin USER)),$(value USER),me)
token: export TOKEN_ROLES = $(value ROLES)
token: $(VENV)  ## print a token for the running stack; USER=ada, ROLES='admin admin:content'
	@exec .venv/bin/python -m local.token --user "$$TOKEN_USER" --roles "$$TOKEN_ROLES"

logs: $(VENV)  ## follow what the functions of the running stack write, until Ctrl-C
	@exec .venv/bin/python -m local.logs

sid: export SESSION_ID = $(value SESSION)
sid: $(VENV)  ## print the name of a session in logs and in the audit trail; SESSION=ses_…
	@exec .venv/bin/python -m local.session_name

# By the environment too: a token is a secret, and a URL may have an & in it.
smoke: export SMOKE_URL = $(value URL)
smoke: export SMOKE_TOKEN = $(value TOKEN)
smoke: export SMOKE_ORIGIN = $(value ORIGIN)
smoke: export SMOKE_STACK = $(value STACK)
smoke: export SMOKE_BUCKET = $(value BUCKET)
smoke: $(VENV)  ## ask a deployment what its users ask, and say what it saw; URL=… TOKEN=…, ORIGIN, STACK, BUCKET
	@exec .venv/bin/python -m tests.smoke

sam-local: $(VENV)  ## let `sam local` run the functions in containers against the running stack until Ctrl-C; needs Docker
	@exec .venv/bin/python -m local.sam_local

sam-local-test: $(VENV) $(MINISTACK)  ## each function in a real container, by `sam local`; says so where there is no Docker
	@exec .venv/bin/python -m tests.sam_local

test: $(VENV) $(MINISTACK)  ## lint, types, template checks and every test, three parts at once; about 9 minutes on 2 cores
	@exec .venv/bin/python -m tests

lint: $(VENV)  ## the checks of `make test` without a test: lint, format, types, template
	@exec .venv/bin/python -m tests static

test-clients: $(VENV) $(MINISTACK) .tools/clients/agent/.installed  ## Claude Code and Anthropic's Agent SDK against the stack, on this machine alone; 250 MB
	@exec .venv/bin/python -m pytest --quiet tests/e2e/public_clients.py

asvs: $(VENV)  ## the requirements of OWASP ASVS 5.0 and the tests that prove them
	@exec .venv/bin/python -m tests.asvs

prove: $(VENV) $(MINISTACK)  ## the promises at length: 10,000 random runs, double faults, all mutants, 20 kills a step; hours
	@TURNLOG_PROVE=1 .venv/bin/python -m pytest --quiet tests/promises
	@PYTHONPATH=layers/turnlog/python:. exec .venv/bin/python -m tests.promises prove

fuzz: $(VENV) $(MINISTACK)  ## the API's document against the stack at length, and in Redocly and Prism if npm is there; EXAMPLES=300
	@TURNLOG_FUZZ_EXAMPLES=$(or $(EXAMPLES),300) exec .venv/bin/python -m pytest --quiet -rs tests/e2e/test_schema.py tests/e2e/public_tools.py

docs: $(VENV)  ## renew the tables of docs/api.md and the drawing docs/calls.svg, which tests find stale
	@PYTHONPATH=layers/turnlog/python .venv/bin/python -m local.api_reference
	@exec .venv/bin/python -m local.calls_svg

pictures: $(VENV) $(MINISTACK)  ## draw the README's pictures anew: from template.yaml, and from a run of the stack
	@.venv/bin/python -m local.calls_svg
	@exec .venv/bin/python -m local.terminal_svg

bench: $(VENV)  ## the costs of turns, lists and erasures, cold starts and memory, as tables and .turnlog/bench.json
	@PYTHONPATH=layers/turnlog/python exec .venv/bin/python -m tests.bench

bench-peers: $(VENV) $(DYNAMODB_LOCAL) $(PEERS)  ## costs, limits and lost turns, here and in other stores; needs npm and a JDK
	@exec .venv/bin/python -m tests.bench.peers

build: $(VENV)  ## build for production, arm64 and Python 3.13, into .aws-sam
	@find functions layers/turnlog -name __pycache__ -prune -exec rm -rf {} +  # SAM would ship it
	@sam build

# A variable of the command line reaches the program by the environment, so no shell reads what is in it.
deploy: $(VENV)  ## to AWS, with ANTHROPIC_API_KEY; ISSUER=https://…, STACK=turnlog, PARAMETERS='Name=value …', YES=1
	@find functions layers/turnlog -name __pycache__ -prune -exec rm -rf {} +  # SAM would ship it
	@exec .venv/bin/python -m local.aws.deploy

user-aws token-aws: export TURNLOG_USER = $(if $(filter command line,$(origin USER)),$(value USER))
user-aws: $(VENV)  ## make a user of the deployed user pool, and print the password; USER=ada, ROLES='admin delegate'
	@exec .venv/bin/python -m local.aws.users create

token-aws: $(VENV)  ## print a token of that user for an hour; USER=ada, PASSWORD or the terminal has the password
	@exec .venv/bin/python -m local.aws.users token

lock: $(if $(filter $(OWN_UV),$(UV)),$(OWN_UV))  ## renew the locks from pyproject.toml; UPGRADE=1 takes newer versions where it allows them
	@"$(UV)" pip compile $(COMPILE) pyproject.toml --group dev --output-file requirements.lock
	@"$(UV)" pip compile $(COMPILE) pyproject.toml --constraint requirements.lock --output-file layers/dependencies/requirements.txt
	@"$(UV)" pip compile $(COMPILE) --group pyproject.toml:stream --constraint requirements.lock --output-file layers/stream/requirements.txt
	@"$(UV)" pip compile $(COMPILE) --group pyproject.toml:ministack --output-file local/ministack.lock
	@"$(UV)" pip compile $(COMPILE) tests/e2e/agent/requirements.in --output-file tests/e2e/agent/requirements.txt
	@for each in tests/bench/peers/pins/*.in; do "$(UV)" pip compile --quiet --universal --python-version 3.11 --no-header \
	  --no-annotate $(if $(UPGRADE),--upgrade) $$each --output-file $${each%.in}.txt; done

clean:  ## remove everything that was built, installed or stored
	@"$(PYTHON)" -m local.clean

# --- files that the targets above need -------------------------------------------------------------------------------

$(OWN_UV):
	@echo "installing uv $(UV_VERSION) into .tools/uv"
	@"$(PYTHON)" -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action ignore \
	  --upgrade --target .tools/uv uv==$(UV_VERSION)

$(VENV): requirements.lock $(filter $(OWN_UV),$(UV))
	@echo "installing the packages of requirements.lock into .venv"
	@test -x .venv/bin/python || "$(UV)" venv --quiet --clear --no-python-downloads --python "$(PYTHON)" .venv
	@"$(UV)" pip sync --quiet --python .venv/bin/python --require-hashes requirements.lock
	@touch $@

# In an environment of its own, since it pins botocore; with the same Python, since it runs the functions in it.
$(MINISTACK): local/ministack.lock $(VENV)
	@echo "installing MiniStack into .tools/ministack"
	@"$(UV)" venv --quiet --clear --python .venv/bin/python .tools/ministack
	@"$(UV)" pip sync --quiet --python .tools/ministack/bin/python --require-hashes local/ministack.lock
	@touch $@

# Each in an environment of its own, since their pins contradict each other.
.tools/peers/%/.installed: tests/bench/peers/pins/%.txt $(VENV)
	@echo "installing $* into .tools/peers/$*"
	@"$(UV)" venv --quiet --clear --python .venv/bin/python .tools/peers/$*
	@"$(UV)" pip sync --quiet --python .tools/peers/$*/bin/python $<
	@touch $@

.tools/clients/agent/.installed: tests/e2e/agent/requirements.txt $(VENV)
	@echo "installing Anthropic's Agent SDK, with Claude Code, into .tools/clients/agent"
	@"$(UV)" venv --quiet --clear --python .venv/bin/python .tools/clients/agent
	@"$(UV)" pip sync --quiet --python .tools/clients/agent/bin/python --require-hashes tests/e2e/agent/requirements.txt
	@touch $@

$(DYNAMODB_LOCAL): tests/bench/peers/dynamodb_local.py $(VENV)
	@echo "installing DynamoDB Local into .tools/peers/dynamodb-local"
	@.venv/bin/python -m tests.bench.peers.dynamodb_local
	@touch $@
