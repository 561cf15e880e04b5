#!/usr/bin/env bash
# Clients that other people wrote, against `aquatint serve` with the embedded model: PyPI's `webuiapi`, `openai` and
# `schemathesis`, each in a virtual environment that is made here and thrown away.
#
#     tests/clients/run.sh [target/debug/aquatint] [webuiapi openai schemathesis ...]
set -euo pipefail
cd "$(dirname "$0")"

program=$(realpath "${1:-../../target/debug/aquatint}")
shift || true
clients=("${@:-all}")
[ "${clients[0]}" = all ] && clients=(webuiapi openai schemathesis)

folder=$(mktemp -d)
server=
end() {
    [ -n "$server" ] && kill "$server" 2>/dev/null && wait "$server" 2>/dev/null || true
    rm -rf "$folder"
}
trap end EXIT

environment=${AQUATINT_CLIENTS_VENV:-$folder/venv} # one that is kept saves the installation
[ -x "$environment/bin/python" ] || python3 -m venv "$environment"
"$environment/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt

"$program" serve --port 0 --output-dir "$folder/output" --max-pixels 4096 >"$folder/address" 2>"$folder/log" &
server=$!
for _ in $(seq 300); do
    [ -s "$folder/address" ] && break
    kill -0 "$server" || { cat "$folder/log"; exit 1; }
    sleep 0.1
done
address=$(head -1 "$folder/address")
echo "serving at $address"

for client in "${clients[@]}"; do
    echo "== $client"
    "$environment/bin/python" "client_$client.py" "$address" "$program"
done

kill -TERM "$server"
wait "$server"
server=
echo "the server has ended with 0"
