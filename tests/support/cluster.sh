#!/bin/sh
# Runs one private PostgreSQL cluster for as long as somebody needs it, then removes it.
#
#   cluster.sh BIN DIR PORT pid PID     until the process PID is gone
#   cluster.sh BIN DIR PORT stdin       until standard input ends, that is until the starter closed it or died
#
# Whoever starts it waits for DIR/ready, or finds the reason in DIR/failed. The cluster never outlives its owner, however
# the owner ends, because this process is not part of it. RIVET_CLUSTER_SETTINGS holds further lines for postgresql.conf.
set -eu
bin=$1 dir=$2 port=$3 until=$4

# A lock or a pipe that the owner holds must not stay open in a server.
for fd in 3 4 5 6 7 8 9; do eval "exec $fd>&-"; done

# PostgreSQL refuses to run as root.
if [ "$(id -u)" = 0 ]; then
    account=nobody
    if id postgres >/dev/null 2>&1; then account=postgres; fi
    chown "$account" "$dir"
    if command -v setpriv >/dev/null; then
        as_server() { setpriv --reuid="$(id -u $account)" --regid="$(id -g $account)" --clear-groups "$@"; }
    else
        as_server() { runuser -u "$account" -- "$@"; }
    fi
else
    as_server() { "$@"; }
fi
chmod 0755 "$dir"
cd "$dir"

give_up() {
    { echo "$1"; tail -n 40 "$dir/log" 2>/dev/null || true; } >"$dir/failed.new"
    mv "$dir/failed.new" "$dir/failed"
    exit 1
}

as_server "$bin/initdb" --no-sync -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 >"$dir/initdb.log" 2>&1 ||
    as_server "$bin/initdb" --no-sync -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C >>"$dir/initdb.log" 2>&1 || {
    cat "$dir/initdb.log" >>"$dir/log" 2>/dev/null || true
    give_up "initdb failed"
}

# The defaults of this server are unusual on purpose: an exporter that does not pin its session's settings shows.
cat >>"$dir/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $port
unix_socket_directories = '$dir'
fsync = off
full_page_writes = off
synchronous_commit = off
shared_buffers = 64MB
max_connections = 120
timezone = 'Asia/Kathmandu'
datestyle = 'German, DMY'
intervalstyle = 'sql_standard'
bytea_output = 'escape'
extra_float_digits = 0
standard_conforming_strings = off
escape_string_warning = off
log_line_prefix = '%m [%p] %q%a %d '
${RIVET_CLUSTER_SETTINGS:-}
CONF
cat >"$dir/data/pg_hba.conf" <<CONF
local all all trust
host all rivet_password 127.0.0.1/32 scram-sha-256
host all rivet_refused  127.0.0.1/32 reject
host all all 127.0.0.1/32 trust
CONF

as_server "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 60 start >/dev/null 2>&1 </dev/null || give_up "pg_ctl start failed"
: >"$dir/ready"

case $until in
pid) while kill -0 "$5" 2>/dev/null; do sleep 1; done ;;
stdin) cat >/dev/null ;;
esac

# By the data directory, which names the one server that is ours.
as_server "$bin/pg_ctl" -D "$dir/data" -w -m immediate stop >/dev/null 2>&1 || true
cd /
rm -rf "$dir"
