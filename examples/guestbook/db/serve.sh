#!/bin/sh
# PostgreSQL of whatever version the base has, over a data directory of its own that nobody but this environment reaches.
set -eu
PATH="$(echo /usr/lib/postgresql/*/bin):$PATH"
data=/var/lib/postgresql/guestbook
if [ ! -e "$data/ready" ]; then
    rm -rf "$data"
    initdb --pgdata="$data" --auth=trust --encoding=UTF8 --no-sync >/dev/null
    pg_ctl --pgdata="$data" --options="-c listen_addresses= -k $data" --wait --silent start
    createuser --host="$data" --username=postgres guestbook
    createdb --host="$data" --username=postgres --owner=guestbook guestbook
    pg_ctl --pgdata="$data" --wait --silent --mode=fast stop
    touch "$data/ready"
fi
exec postgres -D "$data" -c listen_addresses=127.0.0.1 -c unix_socket_directories="$data"
