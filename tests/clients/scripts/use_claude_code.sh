#!/usr/bin/env bash
# Claude Code: questions and tasks without a terminal.

# --- setup
export ANTHROPIC_BASE_URL=$MODELPILOT_API_URL
export ANTHROPIC_AUTH_TOKEN=$MODELPILOT_API_KEY
export CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1 # no telemetry, no updates
# --- end of setup

. "$(dirname "$0")/features.sh"

ask() { # model, prompt, more options
  claude -p "$2" --model "$1" --no-session-persistence "${@:3}" < /dev/null
}

chat() { ask "$1" "$SUM" | has 84; }

stream() { ask "$1" "$SUM" --output-format stream-json --include-partial-messages --verbose | has '"type":"text_delta"'; }

# Two files are read at once, by the answer of one provider, and another provider goes on.
tools() {
  local at
  at=$(mktemp -d)
  echo one > "$at/a.txt"
  echo two > "$at/b.txt"
  ask "$1" "Read both files, note $RANDOM$RANDOM
call Read {\"file_path\": \"$at/a.txt\"} & call Read {\"file_path\": \"$at/b.txt\"}" \
    --allowedTools Read --add-dir "$at" --output-format stream-json --verbose > "$at/log" || { tail -c 600 "$at/log"; return 1; }
  has one < "$at/log" && has two < "$at/log"
}

# A task of several calls, each seen on disk.
task() {
  local at
  at=$(mktemp -d)
  echo "the secret is 4217" > "$at/notes.txt"
  (
    cd "$at" && ask "$1" "Copy the notes, then change the copy.
call Read {\"file_path\": \"$at/notes.txt\"}
call Write {\"file_path\": \"$at/copy.txt\", \"content\": \"the secret is 4217\\n\"}
call Edit {\"file_path\": \"$at/copy.txt\", \"old_string\": \"4217\", \"new_string\": \"7124\"}
call Bash {\"command\": \"wc -c < copy.txt > size.txt\", \"description\": \"Count\"}" --allowedTools Read Write Edit Bash
  ) && has "the secret is 7124" < "$at/copy.txt" && has 19 < "$at/size.txt"
}

image() {
  local at
  at=$(mktemp -d)
  base64 -d <<< "$PIXEL" > "$at/pixel.png"
  ask "$1" "What is in the picture?
call Read {\"file_path\": \"$at/pixel.png\"}" --allowedTools Read --add-dir "$at" --output-format json | has '"is_error":false'
}

structured() {
  ask "$1" "A city, please" --output-format json \
    --json-schema '{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}' | has '"structured_output":{"city":'
}

usage() { ask "$1" "$SUM" --output-format json | has '"output_tokens":'; }

refused() { # status, model
  ! ask "$2" "$SUM" --output-format json > "$HOME/said" 2>&1 && has "\"api_error_status\":$1" < "$HOME/said"
}

unknown_model() { refused 404 "$1"; }

wrong_key() { ANTHROPIC_AUTH_TOKEN=$WRONG_KEY refused 401 "$1"; }

cancel() {
  interrupt_at text_delta 0 claude -p "$SUM" --model "$1" --no-session-persistence --output-format stream-json \
    --include-partial-messages --verbose
}

run chat stream tools structured image "embeddings=has none" unknown_model wrong_key usage cancel task
