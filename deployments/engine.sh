#!/usr/bin/env bash
# Runs the engine of one flow run: the `command` of every deployment in prefect.yaml.
#
# The engine lives in a session of its own. A worker that stops kills this wrapper with SIGKILL, which cannot be
# passed on: the engine goes on and finishes its run. A cancellation reaches this wrapper as SIGTERM and is passed on.
# The record under run/engines says which engine is which worker's; the dispatcher looks after those that lost theirs.
set -u
umask 077
home=${TMUX_BUILDER_HOME:?the worker was started without it; start it with: make up}
run=${PREFECT__FLOW_RUN_ID:?only a Prefect worker starts this; try: prefect deployment run full-build/on-demand}
worker=$PPID
[ "$worker" -gt 1 ] || worker=$$  # it died in this very moment
mkdir -p "$home/run/engines" "$home/logs/engines"

python -S -E -m deployments.launch --session --watcher "$worker" --record "$home/run/engines/$run" -- python -m prefect.engine \
  </dev/null >>"$home/logs/engines/$run.log" 2>&1 &
engine=$!
trap 'kill -TERM "$engine" 2>/dev/null' TERM INT

# A signal ends `wait` early; the engine's own exit code is remembered by the shell until it is asked for.
while wait "$engine"; kill -0 "$engine" 2>/dev/null; do :; done
wait "$engine"
code=$?
# Without its worker, nobody has heard of the end: the dispatcher finds the record, and says what became of the run.
kill -0 "$worker" 2>/dev/null && rm -f "$home/run/engines/$run"
exit "$code"
