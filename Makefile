# make              builds the extension's two scripts from sql/
# make install      installs the extension into the PostgreSQL of PG_CONFIG
# make installcheck runs its regression and isolation tests on the server that PGHOST, PGPORT, ... name
# make test         everything that must pass, on a throwaway cluster
# make sanitize     the tests of the Swift client and managers with the thread, address and leak sanitizers
# make coverage     which lines of these the tests run; fails below 90 %
# make demo         two servers, one database, and messages between them
# make matrix       the SQL tests, updates, pg_dump and pg_upgrade on PostgreSQL 14 to 18
# make bench        measures it beside what else one might use; BENCH_JSON=file, BENCH="--full" for the long runs
# make lint         format, shell scripts, and whether the built files are what their sources make
# make docs         the SQL reference, from the comments in the database
# make pgtle        dist/: a script that registers the extension with pg_tle

name = tmcp_session_manager
EXTENSION = extension/$(name)
release := $(shell sed -n "s/^default_version = '\(.*\)'$$/\1/p" $(EXTENSION).control)
script = $(EXTENSION)--$(release).sql
DATA = $(sort $(script) $(wildcard $(EXTENSION)--*.sql))

results ?= results
REGRESS = $(patsubst Tests/regress/sql/%.sql,%,$(sort $(wildcard Tests/regress/sql/*.sql)))
REGRESS_OPTS = --inputdir=Tests/regress --outputdir=$(results)/regress --load-extension=$(name)
ISOLATION = $(patsubst Tests/isolation/specs/%.spec,%,$(sort $(wildcard Tests/isolation/specs/*.spec)))
ISOLATION_OPTS = --inputdir=Tests/isolation --outputdir=$(results)/isolation --load-extension=$(name)

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
ifneq ($(wildcard $(PGXS)),)
include $(PGXS)
else
all: $(script)
install installcheck: ; @echo "No PGXS; run Tests/cluster/prerequisites to see what to install" >&2; exit 1
endif

all: $(script)
install: $(script)
$(script): extension/build $(EXTENSION).control $(wildcard sql/*.sql)
	extension/build

installcheck: results-folders
results-folders:
	mkdir -p $(results)/regress $(results)/isolation

test: all
	Tests/cluster/prerequisites test
	Tests/cluster/with-cluster -- Tests/cluster/test

sanitize coverage: all
	Tests/cluster/prerequisites test
	Tests/cluster/with-cluster -- Tests/cluster/$@

demo: all
	Tests/cluster/prerequisites demo
	swift build --product tmcp-server
	Tests/cluster/with-cluster -- python3 -B Tests/demo/demo.py

matrix: all
	Tests/cluster/prerequisites matrix
	Tests/cluster/matrix

bench: all
	Tests/bench/bench $(BENCH)

lint:
	Tests/cluster/prerequisites lint
	Tests/cluster/lint

docs: all
	Tests/cluster/with-cluster -- Tests/docs/reference --write

pgtle: all
	mkdir -p dist
	extension/build --pgtle >dist/$(name)--$(release).pgtle.sql

.PHONY: results-folders test sanitize coverage demo matrix bench lint docs pgtle
