#!/usr/bin/env bash
# Open WebUI's image settings, to be tried by hand: starts `aquatint serve` with a key, says what to enter, and sends the requests that
# Open WebUI sends when these settings are saved and a picture is asked for.
#
#     tests/clients/open_webui.sh [target/debug/aquatint]
set -euo pipefail

program=$(realpath "${1:-target/debug/aquatint}")
folder=$(mktemp -d)
export AQUATINT_API_KEY=secret
"$program" serve --port 7861 --output-dir "$folder" >"$folder/address" &
server=$!
trap 'kill $server; wait $server; rm -rf "$folder"' EXIT
until [ -s "$folder/address" ]; do sleep 0.2; done
address=$(head -1 "$folder/address")

ask() { curl --silent --show-error --fail --header "Content-Type: application/json" "$@" | head -c 300; echo; }
echo "== engine Automatic1111, as it saves its settings and draws"
ask --user "api:secret" "${address}sdapi/v1/options"
ask --user "api:secret" "${address}sdapi/v1/sd-models"
ask --user "api:secret" --data '{"sd_model_checkpoint": "embedded"}' "${address}sdapi/v1/options"
ask --user "api:secret" --data '{"prompt": "a fox", "batch_size": 1, "width": 128, "height": 128, "steps": 4}' "${address}sdapi/v1/txt2img"
echo "== engine OpenAI"
ask --header "Authorization: Bearer secret" \
    --data '{"model": "embedded", "prompt": "a fox", "n": 1, "size": "128x128", "response_format": "b64_json"}' \
    "${address}v1/images/generations"

cat <<END

In Open WebUI: Admin Panel, Settings, Images.
  Engine Automatic1111:  base URL ${address}   API auth api:secret   model embedded   size 128x128
  Engine OpenAI:         base URL ${address}v1   key secret   model embedded   size 128x128
Ctrl-C ends the server.
END
wait $server
