#!/usr/bin/env bash
# The same raw work as one offline build, with nothing around it: no record, no sandbox, no orchestration.
# Usage: raw.sh WORKSPACE PROMPTS PYTHON AGENTS CADDY PORT HOST PHOTOGRAPHER SHOTS_ORDER SUITE_SUPERVISOR SUITE_ORDER
set -eu
workspace=$1 prompts=$2 python=$3 agents=$4 caddy=$5 port=$6 host=$7
photographer=$8 shots=$9 runner=${10} suite=${11}
cd "$workspace"
export OFFLINE_AGENT_EVENTS=$workspace/events.jsonl

tmux -S "$workspace/tmux" -f /dev/null new-session -d -s raw -x 220 -y 50 \
  "$python -I -S -c \"import sys, runpy; sys.path.insert(0, '$agents'); runpy.run_module('offline', run_name='__main__')\""
until grep -qs SessionStart events.jsonl; do sleep 0.01; done

ask() { # the phase
  rm -f output/status.txt
  cp "$prompts/$1.txt" prompts/current.txt
  tmux -S "$workspace/tmux" send-keys -t raw -l 'Read and execute the prompt in prompts/current.txt'
  tmux -S "$workspace/tmux" send-keys -t raw Enter
  until grep -qs "PHASE_COMPLETE: $1" output/status.txt; do sleep 0.01; done
}

ask planning
ask coding
cp -r source site
"$caddy" file-server --root site --listen "127.0.0.1:$port" >caddy.log 2>&1 &
server=$!
until curl -fs -o /dev/null -H "Host: $host" "http://127.0.0.1:$port/"; do sleep 0.01; done
"$python" -I -B "$photographer" "$shots"
ask test_generation
(cd deployment/tests && "$python" -I -B "$runner" "$suite") >pytest.log 2>&1 || true
ask verification
kill "$server"
tmux -S "$workspace/tmux" kill-server
grep -E '[0-9]+ (passed|failed)' pytest.log || tail -n 5 pytest.log
