#!/usr/bin/env bash
# Makes an image under the name of one that cannot be pulled, out of Debian's packages: for machines that reach no
# registry. docker/check.sh calls it; needs root and debootstrap.
#
#     docker/standin.sh python:3.11.14-slim-bookworm
#     docker/standin.sh postgres:15.14-bookworm
#
# What is meant to be the same: Debian 12, Python 3.11 with venv, PostgreSQL 15 and the variables that it is set up by.
# Environment: DOCKER (docker), DEBIAN_MIRROR (http://deb.debian.org/debian), BUILD_NETWORK (default).
set -euo pipefail
docker=${DOCKER:-docker}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
network=${BUILD_NETWORK:-default}
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT

python() {
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,python3-dev \
        bookworm "$here/root" "$mirror" > "$here/log" 2>&1 || { tail -20 "$here/log" >&2; return 1; }
    tar -C "$here/root" -c . | "$docker" import --change 'CMD ["python3"]' - "$1" > "$here/log"
}

postgres() {
    cat > "$here/set-up-and-run" <<'SCRIPT'
#!/bin/sh
# As docker-entrypoint.sh of the official image: a first start makes the database, every start serves it.
set -e
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    umask 077
    printf '%s\n' "$POSTGRES_PASSWORD" > /tmp/password
    initdb --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    pg_ctl --wait --options="-c listen_addresses=''" start
    createdb --username="$POSTGRES_USER" "$POSTGRES_DB" || true
    pg_ctl --wait stop
fi
exec postgres -c listen_addresses='*'
SCRIPT
    cat > "$here/Dockerfile" <<'FILE'
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends postgresql-15 && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner postgres --group postgres --mode 700 /var/lib/postgresql/data \
    && chmod 3777 /run/postgresql
ENV PATH=/usr/lib/postgresql/15/bin:$PATH PGDATA=/var/lib/postgresql/data
COPY --chmod=755 set-up-and-run /usr/local/bin/
STOPSIGNAL SIGINT
CMD ["set-up-and-run"]
FILE
    DOCKER_BUILDKIT=1 "$docker" build --quiet --network "$network" --build-arg BASE="$base" --tag "$1" "$here" > "$here/log"
}

base=$(sed -n 's/^ARG BASE=//p' "$(dirname "$0")/Dockerfile")
case $1 in
    python:*) python "$1" ;;
    postgres:*) postgres "$1" ;;
    *) echo "standin.sh: $1: only python and postgres are known" >&2; exit 2 ;;
esac
